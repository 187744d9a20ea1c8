#include "fuse/lane_port.h"

#include <utility>

namespace nydus {

void LanePort::setQueue(uint32_t tag, std::shared_ptr<RequestQueue> queue) {
  {
    // The old queue dies outside of the lock.
    const std::lock_guard lock(lock_);
    if (queue != nullptr) {
      queues_[tag].swap(queue);
    } else if (const auto old = queues_.find(tag); old != queues_.end()) {
      queue = std::move(old->second);
      queues_.erase(old);
    }
  }
  wake();
}

std::vector<LanePort::Entry> LanePort::queues() const {
  std::vector<Entry> out;
  const std::lock_guard lock(lock_);
  for (const auto& [tag, queue] : queues_)
    out.push_back({tag, queue});
  return out;
}

}  // namespace nydus
