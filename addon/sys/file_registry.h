// The files that replies are made of, by a number that JavaScript can hold.
//
// One registry a process: files come and go on any thread, requests look them
// up on every lane. Looking one up takes no lock: a slot's state word holds
// the id that lives in it and how many users it has. An id is never used
// again, so a stale one finds nothing instead of another file.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/fd.h"
#include "sys/mapping.h"
#include "sys/resident_windows.h"

namespace nydus {

class FileRegistry;

// A registered file, and what its slot says about it.
class RegisteredFile {
 private:
  friend class FileRef;
  friend class FileRegistry;

  struct Content {
    UniqueFd fd;
    Mapping mapping;
    Windows windows;
  };

  // Bits 63-32: the id that lives here; bit 31: it has not been released;
  // bits 30-0: users, the registry itself being one until it is released.
  std::atomic<uint64_t> state_{0};
  uint32_t generation_ = 0;
  std::optional<Content> content_;
};

// One user of a registered file: it lives until its last user drops it.
class FileRef {
 public:
  // Refers to nothing.
  FileRef() noexcept = default;
  FileRef(FileRef&& other) noexcept { swap(other); }
  FileRef& operator=(FileRef&& other) noexcept {
    swap(other);
    return *this;
  }
  ~FileRef();

  [[nodiscard]] explicit operator bool() const noexcept {
    return file_ != nullptr;
  }
  [[nodiscard]] int fd() const noexcept { return file_->content_->fd.get(); }

  // The bytes [offset, offset + length), to be read at once and not kept. Null
  // when they are not all mapped, or when mapping them would take more memory
  // than allowed: use pread on fd(). What is read here may fault: see
  // FaultGuard::threadFaults().
  [[nodiscard]] const std::byte* data(uint64_t offset,
                                      uint64_t length) const noexcept;

 private:
  friend class FileRegistry;
  FileRef(FileRegistry* registry, RegisteredFile* file) noexcept
      : registry_(registry), file_(file) {}
  void swap(FileRef& other) noexcept {
    std::swap(registry_, other.registry_);
    std::swap(file_, other.file_);
  }

  FileRegistry* registry_ = nullptr;
  RegisteredFile* file_ = nullptr;
};

class FileRegistry {
 public:
  static constexpr size_t kResidentBytes = size_t{40} << 20;

  // Pages of all files together that are mapped at a time, at most.
  explicit FileRegistry(size_t residentBytes = kResidentBytes)
      : resident_(residentBytes) {}
  // All refs must be gone.
  ~FileRegistry() = default;

  // The registry of the process; never destroyed.
  static FileRegistry& process();

  // Dups `fd` and maps its first `length` bytes. Ids start at 1 and stay
  // below 2^32 - 1. Throws SystemError; ENFILE when 65,535 files are
  // registered.
  uint32_t add(int fd, uint64_t length);

  // No new users from here on; those there are keep the file. False when
  // `id` is not registered.
  bool release(uint32_t id) noexcept;

  [[nodiscard]] LargeReads& largeReads() noexcept {
    return resident_.largeReads();
  }

  // Empty when `id` is not registered.
  [[nodiscard]] FileRef acquire(uint32_t id) noexcept;

 private:
  friend class FileRef;

  // An id is generation × kSlots + slot. Slot 0 is never used, so no id is 0;
  // the last generation is not used, so none is 2^32 - 1.
  static constexpr uint32_t kSlots = 65536;
  static constexpr uint32_t kGenerations = 65535;
  static constexpr uint32_t kChunkSize = 256;
  static constexpr uint64_t kLive = uint64_t{1} << 31;
  static constexpr uint64_t kUsers = kLive - 1;
  using Chunk = std::array<RegisteredFile, kChunkSize>;

  RegisteredFile* fileAt(uint32_t slot) noexcept;
  void drop(RegisteredFile* file) noexcept;

  ResidentBudget resident_;
  // Chunks are made when their first slot is needed and stay.
  std::array<std::atomic<Chunk*>, kSlots / kChunkSize> chunks_{};

  // Guarded by lock_; taken by add and by the last user of a released file.
  std::mutex lock_;
  std::array<std::unique_ptr<Chunk>, kSlots / kChunkSize> chunkOwners_;
  uint32_t slotsUsed_ = 1;
  // First in, first out: a slot rests as long as possible.
  std::deque<uint32_t> freeSlots_;
};

}  // namespace nydus
