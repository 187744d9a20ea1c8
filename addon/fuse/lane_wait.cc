// How a lane waits: it looks, and then it sleeps.
#include <array>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/pause.h"
#include "fuse/lane.h"

namespace nydus {
namespace {

// Looks between two readings of the clock.
constexpr int kLooks = 8;
// A reading of the clock that is so much later than the one before means that
// another thread ran on this processor.
constexpr uint64_t kPreempted = 200'000;
// Queues without a kick descriptor are looked at so often.
constexpr int kUnkickedMs = 1;

}  // namespace

bool Lane::interrupted() const noexcept {
  return port_.changes() != seenChanges_ || port_.stopped();
}

void Lane::waitForWork() {
  busySince_ = 0;
  const uint64_t start = nowNs();
  const uint64_t budget = queues_.empty() ? 0 : pollBudget_.budget();
  bool looked = false;
  if (budget != 0) {
    const SpinPermit permit;
    looked = static_cast<bool>(permit);
    if (looked && poll(start, budget))
      return;
  }
  if (!armAll())
    sleep();
  for (const Served& served : queues_)
    served.entry.queue->disarm();
  pollBudget_.slept(nowNs() - start, looked);
}

// True: there is something to do. The guest need not tell us meanwhile.
bool Lane::poll(uint64_t start, uint64_t budget) {
  service_.counters().polls.add();
  for (const Served& served : queues_)
    served.entry.queue->beginPoll();
  bool found = false;
  for (uint64_t now = start; !found && now - start < budget;) {
    for (int i = 0; i < kLooks && !found; i++) {
      for (const Served& served : queues_) {
        found = found || served.entry.queue->pollReady();
      }
      pauseSpinning();
    }
    if (interrupted())
      break;
    const uint64_t later = nowNs();
    if (!found && later - now > kPreempted) {
      pollBudget_.giveWay();
      break;
    }
    now = later;
  }
  for (const Served& served : queues_)
    served.entry.queue->endPoll();
  if (found) {
    service_.counters().pollHits.add();
    pollBudget_.found();
  }
  return found || interrupted();
}

// True: something is there already.
bool Lane::armAll() {
  bool ready = false;
  for (const Served& served : queues_) {
    ready = served.entry.queue->arm() || ready;
  }
  return ready;
}

void Lane::sleep() {
  int timeoutMs = -1;
  for (const Served& served : queues_) {
    if (served.entry.queue->mustPoll())
      timeoutMs = kUnkickedMs;
  }
  service_.counters().sleeps.add();
  std::array<Waiter::Ready, 80> ready;
  const size_t count = port_.waiter().wait(ready, timeoutMs);
  for (size_t i = 0; i < count; i++) {
    for (const Served& served : queues_) {
      if (served.entry.tag == ready[i].tag &&
          !served.entry.queue->acknowledgeKick()) {
        port_.waiter().unwatch(ready[i]);
      }
    }
  }
}

}  // namespace nydus
