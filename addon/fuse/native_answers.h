// Requests of one queue that native code answers itself: FORGET, errors, and
// what can have no answer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "fuse/decode.h"
#include "fuse/fuse_service.h"
#include "fuse/transport.h"

namespace nydus {

class NativeAnswers {
 public:
  explicit NativeAnswers(FuseService& service) : service_(service) {}

  // `verdict` is not kLane. At most kBatch before the next flush, all of one
  // queue; `request` must stay where it is until then.
  void add(const Taken& request, const Verdict& verdict) noexcept;
  // Does what the verdicts say, and hands all of them back.
  void flush(RequestQueue& queue);

 private:
  void carryOut(RequestQueue& queue,
                const Taken& request,
                const Verdict& verdict);
  void forgetMany(RequestQueue& queue, const Taken& request);
  void forget(uint64_t nodeid, uint64_t count);

  FuseService& service_;
  size_t count_ = 0;
  std::array<uint32_t, kBatch> indices_;
  std::array<const Taken*, kBatch> requests_;
  std::array<Verdict, kBatch> verdicts_;
};

}  // namespace nydus
