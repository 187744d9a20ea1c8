#include "fuse/session.h"

#include <sys/mman.h>

#include <cerrno>
#include "sys/system_error.h"

namespace nydus {

static_assert(std::atomic<uint64_t>::is_always_lock_free &&
              sizeof(std::atomic<uint64_t>) == 8);

Session::Session()
    : counters_(Mmap::anonymous(kMountSlots * sizeof(uint64_t))) {
  if (!counters_) {
    throw SystemError(errno, "mmap");
  }
}

// Later epochs first, then the counters: an addition of the old epoch that
// slips in between leaves a count too high, which keeps an image longer than
// needed but never lets one go too early.
void Session::next(uint64_t state) noexcept {
  uint64_t word = word_.load();
  while (!word_.compare_exchange_weak(
      word, ((word & ~kStateMask) + kEpochStep) | state)) {
  }
  ::madvise(counters_.data(), counters_.size(), MADV_DONTNEED);
}

Session::Epoch Session::begin() noexcept {
  next(kStarting);
  return epoch();
}

void Session::ready(Epoch epoch) noexcept {
  uint64_t starting = epoch | kStarting;
  word_.compare_exchange_strong(starting, epoch | kReady);
}

void Session::end() noexcept {
  next(kNone);
}

void Session::resume() noexcept {
  uint64_t word = word_.load();
  while ((word & kStateMask) == kNone &&
         !word_.compare_exchange_weak(word, (word & ~kStateMask) | kReady)) {
  }
}

std::atomic<uint64_t>& Session::counter(uint64_t slot) const noexcept {
  return reinterpret_cast<std::atomic<uint64_t>*>(counters_.data())[slot];
}

void Session::addLookups(Epoch epoch, uint64_t slot, uint64_t count) noexcept {
  if (slot >= kMountSlots || epoch != this->epoch())
    return;
  counter(slot).fetch_add(count, std::memory_order_relaxed);
}

uint64_t Session::forget(uint64_t nodeid, uint64_t count) noexcept {
  // The root is never looked up, and yet a guest may forget it.
  if (nodeid == kRootNode || nodeid > kMaxExact)
    return 0;
  std::atomic<uint64_t>& held = counter(nodeid >> kInodeBits);
  uint64_t now = held.load(std::memory_order_relaxed);
  uint64_t left = 0;
  do {
    left = now > count ? now - count : 0;
  } while (!held.compare_exchange_weak(now, left, std::memory_order_relaxed));
  return now < count ? count - now : 0;
}

uint64_t Session::lookups(uint64_t slot) const noexcept {
  return slot < kMountSlots ? counter(slot).load(std::memory_order_relaxed) : 0;
}

}  // namespace nydus
