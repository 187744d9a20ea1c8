// One region of guest memory: a front-end's file, mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/fd.h"
#include "base/mmap.h"
#include "base/result.h"
#include "sys/fault_guard.h"

namespace nydus {

// As in VHOST_USER_SET_MEM_TABLE; all bytes.
struct RegionSpec {
  uint64_t gpa;
  uint64_t size;
  // Where the front-end itself has it mapped: the key of SET_VRING_ADDR.
  uint64_t userAddress;
  uint64_t mmapOffset;
};
static_assert(sizeof(RegionSpec) == 32);

class GuestRegion {
 public:
  // Checks the region against its file and maps it; the file is closed again.
  static Result<std::shared_ptr<const GuestRegion>> map(const RegionSpec& spec,
                                                        UniqueFd fd);
  ~GuestRegion();
  GuestRegion(const GuestRegion&) = delete;
  GuestRegion& operator=(const GuestRegion&) = delete;

  [[nodiscard]] const RegionSpec& spec() const noexcept { return spec_; }
  // The byte at spec().gpa; spec().size bytes follow.
  [[nodiscard]] std::byte* host() const noexcept { return host_; }
  // The front-end took pages away from under the mapping.
  [[nodiscard]] bool poisoned() const noexcept {
    return FaultGuard::rangeFaults(guard_) != 0;
  }

 private:
  GuestRegion(const RegionSpec& spec,
              Mmap mapping,
              std::byte* host,
              size_t pageSize);

  RegionSpec spec_;
  Mmap mapping_;
  std::byte* host_;
  FaultGuard::Id guard_;
};

}  // namespace nydus
