// Bounds what mappings of cache files add to the resident memory.
//
// A page that was read through a mapping counts as this process's memory
// until it is dropped. So a file's mapping is divided into windows, a window
// is either admitted (its pages may be touched) or not, and all files together
// have at most `budget` bytes of admitted windows; who wants one more drops
// the pages of another (MADV_DONTNEED: they stay in the page cache). An access
// to an admitted window costs one byte load. Who is refused uses pread.
//
// Dropping a window and mapping another costs some 8 µs, what memcpy saves over
// pread is 0.5 µs for 4 KiB and 2 µs for 128 KiB (measured). So when nothing is
// left, a window goes to who will read most of it: a read of 256 KiB or more,
// or one that goes on where the last refused one ended; a large one only if
// windows are the faster way (large_reads.h). Other reads get one
// only after they were refused there often, from a window that is not in use.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "sys/large_reads.h"

namespace nydus {

// The windows of one mapping.
class Windows {
 public:
  static constexpr size_t kSize = size_t{1} << 20;

  // The bytes must stay mapped for as long as this object is used.
  explicit Windows(std::span<std::byte> mapping);

 private:
  friend class ResidentBudget;

  enum State : uint8_t {
    kRefused,   // pages are not mapped, access goes through pread
    kAdmitted,  // may be touched; not touched since the clock passed
    kUsed,      // touched since the clock passed
  };
  static constexpr uint16_t kPages = kSize / 4096;
  static constexpr uint16_t kNoPage = 0xffff;
  struct Window {
    std::atomic<uint8_t> state{kRefused};
    std::atomic<uint8_t> refusals{0};
    // Where the last refused read ended, or one that came to the window's end:
    // page within the window.
    std::atomic<uint16_t> nextPage{kNoPage};
  };

  void dropPages(size_t window) const noexcept;

  std::span<std::byte> mapping_;
  std::vector<Window> windows_;
};

class ResidentBudget {
 public:
  // At least one window is always allowed.
  explicit ResidentBudget(size_t bytes);

  // True when [offset, offset + length) of the mapping may be touched now.
  // The range must lie in the mapping. Any thread; never waits.
  [[nodiscard]] bool admit(Windows& windows,
                           uint64_t offset,
                           uint64_t length) noexcept {
    if (length == 0)
      return true;
    const size_t last = (offset + length - 1) / Windows::kSize;
    for (size_t i = offset / Windows::kSize; i <= last; i++) {
      std::atomic<uint8_t>& state = windows.windows_[i].state;
      uint8_t now = state.load(std::memory_order_relaxed);
      if (now == Windows::kUsed)
        continue;
      // Fails when the window is being taken away at this moment.
      if (now == Windows::kAdmitted &&
          state.compare_exchange_strong(now, Windows::kUsed)) {
        continue;
      }
      if (!admitNew(windows, i, offset, length))
        return false;
    }
    if ((offset + length) % Windows::kSize == 0)
      windows.windows_[last].nextPage.store(Windows::kPages,
                                            std::memory_order_relaxed);
    return true;
  }

  // What large reads take, by a window or without; any thread.
  [[nodiscard]] LargeReads& largeReads() noexcept { return largeReads_; }

  // Takes back all windows of a mapping that is about to be unmapped.
  void forget(Windows& windows) noexcept;

 private:
  struct Held {
    Windows* windows;
    size_t window;
  };

  bool admitNew(Windows& windows,
                size_t window,
                uint64_t offset,
                uint64_t length) noexcept;
  // Index into held_ of a window to drop; held_.size() when there is none.
  size_t victim(size_t steps) noexcept;

  const size_t capacity_;
  LargeReads largeReads_;
  std::mutex lock_;
  std::vector<Held> held_;
  size_t hand_ = 0;
  // Whether held_ was full when it was last changed: small reads of absent
  // windows look here first, without the lock.
  std::atomic<bool> full_{false};
};

}  // namespace nydus
