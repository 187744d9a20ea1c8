#include "sys/large_reads.h"

namespace nydus {
namespace {

// Slower than that (1 GB/s) was no copying: the disk, or another thread on this
// processor.
constexpr uint64_t kNsPerByte = 1;

}  // namespace

void LargeReads::took(Way way, uint64_t bytes, uint64_t ns) noexcept {
  if (bytes != 0 && ns > bytes * kNsPerByte)
    return;
  const std::unique_lock lock(lock_, std::try_to_lock);
  if (!lock.owns_lock())
    return;
  if (settled_ != 0) {
    settled_ -= bytes < settled_ ? bytes : settled_;
    if (settled_ == 0) {
      tried_ = {};
      way_ = Way::kMapped;
    }
    return;
  }
  if (way != way_)
    return;
  Tried& now = tried(way);
  now.bytes += bytes;
  now.ns += ns;
  if (now.bytes < kTrial)
    return;
  if (way == Way::kMapped) {
    way_ = Way::kRead;
    return;
  }
  way_ = tried(Way::kRead).cost() < tried(Way::kMapped).cost() ? Way::kRead
                                                               : Way::kMapped;
  settled_ = kSettled;
}

}  // namespace nydus
