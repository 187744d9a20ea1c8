// What all threads that serve one device share: the session, the requests
// that wait, the counters. Knows no transport.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "base/assistant.h"
#include "base/counter.h"
#include "fuse/deferred.h"
#include "fuse/session.h"
#include "fuse/slot.h"

namespace nydus {

struct FuseCounters {
  // Answered without TypeScript.
  Counter nativeAnswers;
  Counter forgets;
  // References that a guest gave back without having them.
  Counter forgetsTooMany;
  Counter malformed;
  // Answers of lanes that were not usable: EIO was sent instead.
  Counter badReplies;
  // Bodies that could not be read: EIO was sent instead.
  Counter readErrors;
  Counter deferred;
  Counter deferredDone;
  Counter deferredGone;
  Counter deferredRefused;
  // Requests whose lane died with them.
  Counter orphans;
  Counter turns;
  Counter polls;
  Counter pollHits;
  Counter sleeps;
};

class FuseService {
 public:
  explicit FuseService(uint32_t pollUs) : pollUs_(pollUs), assistant_(pollUs) {}

  [[nodiscard]] Session& session() noexcept { return session_; }
  [[nodiscard]] DeferredTable& deferred() noexcept { return deferred_; }
  [[nodiscard]] FuseCounters& counters() noexcept { return counters_; }
  [[nodiscard]] const FuseCounters& counters() const noexcept {
    return counters_;
  }
  [[nodiscard]] uint32_t pollUs() const noexcept { return pollUs_; }
  // For replies that take long to copy.
  [[nodiscard]] Assistant& assistant() noexcept { return assistant_; }
  [[nodiscard]] const Assistant& assistant() const noexcept {
    return assistant_;
  }

  // `count` tickets that were never handed out: the first of them.
  [[nodiscard]] uint64_t tickets(uint64_t count) noexcept {
    return nextTicket_.fetch_add(count, std::memory_order_relaxed);
  }

  // Ends a deferred request with an errno (negative), or with data: `extents`,
  // or (when empty) those that the lane gave. Any thread; copies on it. False:
  // the request is gone, nothing was written.
  bool completeDeferred(uint64_t ticket,
                        int32_t status,
                        std::span<const Extent> extents);

 private:
  const uint32_t pollUs_;
  Session session_;
  DeferredTable deferred_;
  FuseCounters counters_;
  std::atomic<uint64_t> nextTicket_{1};
  Assistant assistant_;
};

}  // namespace nydus
