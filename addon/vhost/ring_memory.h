// The three areas of a split virtqueue (virtio 1.2 §2.7) in guest memory, and
// nothing but single, ordered accesses to them.
//
// The guest writes here at any time. Every value is read once; no state of
// ours is ever read back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/bytes.h"
#include "base/result.h"
#include "mem/dirty_log.h"
#include "mem/guest_memory.h"

namespace nydus {

struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(Descriptor) == 16);

constexpr uint16_t kDescriptorNext = 1;
constexpr uint16_t kDescriptorWrite = 2;
constexpr uint16_t kDescriptorIndirect = 4;

constexpr uint16_t kAvailNoInterrupt = 1;
constexpr uint16_t kUsedNoNotify = 1;

// Copies bytes that somebody else may be writing. The barrier keeps the
// compiler from reading the source a second time instead of the copy.
inline void copyOnce(void* to, const std::byte* from, size_t size) noexcept {
  std::memcpy(to, from, size);
  asm volatile("" : : "r"(to) : "memory");
}

// Where a front-end says the areas are: its own addresses.
struct RingAddresses {
  uint64_t descriptors = 0;
  uint64_t used = 0;
  uint64_t available = 0;
  // Guest address to log writes to the used ring at, when `logUsed`.
  uint64_t log = 0;
  bool logUsed = false;
};

class RingMemory {
 public:
  // Finds the areas of a ring of `size` entries (a power of two) in `memory`:
  // aligned, each in one region. The pointers are good as long as `memory` is.
  static Result<RingMemory> resolve(const GuestMemory& memory,
                                    const RingAddresses& addresses,
                                    uint16_t size);
  // The same ring in another table.
  [[nodiscard]] Result<RingMemory> movedTo(const GuestMemory& memory) const {
    return resolve(memory, addresses_, size_);
  }
  // False: made by the default constructor; nothing else may be called.
  [[nodiscard]] bool valid() const noexcept { return size_ != 0; }

  [[nodiscard]] uint16_t size() const noexcept { return size_; }

  // Acquire: what the driver wrote before it is visible afterwards.
  [[nodiscard]] uint16_t availableIndex() const noexcept {
    return __atomic_load_n(u16(available_ + 2), __ATOMIC_ACQUIRE);
  }
  [[nodiscard]] const uint16_t* availableIndexAddress() const noexcept {
    return u16(available_ + 2);
  }
  [[nodiscard]] uint16_t availableFlags() const noexcept {
    return __atomic_load_n(u16(available_), __ATOMIC_RELAXED);
  }
  [[nodiscard]] uint16_t availableHead(uint16_t index) const noexcept {
    return __atomic_load_n(u16(available_ + 4 + 2 * slot(index)),
                           __ATOMIC_RELAXED);
  }
  [[nodiscard]] uint16_t usedEvent() const noexcept {
    return __atomic_load_n(u16(available_ + 4 + 2 * size_t{size_}),
                           __ATOMIC_RELAXED);
  }

  // `index` < size().
  [[nodiscard]] Descriptor descriptor(uint16_t index) const noexcept {
    Descriptor copy;
    copyOnce(&copy, descriptors_ + size_t{index} * sizeof(Descriptor),
             sizeof copy);
    return copy;
  }
  void prefetchDescriptor(uint16_t index) const noexcept {
    __builtin_prefetch(descriptors_ + size_t{index} * sizeof(Descriptor));
  }

  // The device's own index as an earlier back-end left it.
  [[nodiscard]] uint16_t usedIndex() const noexcept {
    return __atomic_load_n(u16(used_ + 2), __ATOMIC_RELAXED);
  }
  void putUsed(uint16_t index,
               uint16_t head,
               uint32_t written,
               const DirtyLog* log) noexcept;
  // Release: everything written before is visible to who sees the index.
  void publishUsed(uint16_t index, const DirtyLog* log) noexcept;
  void setUsedFlags(uint16_t flags, const DirtyLog* log) noexcept;
  void setAvailableEvent(uint16_t index, const DirtyLog* log) noexcept;

  void setUsedLog(bool logUsed, uint64_t address) noexcept {
    addresses_.logUsed = logUsed;
    addresses_.log = address;
  }

 private:
  [[nodiscard]] static uint16_t* u16(std::byte* at) noexcept {
    return reinterpret_cast<uint16_t*>(at);
  }
  [[nodiscard]] size_t slot(uint16_t index) const noexcept {
    return index & (size_ - 1u);
  }
  void logUsed(const DirtyLog* log, size_t offset, size_t length) noexcept {
    if (log != nullptr && addresses_.logUsed) {
      log->mark(addresses_.log + offset, length);
    }
  }

  std::byte* descriptors_ = nullptr;
  std::byte* available_ = nullptr;
  std::byte* used_ = nullptr;
  uint16_t size_ = 0;
  RingAddresses addresses_;
};

}  // namespace nydus
