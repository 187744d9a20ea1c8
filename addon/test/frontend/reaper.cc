#include "test/frontend/reaper.h"

#include <poll.h>

#include <utility>

namespace nydus::frontend {

Reaper::Reaper(std::vector<FuseQueue*> queues)
    : queues_(std::move(queues)),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

Reaper::~Reaper() {
  thread_.request_stop();
  wake_.signal();
}

void Reaper::run(const std::stop_token& stop) {
  std::vector<pollfd> fds;
  for (FuseQueue* queue : queues_) {
    // Whatever came before this thread did.
    queue->reap();
    fds.push_back({queue->callFd(), POLLIN, 0});
  }
  fds.push_back({wake_.get(), POLLIN, 0});
  while (!stop.stop_requested()) {
    ::poll(fds.data(), fds.size(), -1);
    for (size_t i = 0; i < queues_.size(); i++) {
      if ((fds[i].revents & POLLIN) != 0) {
        queues_[i]->clearCall();
        queues_[i]->reap();
      }
    }
  }
}

}  // namespace nydus::frontend
