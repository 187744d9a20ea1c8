#include "fuse/fuse_service.h"

#include <cerrno>
#include <optional>

#include "fuse/abi.h"
#include "fuse/reply_body.h"

namespace nydus {

bool FuseService::completeDeferred(uint64_t ticket,
                                   int32_t status,
                                   std::span<const Extent> extents) {
  const std::optional<Deferred> request = deferred_.remove(ticket);
  if (!request) {
    counters_.deferredGone.add();
    return false;
  }
  RequestQueue& queue = *request->queue;
  if (queue.claim({&request->index, 1}) == 0) {
    counters_.deferredGone.add();
    return false;
  }
  ReplyBody body;
  if (status > 0 || status < kLowestError)
    status = -EIO;
  for (const Extent& extent :
       extents.empty() ? std::span<const Extent>(request->extents) : extents) {
    if (status != 0)
      break;
    if (!body.addExtent(extent, {})) {
      counters_.badReplies.add();
      status = -EIO;
    }
  }
  // Alone: while chunks are fetched, other threads have more use for a
  // processor.
  if (!queue.write(request->index, status, body.pieces())) {
    counters_.readErrors.add();
  }
  queue.finish({&request->index, 1});
  counters_.deferredDone.add();
  return true;
}

}  // namespace nydus
