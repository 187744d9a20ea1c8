// The control thread's side of a queue run.
#include <utility>

#include "fuse/abi.h"
#include "vhost/queue_run.h"
#include "vhost/reply_writer.h"

namespace nydus {

void QueueRun::setEnabled(bool enabled) {
  const std::lock_guard lock(lock_);
  settle();
  enabled_ = enabled;
}

void QueueRun::setKick(PeerSignal::Ptr kick) {
  const std::lock_guard lock(lock_);
  kick_ = std::move(kick);
}

void QueueRun::setCall(PeerSignal::Ptr call) {
  const std::lock_guard lock(lock_);
  call_ = std::move(call);
}

void QueueRun::setError(PeerSignal::Ptr error) {
  const std::lock_guard lock(lock_);
  error_ = std::move(error);
}

void QueueRun::setLog(std::shared_ptr<const DirtyLog> log) {
  const std::lock_guard lock(lock_);
  log_ = std::move(log);
}

void QueueRun::setUsedLog(bool logUsed, uint64_t address) {
  const std::lock_guard lock(lock_);
  ring_.setUsedLog(logUsed, address);
}

void QueueRun::setMemory(GuestMemory::Table memory) {
  const std::lock_guard lock(lock_);
  const auto ring = ring_.movedTo(*memory);
  // From here on only requests in flight pin the old table.
  memory_.replace(std::move(memory));
  if (ring) {
    ring_ = *ring;
  } else if (ring_.valid()) {
    ring_ = RingMemory();
    breakRing("the ring is not in the new memory table: " + ring.reason());
  }
}

bool QueueRun::broken() const {
  const std::lock_guard lock(lock_);
  return broken_;
}

void QueueRun::beginStop() {
  const std::lock_guard lock(lock_);
  settle();
  stopping_ = true;
}

bool QueueRun::waitIdle(std::chrono::milliseconds limit) {
  std::unique_lock lock(lock_);
  return idle_.wait_for(lock, limit, [&] { return busy_ == 0; });
}

size_t QueueRun::failOpen() {
  const std::lock_guard lock(lock_);
  if (closed_)
    return 0;
  size_t count = 0;
  for (uint32_t head = 0; head < pending_.size(); head++) {
    Pending& pending = pending_[head];
    if (pending.state != State::kOpen)
      continue;
    if (pending.chain.writable >= kOutHeaderSize) {
      pending.written =
          writeError(pending.chain.writeSpans(), pending.unique, -EIO);
    }
    putBack({&head, 1});
    count++;
  }
  if (count != 0)
    interrupt();
  return count;
}

uint16_t QueueRun::close() {
  const std::lock_guard lock(lock_);
  settle();
  closed_ = true;
  for (uint32_t head = 0; head < pending_.size(); head++) {
    if (pending_[head].state == State::kOpen) {
      handBack(static_cast<uint16_t>(head));
    }
  }
  kick_.reset();
  call_.reset();
  error_.reset();
  log_.reset();
  return lastAvailable_;
}

}  // namespace nydus
