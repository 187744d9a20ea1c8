// When a busy lane tells its guests of the replies that it has given back.
//
// To interrupt a guest that sleeps costs a lane up to 5 µs, as much as a dozen
// requests, so it is better told of many replies than of each. But a guest
// takes its time to wake up: one that hears of its replies when nothing is left
// to do has the lane wait for its next requests. So it is told when what is
// left to do keeps the lane busy for about as long as a guest takes to come.
// A guest that is awake finds replies by itself, and is not interrupted.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace nydus {

class TellPacing {
 public:
  // `count` requests (at least 1) took `ns`, with no waiting in between.
  void answered(size_t count, uint64_t ns) noexcept {
    const uint64_t each = std::min(ns / count, kLongestHold);
    requestNs_ = (7 * requestNs_ + each) / 8;
  }

  // Whether to tell at `now` of what was given back. `left`: requests that the
  // lane has still to do; `queues`: how many it serves, each of which has
  // interrupts of its own.
  [[nodiscard]] bool due(uint64_t now, size_t left, size_t queues) noexcept {
    if (!holding_) {
      holding_ = true;
      heldSince_ = now;
    }
    return left * queues * requestNs_ <= (slow() ? kWakeUp : kInAdvance) ||
           requestNs_ >= kLongestHold / 2 || now - heldSince_ >= kLongestHold;
  }

  // Requests take so long that a guest may be told in the middle of a batch.
  [[nodiscard]] bool slow() const noexcept { return requestNs_ >= kSlow; }

  // All that was given back is told of.
  void told() noexcept { holding_ = false; }

 private:
  // What it takes a guest to wake up on another processor (measured: 5 to 50;
  // docs/performance.md).
  static constexpr uint64_t kWakeUp = 15'000;
  // Of quick requests it may hear earlier: replies come so fast then that it
  // stays awake.
  static constexpr uint64_t kInAdvance = 50'000;
  // No reply is held back for longer, whatever else there is to do.
  static constexpr uint64_t kLongestHold = 40'000;
  static constexpr uint64_t kSlow = 2'000;

  uint64_t requestNs_ = 0;
  uint64_t heldSince_ = 0;
  bool holding_ = false;
};

}  // namespace nydus
