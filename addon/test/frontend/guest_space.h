// The guest-physical memory of the test front-end: memfds, mapped.
//
// One address range of this process stands for the whole guest-physical
// space: guest address g is at base() + g, so buffers that straddle two
// adjacent regions are contiguous here, and the "user addresses" of
// vhost-user are that same sum, as in QEMU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/mmap.h"
#include "sys/fault_guard.h"

namespace nydus::frontend {

class GuestSpace {
 public:
  // `span`: guest addresses are below it. Reserves address space only.
  explicit GuestSpace(uint64_t span);
  ~GuestSpace();
  GuestSpace(const GuestSpace&) = delete;
  GuestSpace& operator=(const GuestSpace&) = delete;

  // A memfd of `size` bytes; returns its index.
  size_t addFile(uint64_t size);
  [[nodiscard]] int fileFd(size_t file) const { return files_.at(file).get(); }

  // Maps part of a file; the allocator may use it from here on. Throws
  // std::invalid_argument when it overlaps a region or leaves the space.
  void addRegion(size_t file, uint64_t gpa, uint64_t size, uint64_t offset);

  [[nodiscard]] std::byte* base() const noexcept { return space_.data(); }
  // The caller has checked covers() or got the address from allocate().
  [[nodiscard]] std::byte* host(uint64_t gpa) const noexcept {
    return space_.data() + gpa;
  }
  // All of [gpa, gpa + length) is memory.
  [[nodiscard]] bool covers(uint64_t gpa, uint64_t length) const;

  // Zeroed memory, first fit; nothing when there is no room. `alignment` is a
  // power of two. Thread-safe.
  [[nodiscard]] std::optional<uint64_t> allocate(uint64_t length,
                                                 uint64_t alignment);
  void release(uint64_t gpa, uint64_t length);

 private:
  Mmap space_;
  std::vector<UniqueFd> files_;
  std::vector<FaultGuard::Id> guards_;

  mutable std::mutex lock_;
  // Start to length; neighbours are merged.
  std::map<uint64_t, uint64_t> regions_;
  std::map<uint64_t, uint64_t> free_;
};

}  // namespace nydus::frontend
