// The thread of queues that need no lane: the hiprio queue with its FORGETs.
// It goes on whatever the lanes are stuck in.
#pragma once

#include <array>
#include <memory>
#include <thread>

#include "fuse/fuse_service.h"
#include "fuse/lane_port.h"
#include "fuse/native_answers.h"
#include "fuse/slot.h"

namespace nydus {

class NativeLoop {
 public:
  // Serves the queues of `port`; both outlive the loop.
  NativeLoop(FuseService& service, LanePort& port);
  // Stops the port and waits for the thread.
  ~NativeLoop();

 private:
  void run();
  bool serve(RequestQueue& queue);

  LanePort& port_;
  NativeAnswers natives_;
  std::array<Taken, kBatch> taken_;
  Slot scratch_;
  std::jthread thread_;
};

}  // namespace nydus
