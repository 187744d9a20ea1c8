#include "vhost/ring_memory.h"

#include <string>

namespace nydus {
namespace {

constexpr size_t kUsedHeader = 4;
constexpr size_t kUsedElement = 8;

// virtio 1.2 §2.7: alignments of the three areas.
constexpr uint64_t kDescriptorAlign = 16;
constexpr uint64_t kAvailableAlign = 2;
constexpr uint64_t kUsedAlign = 4;

Result<std::byte*> locate(const GuestMemory& memory,
                          uint64_t address,
                          uint64_t length,
                          uint64_t align,
                          const char* name) {
  std::byte* host = memory.atUserAddress(address, length).host;
  // The host address counts too: a region may start anywhere in its page.
  if (host == nullptr || address % align != 0 ||
      reinterpret_cast<uintptr_t>(host) % align != 0) {
    char text[160];
    std::snprintf(
        text, sizeof text, "%s at 0x%llx (%llu bytes) %s", name,
        static_cast<unsigned long long>(address),
        static_cast<unsigned long long>(length),
        host == nullptr ? "is not within one memory region" : "is not aligned");
    return Failure{text};
  }
  return host;
}

}  // namespace

Result<RingMemory> RingMemory::resolve(const GuestMemory& memory,
                                       const RingAddresses& addresses,
                                       uint16_t size) {
  const uint64_t n = size;
  const auto descriptors =
      locate(memory, addresses.descriptors, n * sizeof(Descriptor),
             kDescriptorAlign, "descriptor table");
  if (!descriptors)
    return descriptors.failure();
  const auto available = locate(memory, addresses.available, 6 + 2 * n,
                                kAvailableAlign, "available ring");
  if (!available)
    return available.failure();
  const auto used =
      locate(memory, addresses.used, kUsedHeader + kUsedElement * n + 2,
             kUsedAlign, "used ring");
  if (!used)
    return used.failure();
  RingMemory ring;
  ring.descriptors_ = *descriptors;
  ring.available_ = *available;
  ring.used_ = *used;
  ring.size_ = size;
  ring.addresses_ = addresses;
  return ring;
}

void RingMemory::putUsed(uint16_t index,
                         uint16_t head,
                         uint32_t written,
                         const DirtyLog* log) noexcept {
  const size_t offset = kUsedHeader + kUsedElement * slot(index);
  auto* element = reinterpret_cast<uint32_t*>(used_ + offset);
  __atomic_store_n(element, uint32_t{head}, __ATOMIC_RELAXED);
  __atomic_store_n(element + 1, written, __ATOMIC_RELAXED);
  logUsed(log, offset, kUsedElement);
}

void RingMemory::publishUsed(uint16_t index, const DirtyLog* log) noexcept {
  __atomic_store_n(u16(used_ + 2), index, __ATOMIC_RELEASE);
  // After the store: a bit that is cleared, and its page copied, before the
  // store would lose it.
  logUsed(log, 2, 2);
}

void RingMemory::setUsedFlags(uint16_t flags, const DirtyLog* log) noexcept {
  __atomic_store_n(u16(used_), flags, __ATOMIC_RELAXED);
  logUsed(log, 0, 2);
}

void RingMemory::setAvailableEvent(uint16_t index,
                                   const DirtyLog* log) noexcept {
  const size_t offset = kUsedHeader + kUsedElement * size_t{size_};
  __atomic_store_n(u16(used_ + offset), index, __ATOMIC_RELAXED);
  logUsed(log, offset, 2);
}

}  // namespace nydus
