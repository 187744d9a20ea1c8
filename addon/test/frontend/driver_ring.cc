#include "test/frontend/driver_ring.h"

#include <cstring>
#include <new>

namespace nydus::frontend {
namespace {

// Offsets within the available and the used ring (virtio 1.2 §2.7.6, §2.7.8).
constexpr uint64_t kFlags = 0;
constexpr uint64_t kIndex = 2;
constexpr uint64_t kEntries = 4;
constexpr uint16_t kNoNotify = 1;

uint64_t availBytes(uint64_t size) {
  return kEntries + 2 * size + 2;
}

uint64_t usedBytes(uint64_t size) {
  return kEntries + sizeof(UsedElement) * size + 2;
}

uint64_t roundUp(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

DriverRing::DriverRing(GuestSpace& space, uint16_t size, bool eventIdx)
    : space_(space),
      size_(size),
      eventIdx_(eventIdx),
      nextFree_(size),
      lengths_(size) {
  const uint64_t availAt = sizeof(RingDescriptor) * size;
  // The device writes the used ring: cache lines of its own.
  const uint64_t usedAt = roundUp(availAt + availBytes(size), 64);
  bytes_ = usedAt + usedBytes(size);
  const auto area = space.allocate(bytes_, 4096);
  if (!area) {
    throw std::bad_alloc();
  }
  area_ = *area;
  avail_ = area_ + availAt;
  used_ = area_ + usedAt;
  reset();
}

DriverRing::~DriverRing() {
  space_.release(area_, bytes_);
}

void DriverRing::reset() {
  std::memset(space_.host(area_), 0, bytes_);
  for (uint16_t i = 0; i < size_; i++) {
    nextFree_[i] = static_cast<uint16_t>(i + 1);
  }
  firstFree_ = 0;
  freeCount_ = size_;
  availIndex_ = publishedIndex_ = usedIndex_ = 0;
}

std::atomic_ref<uint16_t> DriverRing::half(uint64_t gpa) const noexcept {
  return std::atomic_ref<uint16_t>(
      *reinterpret_cast<uint16_t*>(space_.host(gpa)));
}

RingDescriptor* DriverRing::descriptor(uint16_t index) const noexcept {
  return reinterpret_cast<RingDescriptor*>(space_.host(area_)) + index;
}

uint16_t DriverRing::usedIndex() const noexcept {
  return half(used_ + kIndex).load(std::memory_order_acquire);
}

void DriverRing::writeTable(std::byte* table,
                            std::span<const Buffer> readable,
                            std::span<const Buffer> writable) {
  const size_t count = readable.size() + writable.size();
  for (size_t i = 0; i < count; i++) {
    const bool write = i >= readable.size();
    const Buffer& buffer = write ? writable[i - readable.size()] : readable[i];
    RingDescriptor entry = {buffer.gpa, buffer.length, 0, 0};
    if (write) {
      entry.flags |= kDescriptorWrite;
    }
    if (i + 1 < count) {
      entry.flags |= kDescriptorNext;
      entry.next = static_cast<uint16_t>(i + 1);
    }
    std::memcpy(table + i * sizeof entry, &entry, sizeof entry);
  }
}

std::optional<uint16_t> DriverRing::add(std::span<const Buffer> readable,
                                        std::span<const Buffer> writable) {
  const size_t count = readable.size() + writable.size();
  if (count == 0 || count > freeCount_) {
    return std::nullopt;
  }
  const uint16_t head = firstFree_;
  uint16_t at = head;
  for (size_t i = 0; i < count; i++) {
    const bool write = i >= readable.size();
    const Buffer& buffer = write ? writable[i - readable.size()] : readable[i];
    const bool last = i + 1 == count;
    const uint16_t next = nextFree_[at];
    *descriptor(at) = {buffer.gpa, buffer.length,
                       static_cast<uint16_t>((write ? kDescriptorWrite : 0) |
                                             (last ? 0 : kDescriptorNext)),
                       static_cast<uint16_t>(last ? 0 : next)};
    firstFree_ = next;
    at = next;
  }
  lengths_[head] = static_cast<uint16_t>(count);
  freeCount_ = static_cast<uint16_t>(freeCount_ - count);
  return head;
}

std::optional<uint16_t> DriverRing::addIndirect(uint64_t table,
                                                uint32_t bytes) {
  if (freeCount_ == 0) {
    return std::nullopt;
  }
  const uint16_t head = firstFree_;
  firstFree_ = nextFree_[head];
  *descriptor(head) = {table, bytes, kDescriptorIndirect, 0};
  lengths_[head] = 1;
  freeCount_--;
  return head;
}

void DriverRing::free(uint16_t head) {
  uint16_t last = head;
  for (uint16_t i = 1; i < lengths_[head]; i++) {
    last = nextFree_[last];
  }
  nextFree_[last] = firstFree_;
  firstFree_ = head;
  freeCount_ = static_cast<uint16_t>(freeCount_ + lengths_[head]);
}

void DriverRing::expose(uint16_t head) noexcept {
  const uint64_t slot = availIndex_ & (size_ - 1);
  half(avail_ + kEntries + 2 * slot).store(head, std::memory_order_relaxed);
  availIndex_++;
}

bool DriverRing::publish() noexcept {
  const uint16_t old = publishedIndex_;
  if (old == availIndex_) {
    return false;
  }
  half(avail_ + kIndex).store(availIndex_, std::memory_order_release);
  publishedIndex_ = availIndex_;
  // The index must be visible before the device's wish is read (§2.7.13.3).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!eventIdx_) {
    return (half(used_ + kFlags).load(std::memory_order_relaxed) & kNoNotify) ==
           0;
  }
  const uint16_t event = half(used_ + kEntries + sizeof(UsedElement) * size_)
                             .load(std::memory_order_relaxed);
  return static_cast<uint16_t>(availIndex_ - event - 1) <
         static_cast<uint16_t>(availIndex_ - old);
}

std::optional<UsedElement> DriverRing::pop() noexcept {
  if (usedIndex() == usedIndex_) {
    return std::nullopt;
  }
  const uint64_t slot = usedIndex_ & (size_ - 1);
  UsedElement element;
  std::memcpy(&element,
              space_.host(used_ + kEntries + sizeof(UsedElement) * slot),
              sizeof element);
  usedIndex_++;
  return element;
}

bool DriverRing::enableInterrupts() noexcept {
  half(avail_ + kFlags).store(0, std::memory_order_relaxed);
  half(avail_ + kEntries + 2 * uint64_t{size_})
      .store(usedIndex_, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return usedIndex() == usedIndex_;
}

void DriverRing::disableInterrupts() noexcept {
  half(avail_ + kFlags).store(kNoNotify, std::memory_order_relaxed);
  // With EVENT_IDX that is ignored (§2.7.10): a place further back than what
  // the device last told of stays silent.
  half(avail_ + kEntries + 2 * uint64_t{size_})
      .store(static_cast<uint16_t>(usedIndex_ - size_ - 1),
             std::memory_order_relaxed);
}

}  // namespace nydus::frontend
