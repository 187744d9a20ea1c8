// The guest's interrupt handler: a thread that takes answers out of the rings
// when their call eventfds are signalled.
#pragma once

#include <stop_token>
#include <thread>
#include <vector>

#include "base/event_fd.h"
#include "test/frontend/fuse_queue.h"

namespace nydus::frontend {

class Reaper {
 public:
  // The queues must live longer.
  explicit Reaper(std::vector<FuseQueue*> queues);
  ~Reaper();
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

 private:
  void run(const std::stop_token& stop);

  const std::vector<FuseQueue*> queues_;
  EventFd wake_;
  std::jthread thread_;  // last: it uses what stands above
};

}  // namespace nydus::frontend
