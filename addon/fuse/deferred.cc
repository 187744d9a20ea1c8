#include "fuse/deferred.h"

#include <utility>

namespace nydus {

bool DeferredTable::add(uint64_t ticket, Deferred deferred) {
  const std::lock_guard lock(lock_);
  if (waiting_.size() >= kMax)
    return false;
  waiting_.emplace(ticket, std::move(deferred));
  return true;
}

std::optional<Deferred> DeferredTable::remove(uint64_t ticket) {
  const std::lock_guard lock(lock_);
  const auto found = waiting_.find(ticket);
  if (found == waiting_.end())
    return std::nullopt;
  std::optional<Deferred> out(std::move(found->second));
  waiting_.erase(found);
  return out;
}

void DeferredTable::dropQueue(const RequestQueue* queue) {
  // The last reference to the queue may go with these: not under the lock.
  std::vector<Deferred> dropped;
  const std::lock_guard lock(lock_);
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (it->second.queue.get() == queue) {
      dropped.push_back(std::move(it->second));
      it = waiting_.erase(it);
    } else {
      ++it;
    }
  }
}

size_t DeferredTable::size() const {
  const std::lock_guard lock(lock_);
  return waiting_.size();
}

}  // namespace nydus
