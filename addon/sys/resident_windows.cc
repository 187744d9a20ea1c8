#include "sys/resident_windows.h"

#include <sys/mman.h>

#include <algorithm>

namespace nydus {
namespace {

// From here on a read gets its window at once: dropping and mapping cost less
// than what memcpy saves over pread.
constexpr uint64_t kLargeRead = 64 << 10;
// Small reads of a window that were refused before it may replace another.
constexpr uint8_t kWantedOften = 250;
// Windows that the clock passes for a small read.
constexpr size_t kSteps = 4;

}  // namespace

Windows::Windows(std::span<std::byte> mapping)
    : mapping_(mapping), windows_((mapping.size() + kSize - 1) / kSize) {}

void Windows::dropPages(size_t window) const noexcept {
  const size_t offset = window * kSize;
  ::madvise(mapping_.data() + offset, std::min(kSize, mapping_.size() - offset),
            MADV_DONTNEED);
}

ResidentBudget::ResidentBudget(size_t bytes)
    : capacity_(std::max<size_t>(1, bytes / Windows::kSize)) {
  held_.reserve(capacity_);
}

size_t ResidentBudget::victim(size_t steps) noexcept {
  for (size_t step = 0; step < steps; step++) {
    hand_ = (hand_ + 1) % held_.size();
    const Held& held = held_[hand_];
    uint8_t expected = Windows::kUsed;
    if (!held.windows->windows_[held.window].state.compare_exchange_strong(
            expected, Windows::kAdmitted)) {
      return hand_;
    }
  }
  return held_.size();
}

bool ResidentBudget::admitNew(Windows& windows,
                              size_t window,
                              uint64_t length) noexcept {
  Windows::Window& wanted = windows.windows_[window];
  if (length < kLargeRead) {
    const uint8_t refusals = wanted.refusals.load(std::memory_order_relaxed);
    if (full_.load(std::memory_order_relaxed) && refusals < kWantedOften) {
      wanted.refusals.store(refusals + 1, std::memory_order_relaxed);
      return false;
    }
  }
  const std::unique_lock lock(lock_, std::try_to_lock);
  if (!lock.owns_lock())
    return false;
  if (wanted.state.load() != Windows::kRefused)
    return true;
  wanted.refusals.store(0, std::memory_order_relaxed);
  if (held_.size() < capacity_) {
    held_.push_back({&windows, window});
    full_.store(held_.size() == capacity_, std::memory_order_relaxed);
  } else {
    // Two rounds find a window for sure: the first clears every kUsed.
    const size_t index =
        victim(length < kLargeRead ? kSteps : 2 * held_.size());
    if (index == held_.size())
      return false;
    const Held old = held_[index];
    old.windows->windows_[old.window].state.store(Windows::kRefused);
    old.windows->dropPages(old.window);
    held_[index] = {&windows, window};
  }
  wanted.state.store(Windows::kUsed);
  return true;
}

void ResidentBudget::forget(Windows& windows) noexcept {
  const std::lock_guard lock(lock_);
  std::erase_if(held_,
                [&](const Held& held) { return held.windows == &windows; });
  hand_ = 0;
  full_.store(held_.size() == capacity_, std::memory_order_relaxed);
}

}  // namespace nydus
