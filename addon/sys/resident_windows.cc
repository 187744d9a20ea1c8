#include "sys/resident_windows.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/clock.h"

namespace nydus {
namespace {

// A read that is worth a window by itself.
constexpr uint64_t kLargeRead = 256 << 10;
// Reads that were refused before their window may replace an idle one.
constexpr uint8_t kWantedOften = 250;
// Windows that the clock passes to find an idle one.
constexpr size_t kSteps = 4;
constexpr size_t kPage = 4096;

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
                              uint64_t offset,
                              uint64_t length) noexcept {
  const bool large = length >= LargeReads::kLarge;
  if (large && largeReads_.way() == LargeReads::Way::kRead)
    return false;
  const uint64_t begun = large ? nowNs() : 0;
  Windows::Window& wanted = windows.windows_[window];
  const size_t start = window * Windows::kSize;
  // A read that began in the window before is at this one's first page.
  const uint64_t first = offset > start ? (offset - start) / kPage : 0;
  // The page behind the last one of a window is the first of the next window.
  const bool goesOn =
      first != 0
          ? wanted.nextPage.load(std::memory_order_relaxed) == first
          : window > 0 && windows.windows_[window - 1].nextPage.load(
                              std::memory_order_relaxed) == Windows::kPages;
  const bool whole = length >= kLargeRead || goesOn;
  if (!whole && full_.load(std::memory_order_relaxed)) {
    const uint64_t end = std::min(offset + length - start, Windows::kSize);
    wanted.nextPage.store(static_cast<uint16_t>(end / kPage),
                          std::memory_order_relaxed);
    const uint8_t refusals = wanted.refusals.load(std::memory_order_relaxed);
    if (refusals < kWantedOften) {
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
  wanted.nextPage.store(Windows::kNoPage, std::memory_order_relaxed);
  if (held_.size() < capacity_) {
    held_.push_back({&windows, window});
    full_.store(held_.size() == capacity_, std::memory_order_relaxed);
  } else {
    // Two rounds find a window for sure: the first clears every kUsed.
    const size_t index = victim(whole ? 2 * held_.size() : kSteps);
    if (index == held_.size())
      return false;
    const Held old = held_[index];
    old.windows->windows_[old.window].state.store(Windows::kRefused);
    old.windows->dropPages(old.window);
    held_[index] = {&windows, window};
  }
  wanted.state.store(Windows::kUsed);
  if (large)
    largeReads_.took(LargeReads::Way::kMapped, 0, nowNs() - begun);
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
