// How long a lane looks for the next request before it sleeps.
//
// A wake-up between two processors takes 20 to 50 µs, a request 1 µs: while a
// guest is busy, looking is far cheaper than sleeping for both sides, and when
// it is idle, looking is waste. The rule watches the whole gap between two
// requests, looked or slept through: short gaps make the look longer, long
// gaps make it shorter, a pause ends it. Looks that never find anything, or
// that somebody else needs the processor for, are given up for a while:
// then there are fewer processors than busy threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace nydus {

class PollBudget {
 public:
  // `maxUs` 0: never look.
  explicit PollBudget(uint32_t maxUs) : max_(uint64_t{maxUs} * 1000) {}

  // How long to look now, in ns; 0: sleep at once.
  [[nodiscard]] uint64_t budget() const noexcept {
    return rest_ > 0 ? 0 : budget_;
  }

  // A request came while we looked.
  void found() noexcept {
    misses_ = 0;
    restLength_ = kFirstRest;
    budget_ = std::min(max_, std::max(2 * budget_, kStart));
  }
  // A request came when we slept, `gap` ns after the one before was done;
  // `looked`: we had looked for it before.
  void slept(uint64_t gap, bool looked) noexcept {
    if (rest_ > 0) {
      rest_--;
      return;
    }
    if (gap > 20 * max_) {
      budget_ = 0;
      misses_ = 0;
      return;
    }
    if (gap >= 2 * max_) {
      budget_ /= 2;
      return;
    }
    if (looked && ++misses_ >= kMissesAllowed) {
      giveWay();
      return;
    }
    budget_ = std::min(max_, std::max(2 * budget_, kStart));
  }
  // Others wait for this processor.
  void giveWay() noexcept {
    misses_ = 0;
    rest_ = restLength_;
    restLength_ = std::min(2 * restLength_, kLongestRest);
    budget_ = 0;
  }

 private:
  static constexpr uint64_t kStart = 10'000;
  static constexpr uint32_t kMissesAllowed = 12;
  static constexpr uint32_t kFirstRest = 64;
  static constexpr uint32_t kLongestRest = 4096;

  const uint64_t max_;
  uint64_t budget_ = 0;
  uint32_t misses_ = 0;
  // Sleeps until looking is tried again, and how many it will be next time.
  uint32_t rest_ = 0;
  uint32_t restLength_ = kFirstRest;
};

}  // namespace nydus
