// A statistic: written by one thread at a time or by several, read by any,
// exact, ordering nothing.
#pragma once

#include <atomic>
#include <cstdint>

namespace nydus {

class Counter {
 public:
  // From several threads.
  void add(uint64_t n = 1) noexcept {
    value_.fetch_add(n, std::memory_order_relaxed);
  }
  // From the one thread that owns it: no locked instruction.
  void bump(uint64_t n = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n,
                 std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t get() const noexcept {
    return value_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace nydus
