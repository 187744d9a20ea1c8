// Processors that this process may run on, and who spins on them.
#pragma once

#include <sched.h>

#include <atomic>

namespace nydus {

// At least 1.
[[nodiscard]] inline int availableCpus() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0)
    return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? count : 1;
}

// Permission to spin. All lanes of the process together get one less than
// there are processors: who waits for us must be able to run meanwhile.
class SpinPermit {
 public:
  SpinPermit() noexcept : granted_(spinning().fetch_add(1) < limit()) {
    if (!granted_)
      spinning().fetch_sub(1);
  }
  ~SpinPermit() {
    if (granted_)
      spinning().fetch_sub(1);
  }
  SpinPermit(const SpinPermit&) = delete;
  SpinPermit& operator=(const SpinPermit&) = delete;
  explicit operator bool() const noexcept { return granted_; }

  // Whether one more would be granted.
  [[nodiscard]] static bool spare() noexcept { return spinning() < limit(); }

 private:
  static std::atomic<int>& spinning() noexcept {
    static std::atomic<int> count{0};
    return count;
  }
  static int limit() noexcept {
    static const int limit = availableCpus() - 1;
    return limit;
  }

  const bool granted_;
};

}  // namespace nydus
