// Survives pages that vanish under a mapping.
//
// A file that is mapped can be truncated by somebody else, its disk can fail,
// and a front-end can shrink the guest's memory: the next access to the page
// raises SIGBUS. For addresses inside a registered range the handler puts a
// page of zeros there (private, anonymous), counts, and lets the access go
// on. Every other SIGBUS goes to the handler that was there before.
//
// Whoever copies out of such a mapping compares threadFaults() before and
// after: when it differs, what was copied is partly zeros that nobody wrote.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nydus {

class FaultGuard {
 public:
  using Id = uint32_t;
  // Never returned by add().
  static constexpr Id kNone = 0;

  // Guards [address, address + length). `pageSize` is what a hole is patched
  // with: the page size of the mapping (2 MiB for hugetlbfs; 0: the
  // system's). Installs the handler at the first call. Throws
  // std::length_error when 2^20 ranges are guarded already.
  static Id add(const void* address, size_t length, size_t pageSize = 0);

  // Call it before the range is unmapped: the address may be used again.
  static void remove(Id id) noexcept;

  // Faults patched in this process so far.
  static uint64_t faults() noexcept;
  // Those in one range: not 0 means that its content cannot be trusted.
  static uint32_t rangeFaults(Id id) noexcept;
  // Those of the calling thread.
  static uint64_t threadFaults() noexcept;
};

}  // namespace nydus
