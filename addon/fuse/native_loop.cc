#include "fuse/native_loop.h"

#include <pthread.h>

#include <cerrno>
#include <vector>

#include "fuse/decode.h"

namespace nydus {

NativeLoop::NativeLoop(FuseService& service, LanePort& port)
    : port_(port), natives_(service), thread_([this] { run(); }) {}

NativeLoop::~NativeLoop() {
  port_.stop();
}

void NativeLoop::run() {
  ::pthread_setname_np(::pthread_self(), "nydus-hiprio");
  uint64_t seen = 0;
  std::vector<LanePort::Entry> queues;
  while (!port_.stopped()) {
    if (port_.changes() != seen) {
      seen = port_.changes();
      queues = port_.queues();
    }
    bool busy = false;
    bool unkicked = false;
    for (const LanePort::Entry& entry : queues) {
      busy = serve(*entry.queue) || busy;
    }
    for (const LanePort::Entry& entry : queues) {
      busy = entry.queue->arm() || busy;
      unkicked = unkicked || entry.queue->mustPoll();
    }
    if (busy)
      continue;
    std::array<Waiter::Ready, 4> ready;
    const size_t count = port_.waiter().wait(ready, unkicked ? 1 : -1);
    for (size_t i = 0; i < count; i++) {
      for (const LanePort::Entry& entry : queues) {
        if (entry.tag == ready[i].tag && !entry.queue->acknowledgeKick()) {
          port_.waiter().unwatch(ready[i]);
        }
      }
    }
  }
}

bool NativeLoop::serve(RequestQueue& queue) {
  const size_t taken = queue.take(taken_);
  for (size_t i = 0; i < taken; i++) {
    // virtio 1.2 §5.11.6.2: FORGET and INTERRUPT only; others are refused.
    Verdict verdict = decode(taken_[i], true, scratch_);
    if (verdict.action == Action::kLane)
      verdict = {Action::kError, -EIO, true};
    natives_.add(taken_[i], verdict);
  }
  natives_.flush(queue);
  return taken != 0;
}

}  // namespace nydus
