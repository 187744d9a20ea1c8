// Requests that wait for the yard: a lane left them open, and whoever has the
// data completes them by ticket, from any thread, in any order, once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "fuse/slot.h"
#include "fuse/transport.h"

namespace nydus {

struct Deferred {
  std::shared_ptr<RequestQueue> queue;
  uint32_t index = 0;
  // What the lane said the reply will be made of; no arena extents.
  std::vector<Extent> extents;
};

class DeferredTable {
 public:
  // What waits takes memory (4 KiB each at most): more than this are refused.
  static constexpr size_t kMax = 16384;

  // False: too many wait already.
  [[nodiscard]] bool add(uint64_t ticket, Deferred deferred);
  // The caller has the request from here on.
  [[nodiscard]] std::optional<Deferred> remove(uint64_t ticket);
  // Forgets what belongs to a queue that has stopped.
  void dropQueue(const RequestQueue* queue);
  [[nodiscard]] size_t size() const;

 private:
  mutable std::mutex lock_;
  std::unordered_map<uint64_t, Deferred> waiting_;
};

}  // namespace nydus
