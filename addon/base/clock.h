// Time that only goes forward.
#pragma once

#include <time.h>

#include <cstdint>

namespace nydus {

inline uint64_t nowNs() noexcept {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace nydus
