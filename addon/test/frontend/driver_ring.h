// The driver's end of a split virtqueue (virtio 1.2 §2.7).
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "test/frontend/guest_space.h"

namespace nydus::frontend {

struct Buffer {
  uint64_t gpa;
  uint32_t length;
};

// As in virtio 1.2 §2.7.5; little-endian.
struct RingDescriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(RingDescriptor) == 16);
constexpr uint16_t kDescriptorNext = 1;
constexpr uint16_t kDescriptorWrite = 2;
constexpr uint16_t kDescriptorIndirect = 4;

struct UsedElement {
  uint32_t id;
  uint32_t length;
};

// One thread at a time.
class DriverRing {
 public:
  // Throws std::bad_alloc when the space has no room. `size` is a power of
  // two.
  DriverRing(GuestSpace& space, uint16_t size, bool eventIdx);
  ~DriverRing();
  DriverRing(const DriverRing&) = delete;
  DriverRing& operator=(const DriverRing&) = delete;

  [[nodiscard]] uint16_t size() const noexcept { return size_; }
  // Guest addresses of the three parts.
  [[nodiscard]] uint64_t descriptors() const noexcept { return area_; }
  [[nodiscard]] uint64_t avail() const noexcept { return avail_; }
  [[nodiscard]] uint64_t used() const noexcept { return used_; }
  [[nodiscard]] uint16_t freeDescriptors() const noexcept { return freeCount_; }

  // As a driver leaves it before the first request.
  void reset();
  // The index that a back-end which has taken nothing yet must start at.
  [[nodiscard]] uint16_t usedIndex() const noexcept;

  // Writes the entries of an indirect table.
  static void writeTable(std::byte* table,
                         std::span<const Buffer> readable,
                         std::span<const Buffer> writable);

  // Takes descriptors for one chain and fills them; the head, or nothing when
  // too few are free.
  std::optional<uint16_t> add(std::span<const Buffer> readable,
                              std::span<const Buffer> writable);
  std::optional<uint16_t> addIndirect(uint64_t table, uint32_t bytes);
  // Gives the descriptors of a chain back.
  void free(uint16_t head);

  // Puts a chain into the available ring; seen by the device after publish().
  void expose(uint16_t head) noexcept;
  // True when the device wants a kick for what was exposed since the last
  // publish().
  [[nodiscard]] bool publish() noexcept;

  // The next used element, in the order in which the device gave them back.
  [[nodiscard]] std::optional<UsedElement> pop() noexcept;
  // Asks for an interrupt at the next used element. False: there is one
  // already, none may come for it.
  [[nodiscard]] bool enableInterrupts() noexcept;
  void disableInterrupts() noexcept;

 private:
  [[nodiscard]] std::atomic_ref<uint16_t> half(uint64_t gpa) const noexcept;
  [[nodiscard]] RingDescriptor* descriptor(uint16_t index) const noexcept;

  GuestSpace& space_;
  const uint16_t size_;
  const bool eventIdx_;
  uint64_t bytes_;
  uint64_t area_;
  uint64_t avail_;
  uint64_t used_;

  // The driver's own state: never read back from shared memory.
  std::vector<uint16_t> nextFree_;  // by descriptor: the next of its chain
  std::vector<uint16_t> lengths_;   // by head: descriptors of its chain
  uint16_t firstFree_ = 0;
  uint16_t freeCount_ = 0;
  uint16_t availIndex_ = 0;      // exposed
  uint16_t publishedIndex_ = 0;  // seen by the device
  uint16_t usedIndex_ = 0;       // popped
};

}  // namespace nydus::frontend
