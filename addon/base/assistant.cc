#include "base/assistant.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <system_error>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/pause.h"

namespace nydus {
namespace {

constexpr uint32_t kMissesAllowed = 12;
constexpr uint64_t kFirstRestNs = 1'000'000;
constexpr uint64_t kLongestRestNs = 100'000'000;
// Waiting for one that was stopped is so small a part of the time until it is
// tried again.
constexpr uint64_t kLateShare = 32;
// Looks between two readings of the clock.
constexpr int kLooks = 16;
// A part takes some 10 µs. Who waits so long for one sleeps, so that the
// assistant gets a processor if there was none, and after so much more has
// learnt that it is in the way.
constexpr uint64_t kPatienceNs = 20'000;
constexpr uint64_t kLateNs = 200'000;

}  // namespace

Assistant::Assistant(uint32_t spinUs) noexcept
    : spinNs_(availableCpus() > 1 ? uint64_t{spinUs} * 1000 : 0),
      restLength_(kFirstRestNs) {}

Assistant::~Assistant() {
  stopping_ = true;
  asleep_ = true;
  wake();
}

bool Assistant::run(SharedWork& work, uint32_t parts) noexcept {
  if (parts < 2 || !begin()) {
    bool good = true;
    for (uint32_t i = 0; i < parts; i++)
      good = work.part(i) && good;
    return good;
  }
  share(work, parts);
  bool good = true;
  uint32_t own = 0;
  for (;; own++) {
    const auto index =
        static_cast<uint32_t>(ticket_.fetch_add(1, std::memory_order_relaxed));
    if (index >= parts)
      break;
    good = work.part(index) && good;
  }
  const uint64_t late = await(parts - own);
  ticket_.store(uint64_t{generation_} << 32 | kClosed,
                std::memory_order_relaxed);
  good = good && !failed_.load(std::memory_order_relaxed);
  learn(own != parts, late);
  taken_.store(false, std::memory_order_release);
  return good;
}

// False: there is nobody to help.
bool Assistant::begin() noexcept {
  if (spinNs_ == 0 || taken_.exchange(true, std::memory_order_acquire))
    return false;
  if (!failedToStart_ && nowNs() >= restUntil_) {
    if (thread_.joinable())
      return true;
    try {
      thread_ = std::jthread([this] { serve(); });
      return true;
    } catch (const std::system_error&) {
      // Threads are used up; all goes on without.
      failedToStart_ = true;
    }
  }
  taken_.store(false, std::memory_order_release);
  return false;
}

void Assistant::share(SharedWork& work, uint32_t parts) noexcept {
  work_.store(&work, std::memory_order_release);
  parts_.store(parts, std::memory_order_release);
  done_.store(0, std::memory_order_relaxed);
  failed_.store(false, std::memory_order_relaxed);
  // Before the look whether it sleeps: else both may miss.
  ticket_.store(uint64_t{++generation_} << 32, std::memory_order_seq_cst);
  wake();
}

void Assistant::wake() noexcept {
  if (!asleep_.load(std::memory_order_seq_cst) || !asleep_.exchange(false))
    return;
  calls_.fetch_add(1, std::memory_order_release);
  calls_.notify_one();
}

// Waits until the assistant has done `parts`. Returns for how many ns, if it
// was stopped meanwhile, else 0.
uint64_t Assistant::await(uint32_t parts) noexcept {
  const auto ready = [&] {
    return done_.load(std::memory_order_acquire) == parts;
  };
  if (ready())
    return 0;
  const uint64_t start = nowNs();
  while (nowNs() - start < kPatienceNs) {
    for (int i = 0; i < kLooks; i++) {
      if (ready())
        return 0;
      pauseSpinning();
    }
  }
  // Our wish before the last look: else both may miss.
  awaited_.store(true, std::memory_order_seq_cst);
  for (;;) {
    const uint32_t done = done_.load(std::memory_order_seq_cst);
    if (done == parts)
      break;
    done_.wait(done, std::memory_order_acquire);
  }
  awaited_.store(false, std::memory_order_relaxed);
  const uint64_t waited = nowNs() - start;
  return waited > kLateNs ? waited : 0;
}

void Assistant::learn(bool came, uint64_t lateNs) noexcept {
  if (lateNs != 0) {
    restUntil_ = nowNs() + kLateShare * lateNs;
  } else if (came) {
    misses_ = 0;
    restLength_ = kFirstRestNs;
  } else if (++misses_ >= kMissesAllowed) {
    misses_ = 0;
    restUntil_ = nowNs() + restLength_;
    restLength_ = std::min(2 * restLength_, kLongestRestNs);
  }
}

void Assistant::serve() noexcept {
  ::pthread_setname_np(::pthread_self(), "nydus-assistant");
  uint64_t idleSince = nowNs();
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (help()) {
      idleSince = nowNs();
    } else if (!look()) {
      if (nowNs() - idleSince < spinNs_ && SpinPermit::spare()) {
        // Who wants this processor, has it now, not when our turn is over.
        ::sched_yield();
        continue;
      }
      sleep();
      idleSince = nowNs();
    }
  }
}

// Takes parts until none is left. False: there was none.
bool Assistant::help() noexcept {
  uint64_t seen = ticket_.load(std::memory_order_acquire);
  bool any = false;
  for (;;) {
    // Read before the ticket is taken: if that succeeds, its work was not over,
    // and so nothing of the next one was here yet.
    SharedWork* const work = work_.load(std::memory_order_acquire);
    const uint32_t parts = parts_.load(std::memory_order_acquire);
    const auto index = static_cast<uint32_t>(seen);
    if (index == kClosed || index >= parts)
      return any;
    if (!ticket_.compare_exchange_weak(seen, seen + 1,
                                       std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
      continue;
    }
    if (!work->part(index))
      failed_.store(true, std::memory_order_relaxed);
    helped_.fetch_add(1, std::memory_order_relaxed);
    done_.fetch_add(1, std::memory_order_seq_cst);
    if (awaited_.load(std::memory_order_seq_cst))
      done_.notify_one();
    any = true;
    seen = ticket_.load(std::memory_order_acquire);
  }
}

// Looks for a while whether there is work.
bool Assistant::look() const noexcept {
  for (int i = 0; i < kLooks; i++) {
    if (static_cast<uint32_t>(ticket_.load(std::memory_order_relaxed)) !=
        kClosed) {
      return true;
    }
    pauseSpinning();
  }
  return false;
}

void Assistant::sleep() noexcept {
  const uint32_t calls = calls_.load(std::memory_order_acquire);
  asleep_.store(true, std::memory_order_seq_cst);
  // Our sleep before the last look for work: else both may miss.
  const bool work =
      static_cast<uint32_t>(ticket_.load(std::memory_order_seq_cst)) != kClosed;
  if (work || stopping_.load(std::memory_order_seq_cst)) {
    asleep_.store(false, std::memory_order_relaxed);
    return;
  }
  calls_.wait(calls, std::memory_order_acquire);
}

}  // namespace nydus
