#include "fuse/native_answers.h"

#include <algorithm>
#include <span>

#include "base/bytes.h"
#include "fuse/abi.h"

namespace nydus {
namespace {

// fuse_batch_forget_in and fuse_forget_one.
struct BatchForget {
  uint32_t count;
  uint32_t padding;
};
static_assert(sizeof(BatchForget) == 8);
struct ForgetOne {
  uint64_t nodeid;
  uint64_t lookups;
};
static_assert(sizeof(ForgetOne) == 16);

}  // namespace

void NativeAnswers::add(const Taken& request, const Verdict& verdict) noexcept {
  indices_[count_] = request.index;
  requests_[count_] = &request;
  verdicts_[count_] = verdict;
  count_++;
}

void NativeAnswers::flush(RequestQueue& queue) {
  if (count_ == 0)
    return;
  const uint64_t mine = queue.claim(std::span(indices_).first(count_));
  size_t kept = 0;
  for (size_t i = 0; i < count_; i++) {
    if ((mine >> i & 1) == 0)
      continue;
    carryOut(queue, *requests_[i], verdicts_[i]);
    indices_[kept++] = indices_[i];
  }
  if (kept != 0)
    queue.finish(std::span(indices_).first(kept));
  count_ = 0;
}

void NativeAnswers::carryOut(RequestQueue& queue,
                             const Taken& request,
                             const Verdict& verdict) {
  if (verdict.malformed)
    service_.counters().malformed.add();
  switch (verdict.action) {
    case Action::kForget:
      forget(loadLe<InHeader>(request.raw).nodeid,
             loadLe<uint64_t>(request.raw + kInHeaderSize));
      break;
    case Action::kBatchForget:
      forgetMany(queue, request);
      break;
    case Action::kError:
      queue.write(request.index, verdict.error, {});
      [[fallthrough]];
    default:
      service_.counters().nativeAnswers.add();
  }
}

void NativeAnswers::forget(uint64_t nodeid, uint64_t count) {
  service_.counters().forgets.add();
  const uint64_t tooMany = service_.session().forget(nodeid, count);
  if (tooMany != 0)
    service_.counters().forgetsTooMany.add(tooMany);
}

void NativeAnswers::forgetMany(RequestQueue& queue, const Taken& request) {
  const uint32_t length =
      loadLe<InHeader>(request.raw).len - kInHeaderSize - sizeof(BatchForget);
  uint64_t left =
      std::min<uint64_t>(loadLe<BatchForget>(request.raw + kInHeaderSize).count,
                         length / sizeof(ForgetOne));
  size_t offset = kInHeaderSize + sizeof(BatchForget);
  std::array<ForgetOne, 64> part;
  while (left > 0) {
    const size_t want = std::min<uint64_t>(left, part.size());
    const auto bytes = std::as_writable_bytes(std::span(part).first(want));
    const size_t got = queue.readMore(request.index, offset, bytes);
    for (size_t i = 0; i < got / sizeof(ForgetOne); i++) {
      forget(part[i].nodeid, part[i].lookups);
    }
    if (got < bytes.size())
      return;
    offset += got;
    left -= want;
  }
}

}  // namespace nydus
