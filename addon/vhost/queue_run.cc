#include "vhost/queue_run.h"

#include <algorithm>
#include <array>

#include "fuse/abi.h"
#include "sys/fault_guard.h"
#include "vhost/reply_writer.h"

namespace nydus {
Result<std::shared_ptr<QueueRun>> QueueRun::start(const QueueSetup& setup) {
  const auto ring =
      RingMemory::resolve(*setup.memory, setup.addresses, setup.size);
  if (!ring)
    return ring.failure();
  return std::make_shared<QueueRun>(Key(), setup, *ring);
}

QueueRun::QueueRun(Key, const QueueSetup& setup, const RingMemory& ring)
    : queue_(setup.queue),
      eventIndex_(setup.eventIndex),
      counters_(*setup.counters),
      owner_(*setup.owner),
      ring_(ring),
      memory_(setup.memory),
      walker_(setup.indirect),
      inflight_(setup.inflight, setup.queue, setup.size),
      log_(setup.log),
      kick_(setup.kick),
      call_(setup.call),
      error_(setup.error),
      enabled_(setup.enabled),
      lastAvailable_(setup.base),
      used_(ring.usedIndex()),
      pending_(setup.size) {
  InflightQueue::Recovered found = inflight_.recover(used_);
  resumed_ = setup.base != 0 || !found.heads.empty();
  if (found.resumed) {
    resubmit_ = std::move(found.heads);
    lastAvailable_ = static_cast<uint16_t>(used_ + resubmit_.size());
  }
}

size_t QueueRun::take(std::span<Taken> out) {
  const std::lock_guard lock(lock_);
  if (!mayTake())
    return 0;
  const uint64_t faults = FaultGuard::threadFaults();
  std::array<uint16_t, kBatch> heads;
  const size_t count =
      nextHeads(std::span(heads).first(std::min<size_t>(out.size(), kBatch)));

  // In passes, so that the guest's cache lines arrive side by side instead of
  // one after the other.
  for (size_t i = 0; i < count; i++)
    ring_.prefetchDescriptor(heads[i]);
  std::array<Descriptor, kBatch> first;
  for (size_t i = 0; i < count; i++) {
    first[i] = ring_.descriptor(heads[i]);
    walker_.prefetch(*memory_, first[i]);
  }
  size_t followed = 0;
  while (!broken_ && followed < count &&
         follow(heads[followed], first[followed])) {
    prefetchRequest(pending_[heads[followed]].chain);
    followed++;
  }
  size_t taken = 0;
  for (size_t i = 0; i < followed; i++) {
    if (admit(heads[i], out[taken]))
      taken++;
  }
  counters_.requests.bump(taken);
  if (FaultGuard::threadFaults() != faults)
    checkPoison();
  return taken;
}

// The heads of the next chains: first what an earlier back-end left.
size_t QueueRun::nextHeads(std::span<uint16_t> heads) {
  size_t count = 0;
  while (count < heads.size() && resubmitted_ < resubmit_.size()) {
    heads[count++] = resubmit_[resubmitted_++];
  }
  if (count != 0)
    return count;
  const uint16_t ready = waiting();
  if (ready > ring_.size()) {
    breakRing("the available index jumped by more than the ring's size");
    return 0;
  }
  while (count < heads.size() && count < ready) {
    const uint16_t head = ring_.availableHead(lastAvailable_);
    if (head >= ring_.size()) {
      breakRing("an available head is outside the descriptor table");
      return count;
    }
    heads[count++] = head;
    lastAvailable_++;
  }
  return count;
}

// Looks at one chain. False: it broke the ring.
bool QueueRun::follow(uint16_t head, const Descriptor& first) {
  Pending& pending = pending_[head];
  if (pending.state != State::kFree) {
    breakRing("a descriptor chain was made available twice");
    return false;
  }
  if (const char* problem =
          walker_.walk(ring_, *memory_, first, pending.chain)) {
    breakRing(problem);
    return false;
  }
  pending.memory = memory_.pin();
  pending.written = 0;
  pending.state = State::kOpen;
  busy_++;
  inflight_.taken(head);
  return true;
}

// Takes a chain that was followed. False: it needs no answer from above, it was
// answered here.
bool QueueRun::admit(uint16_t head, Taken& out) {
  Pending& pending = pending_[head];
  const Chain& chain = pending.chain;
  out.index = head;
  out.readable = chain.readable;
  out.writable = chain.writable;
  out.copied = static_cast<uint32_t>(
      gather(chain.readSpans(), 0,
             std::span(out.raw).first(std::min(chain.readable, kRawSize))));
  prefetchReply(chain);
  if (out.copied >= kInHeaderSize) {
    pending.unique = loadLe<InHeader>(out.raw).unique;
    if (!chain.readFault && !chain.writeFault)
      return true;
    counters_.faults.bump();
    if (chain.writable >= kOutHeaderSize) {
      pending.written = writeError(chain.writeSpans(), pending.unique, -EIO);
    }
  } else {
    counters_.dropped.bump();
  }
  const uint32_t index = head;
  putBack({&index, 1});
  interrupt();
  return false;
}

void QueueRun::breakRing(const std::string& reason) {
  if (broken_)
    return;
  settle();
  broken_ = true;
  counters_.broken.bump();
  if (error_ != nullptr)
    error_->signal();
  owner_.queueBroken(queue_, reason);
}

void QueueRun::checkPoison() {
  if (memory_->poisoned()) {
    breakRing(
        "the front-end took guest memory away (a file that it shared "
        "became shorter)");
  }
}

size_t QueueRun::readMore(uint32_t index,
                          size_t offset,
                          std::span<std::byte> to) {
  return gather(pending_[index].chain.readSpans(), offset, to);
}

uint64_t QueueRun::claim(std::span<const uint32_t> indices) {
  const std::lock_guard lock(lock_);
  uint64_t mask = 0;
  if (closed_)
    return mask;
  for (size_t i = 0; i < indices.size(); i++) {
    Pending& pending = pending_[indices[i]];
    if (pending.state != State::kOpen)
      continue;
    pending.state = State::kClaimed;
    mask |= uint64_t{1} << i;
  }
  return mask;
}

bool QueueRun::write(uint32_t index,
                     int32_t error,
                     std::span<const Piece> body,
                     Assistant* assistant) {
  Pending& pending = pending_[index];
  const Chain& chain = pending.chain;
  if (chain.writable < kOutHeaderSize)
    return false;
  if (error == 0) {
    uint64_t length = kOutHeaderSize;
    for (const Piece& piece : body)
      length += piece.length;
    if (length <= chain.writable) {
      pending.written =
          writeReply(chain.writeSpans(), pending.unique, body, assistant);
      if (pending.written != 0)
        return true;
    }
    error = -EIO;
    pending.written = writeError(chain.writeSpans(), pending.unique, error);
    return false;
  }
  pending.written = writeError(chain.writeSpans(), pending.unique, error);
  return true;
}

size_t QueueRun::publish(std::span<const uint32_t> indices) {
  const std::lock_guard lock(lock_);
  if (!indices.empty()) {
    putBack(indices);
    owed_ = true;
  }
  return mayTake() ? waiting() : 0;
}

void QueueRun::tell() {
  const std::lock_guard lock(lock_);
  settle();
}

void QueueRun::finish(std::span<const uint32_t> indices) {
  const std::lock_guard lock(lock_);
  putBack(indices);
  interrupt();
}

// The chain's buffers belong to the guest again.
void QueueRun::handBack(uint16_t head) {
  Pending& pending = pending_[head];
  pending.state = State::kFree;
  memory_.unpin(pending.memory);
  if (--busy_ == 0)
    idle_.notify_all();
}

void QueueRun::putBack(std::span<const uint32_t> heads) {
  if (closed_ || !ring_.valid()) {
    for (const uint32_t index : heads)
      handBack(static_cast<uint16_t>(index));
    return;
  }
  const DirtyLog* log = log_.get();
  const uint64_t faults = FaultGuard::threadFaults();
  uint64_t bytes = 0;
  for (const uint32_t index : heads) {
    const auto head = static_cast<uint16_t>(index);
    const Pending& pending = pending_[head];
    if (log != nullptr) {
      uint32_t left = pending.written;
      for (const BufferSpan& span : pending.chain.writeSpans()) {
        if (left == 0)
          break;
        const uint32_t n = std::min(left, span.length);
        log->mark(span.gpa, n);
        left -= n;
      }
    }
    bytes += pending.written;
    ring_.putUsed(used_++, head, pending.written, log);
    inflight_.finishing(head);
  }
  ring_.publishUsed(used_, log);
  for (const uint32_t index : heads) {
    inflight_.finished(static_cast<uint16_t>(index));
    handBack(static_cast<uint16_t>(index));
  }
  inflight_.settled(used_);
  counters_.completions.bump(heads.size());
  counters_.bytes.bump(bytes);
  if (FaultGuard::threadFaults() != faults)
    checkPoison();
}

// Interrupts the guest, if it wants that.
void QueueRun::interrupt() {
  owed_ = false;
  if (closed_ || !ring_.valid())
    return;
  // The index before the look at what the guest wants: else both may miss.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  bool signal = true;
  if (eventIndex_) {
    const auto distance = static_cast<uint16_t>(used_ - ring_.usedEvent() - 1);
    signal = !signalledValid_ ||
             distance < static_cast<uint16_t>(used_ - signalled_);
    signalled_ = used_;
    signalledValid_ = true;
  } else {
    signal = (ring_.availableFlags() & kAvailNoInterrupt) == 0;
  }
  if (signal && call_ != nullptr) {
    call_->signal();
    counters_.interrupts.bump();
  }
}

void QueueRun::beginPoll() {
  const std::lock_guard lock(lock_);
  settle();
  if (!mayTake())
    return;
  pollMemory_ = memory_.shared();
  pollIndex_ = ring_.availableIndexAddress();
  pollLast_ = lastAvailable_;
}

bool QueueRun::pollReady() {
  return pollIndex_ != nullptr &&
         __atomic_load_n(pollIndex_, __ATOMIC_RELAXED) != pollLast_;
}

void QueueRun::endPoll() {
  pollIndex_ = nullptr;
  pollMemory_.reset();
}

bool QueueRun::arm() {
  const std::lock_guard lock(lock_);
  settle();
  if (!mayTake())
    return false;
  armed_ = true;
  if (eventIndex_) {
    ring_.setAvailableEvent(lastAvailable_, log_.get());
  } else {
    ring_.setUsedFlags(0, log_.get());
  }
  // Our wish before the look for work: else both may miss.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return ring_.availableIndex() != lastAvailable_ ||
         resubmitted_ < resubmit_.size();
}

void QueueRun::disarm() {
  const std::lock_guard lock(lock_);
  if (!armed_ || !mayTake())
    return;
  armed_ = false;
  // With EVENT_IDX, an available event that lies behind says the same.
  if (!eventIndex_)
    ring_.setUsedFlags(kUsedNoNotify, log_.get());
}

bool QueueRun::acknowledgeKick() {
  const std::lock_guard lock(lock_);
  counters_.kicks.bump();
  // A run that has ended has none: the tag may be another's already.
  return kick_ == nullptr || kick_->drain();
}

bool QueueRun::mustPoll() {
  const std::lock_guard lock(lock_);
  return kick_ == nullptr && mayTake();
}

}  // namespace nydus
