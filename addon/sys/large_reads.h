// Whether large reads of cache files are copied out of a mapping or fetched
// with pread.
//
// It depends on the processor. A new window of a mapping costs page faults and
// has other processors drop what they know of the old one; pread copies with
// what the kernel has found best for this processor. On a Zen 5, 1 MiB takes 95
// µs by a new window and 35 by pread; on a Sapphire Rapids windows are a fifth
// faster (docs/performance.md). So both ways are tried while they run, now and
// then, and the faster one is taken.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace nydus {

class LargeReads {
 public:
  enum class Way : uint8_t { kMapped, kRead };

  // Smaller ones have rules of their own (resident_windows.h).
  static constexpr uint64_t kLarge = 64 << 10;

  // How to do one whose window is not mapped.
  [[nodiscard]] Way way() const noexcept {
    return way_.load(std::memory_order_relaxed);
  }

  // So many bytes took `ns`; any thread. 0 bytes: what it took to get a window
  // for those to come.
  void took(Way way, uint64_t bytes, uint64_t ns) noexcept;

 private:
  // Bytes of each way in a trial, and bytes until the next one.
  static constexpr uint64_t kTrial = 8 << 20;
  static constexpr uint64_t kSettled = 512 << 20;

  struct Tried {
    uint64_t bytes = 0;
    uint64_t ns = 0;
    [[nodiscard]] double cost() const noexcept {
      return static_cast<double>(ns) / static_cast<double>(bytes);
    }
  };

  [[nodiscard]] Tried& tried(Way way) noexcept {
    return tried_[static_cast<size_t>(way)];
  }

  std::atomic<Way> way_{Way::kMapped};
  std::mutex lock_;
  // Guarded by lock_.
  std::array<Tried, 2> tried_;
  // Bytes until the next trial; 0: there is one.
  uint64_t settled_ = 0;
};

}  // namespace nydus
