#include "fuse/lane.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "fuse/abi.h"
#include "fuse/decode.h"

namespace nydus {
namespace {

// Completions between two publications: the guest can go on with the first
// while we copy the others. Every 4 was measured best (docs/performance.md), or
// one that takes as long to copy as a guest to wake up.
constexpr size_t kPublishEvery = 4;
constexpr uint64_t kLargeReply = 256 << 10;

}  // namespace

Lane::Lane(FuseService& service, LanePort& port, std::span<std::byte> ring)
    : service_(service),
      port_(port),
      ring_(ring),
      natives_(service),
      pollBudget_(service.pollUs()) {}

Lane::~Lane() {
  service_.counters().orphans.add(batch_);
  finishBatch(0);
  tellAll();
  port_.detach();
}

int Lane::turn(uint32_t completed) {
  service_.counters().turns.add();
  deferred_ = false;
  finishBatch(completed);
  for (;;) {
    if (port_.stopped()) {
      tellAll();
      return -1;
    }
    if (port_.takeMail()) {
      tellAll();
      busySince_ = 0;
      return 0;
    }
    refreshQueues();
    const bool took = fill();
    if (batch_ != 0)
      return static_cast<int>(batch_);
    // What was taken may have been for native code only.
    if (took)
      continue;
    // The lane tells the yard what to fetch once the batch is handed over, so
    // it cannot be kept waiting for another request.
    tellAll();
    if (deferred_)
      return 0;
    waitForWork();
  }
}

void Lane::finishBatch(uint32_t completed) {
  if (batch_ == 0)
    return;
  settled_ = 0;
  size_t begin = 0;
  while (begin < batch_) {
    size_t end = begin + 1;
    while (end < batch_ && open_[end].queue == open_[begin].queue)
      end++;
    finishRun(begin, end, completed);
    begin = end;
  }
  pace();
  batch_ = 0;
  body_.releaseFiles();
}

// Slots of one queue, in a row.
void Lane::finishRun(size_t begin, size_t end, uint32_t completed) {
  Served& served = queues_[open_[begin].queueAt];
  RequestQueue& queue = *open_[begin].queue;
  std::array<uint32_t, kBatch> indices;
  std::array<size_t, kBatch> slots;
  size_t count = 0;
  for (size_t i = begin; i < end; i++) {
    if (i < completed && slotAt(i).status == 0 &&
        slotAt(i).kind == kReplyDeferred && defer(i)) {
      continue;
    }
    indices[count] = open_[i].index;
    slots[count++] = i;
  }
  settled_ += end - begin - count;
  const uint64_t mine = queue.claim(std::span(indices).first(count));
  std::array<uint32_t, kPublishEvery> done;
  size_t doneCount = 0;
  for (size_t i = 0; i < count; i++) {
    settled_++;
    uint64_t bytes = 0;
    if ((mine >> i & 1) != 0) {
      bytes = answer(slots[i], slots[i] < completed);
      done[doneCount++] = indices[i];
    }
    if (doneCount == done.size() || bytes >= kLargeReply || i + 1 == count) {
      giveBack(served, std::span(done).first(doneCount));
      doneCount = 0;
    }
  }
}

void Lane::giveBack(Served& served, std::span<const uint32_t> done) {
  if (done.empty())
    return;
  settleLookups();
  served.waiting = served.entry.queue->publish(done);
  served.owed = true;
  if (pacing_.slow() && settled_ < batch_ &&
      pacing_.due(nowNs(), left(), queues_.size()))
    tellAll();
}

// After a batch.
void Lane::pace() {
  const size_t open = left();
  if (open == 0) {
    tellAll();
    return;
  }
  const uint64_t now = nowNs();
  if (busySince_ != 0)
    pacing_.answered(batch_, now - busySince_);
  busySince_ = now;
  if (pacing_.due(now, open, queues_.size()))
    tellAll();
}

// Of several queues at once: waking up a guest that is on its way costs little.
void Lane::tellAll() {
  for (Served& served : queues_) {
    if (served.owed)
      served.entry.queue->tell();
    served.owed = false;
  }
  pacing_.told();
}

// Requests that are to be done still, if the guests are honest.
size_t Lane::left() const noexcept {
  size_t count = batch_ - settled_;
  for (const Served& served : queues_)
    count += served.waiting;
  return count;
}

// Returns the bytes of the reply.
uint64_t Lane::answer(size_t slot, bool answered) {
  const Open& open = open_[slot];
  Effect effect;
  body_.clear();
  int32_t error = answered ? buildBody(slot, effect) : -EIO;
  const bool large = effect.bytes >= LargeReads::kLarge;
  const uint64_t begun = large ? nowNs() : 0;
  if (!open.queue->write(open.index, error, body_.pieces(),
                         &service_.assistant())) {
    service_.counters().readErrors.add();
    error = -EIO;
  } else if (large) {
    body_.copied(effect.bytes, nowNs() - begun);
  }
  if (open.opcode == FUSE_INIT) {
    if (error == 0) {
      service_.session().ready(open.epoch);
    } else if (service_.session().epoch() == open.epoch) {
      service_.session().end();
    }
  } else if (error == 0 && effect.lookups != 0) {
    count(open.epoch, effect);
  }
  return effect.bytes;
}

// Replies that follow each other mostly lead to the same mount: one locked
// instruction for all of them.
void Lane::count(Session::Epoch epoch, const Effect& effect) {
  if (lookups_.epoch != epoch || lookups_.slot != effect.lookupSlot) {
    settleLookups();
    lookups_ = {epoch, effect.lookupSlot, 0};
  }
  lookups_.count += effect.lookups;
}

// Before the guest can see the replies, and forget what it was given.
void Lane::settleLookups() {
  if (lookups_.count == 0)
    return;
  service_.session().addLookups(lookups_.epoch, lookups_.slot, lookups_.count);
  lookups_.count = 0;
}

// Reads the reply that a slot holds; returns 0 or a negative errno.
int32_t Lane::buildBody(size_t slot, Effect& effect) {
  const Slot& reply = slotAt(slot);
  const int32_t status = reply.status;
  if (status < 0 && status >= kLowestError)
    return status;
  const uint32_t kind = reply.kind;
  const uint32_t length = reply.length;
  const uint32_t extentCount = reply.extentCount;
  effect.lookups = reply.lookups;
  effect.lookupSlot = reply.lookupSlot;
  uint64_t total = 0;
  bool usable = status == 0;
  if (usable && kind == kReplyInline && length <= kInlineSize) {
    body_.addBytes({reply.body, length});
    total = length;
  } else if (usable && kind == kReplyExtents && extentCount <= kMaxExtents) {
    const Extent* extents = extentsOf(slot);
    for (uint32_t i = 0; i < extentCount && usable; i++) {
      const Extent extent = extents[i];
      total += extent.length;
      usable = body_.addExtent(extent, arena());
    }
  } else if (usable && kind == kReplyDeferred) {
    // The table of deferred requests is full.
    return -EIO;
  } else {
    usable = false;
  }
  if (!usable) {
    service_.counters().badReplies.add();
    return -EIO;
  }
  if (total > open_[slot].writable) {
    // GETXATTR and LISTXATTR report a short buffer; all others ask for less
    // than their buffer, so the reply is wrong.
    if (open_[slot].opcode == FUSE_GETXATTR ||
        open_[slot].opcode == FUSE_LISTXATTR) {
      return -ERANGE;
    }
    service_.counters().badReplies.add();
    return -EIO;
  }
  effect.bytes = total;
  return 0;
}

// Hands a request over to the table of those that wait. False: it must be
// answered like any other.
bool Lane::defer(size_t slot) {
  const Open& open = open_[slot];
  const uint32_t count = slotAt(slot).extentCount;
  Deferred deferred;
  deferred.queue = queues_[open.queueAt].entry.queue;
  deferred.index = open.index;
  if (count <= kMaxExtents) {
    deferred.extents.assign(extentsOf(slot), extentsOf(slot) + count);
  }
  if (!service_.deferred().add(open.ticket, std::move(deferred))) {
    service_.counters().deferredRefused.add();
    return false;
  }
  service_.counters().deferred.add();
  deferred_ = true;
  return true;
}

void Lane::refreshQueues() {
  const uint64_t changes = port_.changes();
  if (changes == seenChanges_)
    return;
  seenChanges_ = changes;
  tellAll();
  queues_.clear();
  for (LanePort::Entry& entry : port_.queues()) {
    entry.queue->disarm();
    queues_.push_back({.entry = std::move(entry)});
  }
}

// Takes from all queues until the batch is full.
bool Lane::fill() {
  const size_t count = queues_.size();
  bool took = false;
  for (size_t i = 0; i < count && batch_ < kBatch; i++) {
    const size_t at = (next_ + i) % count;
    Served& served = queues_[at];
    RequestQueue& queue = *served.entry.queue;
    const size_t room = kBatch - batch_;
    const size_t taken = queue.take(std::span(taken_).first(room));
    // One that gave less than there was room for has no more.
    served.waiting =
        taken == room ? served.waiting - std::min(taken, served.waiting) : 0;
    for (size_t k = 0; k < taken; k++)
      accept(queue, at, taken_[k]);
    natives_.flush(queue);
    took = took || taken != 0;
  }
  if (count != 0)
    next_ = (next_ + 1) % count;
  if (batch_ == 0)
    return took;
  const uint64_t ticket = service_.tickets(batch_);
  for (size_t i = 0; i < batch_; i++) {
    open_[i].ticket = ticket + i;
    slotAt(i).ticket = static_cast<double>(ticket + i);
  }
  return took;
}

void Lane::accept(RequestQueue& queue, size_t queueAt, const Taken& request) {
  Session& session = service_.session();
  Slot& slot = slotAt(batch_);
  const Verdict verdict = decode(request, session.accepts(), slot);
  if (verdict.action != Action::kLane) {
    natives_.add(request, verdict);
    return;
  }
  Open& open = open_[batch_];
  open.queue = &queue;
  open.queueAt = queueAt;
  open.index = request.index;
  open.opcode = slot.opcode;
  open.writable = slot.writable;
  if (open.opcode == FUSE_INIT) {
    open.epoch = session.begin();
  } else {
    if (open.opcode == FUSE_DESTROY)
      session.end();
    open.epoch = session.epoch();
  }
  batch_++;
}

}  // namespace nydus
