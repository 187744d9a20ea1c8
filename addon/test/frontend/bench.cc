#include "test/frontend/bench.h"

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "base/waiter.h"
#include "fuse/abi.h"
#include "test/frontend/bench_slot.h"

namespace nydus::frontend {
namespace {

// A device that answers nothing for so long has lost a request.
constexpr uint64_t kStalledAfter = 10'000'000'000;
// Between two looks without an interrupt.
constexpr int kLookMs = 100;

uint64_t now() noexcept {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(
          std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

// Cold reads are so far apart: no two of them are of the same chunk.
constexpr uint64_t kColdStride = 1 << 20;
// From one cold read to the next, in strides; prime, so that all places come
// up, and no server takes it for a sequence.
constexpr uint64_t kColdStep = 37;

void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Bench {
 public:
  Bench(GuestSpace& space,
        const std::vector<FuseQueue*>& queues,
        const BenchOptions& options);

  BenchResult run();

 private:
  // What one queue has of this load.
  struct Lane {
    FuseQueue* queue;
    std::vector<std::unique_ptr<BenchSlot>> slots;
    std::vector<BenchSlot*> byHead;
    // Answered and not sent again yet.
    std::vector<BenchSlot*> done;
    FuseQueue::Owner owner;
    uint64_t kicks;
    uint64_t interrupts;
    // It is looked at; else it was asked for an interrupt.
    bool awake = true;
  };

  uint64_t random() noexcept {
    // Knuth's MMIX generator; its high bits are good.
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    return random_ >> 33;
  }
  const BenchTarget& anyTarget() noexcept {
    return options_.targets[random() % options_.targets.size()];
  }

  void prepare(BenchSlot& slot) noexcept;
  void prepareRead(BenchSlot& slot) noexcept;
  void prepareSequential(BenchSlot& slot) noexcept;
  void prepareWalk(BenchSlot& slot) noexcept;
  void take(BenchSlot& slot, uint32_t usedLength) noexcept;
  void send(Lane& lane) noexcept;
  // True when something was answered.
  bool pass(Lane& lane, bool sendAgain) noexcept;
  // False: something came meanwhile.
  bool fallAsleep(Lane& lane) noexcept;
  void waitForCall() noexcept;

  const BenchOptions& options_;
  std::vector<Lane> lanes_;
  Waiter calls_;
  BenchResult result_;
  uint64_t random_;
  uint64_t unique_ = 0;
  size_t inFlight_ = 0;
  // Sequential reads: where the next begins. READDIRPLUS: the next folder.
  size_t nextTarget_ = 0;
  uint64_t nextOffset_ = 0;
  // kRead: how many there were.
  uint64_t reads_ = 0;
};

Bench::Bench(GuestSpace& space,
             const std::vector<FuseQueue*>& queues,
             const BenchOptions& options)
    : options_(options), random_(options.seed) {
  if (queues.empty() || options.depth == 0 || options.targets.empty()) {
    throw std::invalid_argument("a load needs queues, a depth and targets");
  }
  for (const BenchTarget& target : options.targets) {
    if ((options.kind == BenchKind::kRead ||
         options.kind == BenchKind::kSequential) &&
        (target.size < options.size || options.size == 0)) {
      throw std::invalid_argument("a target is shorter than one read");
    }
    if (options.coldEvery != 0 &&
        (options.size > options.coldFrom || options.size > kColdStride ||
         target.size < options.coldFrom + kColdStride)) {
      throw std::invalid_argument("a target has no place for cold reads");
    }
  }
  for (FuseQueue* queue : queues) {
    if (!queue->options().indirect) {
      throw std::invalid_argument("a load needs indirect descriptors");
    }
    lanes_.push_back(
        {queue, {}, {}, {}, {}, queue->kicks(), queue->interrupts()});
    lanes_.back().byHead.resize(queue->options().size);
    calls_.watch(static_cast<uint32_t>(lanes_.size() - 1), queue->callFd());
  }
  for (uint32_t i = 0; i < options.depth; i++) {
    Lane& lane = lanes_[i % lanes_.size()];
    auto slot = std::make_unique<BenchSlot>(space, *lane.queue, options);
    lane.byHead[slot->head()] = slot.get();
    lane.done.push_back(slot.get());
    // Walks start at different folders.
    slot->folder = i % options.targets.size();
    lane.slots.push_back(std::move(slot));
  }
  nextTarget_ = options.kind == BenchKind::kReaddirplus
                    ? options.depth % options.targets.size()
                    : 0;
}

void Bench::prepareRead(BenchSlot& slot) noexcept {
  const BenchTarget& target = anyTarget();
  uint64_t from = 0;
  uint64_t bytes = target.size;
  if (options_.coldEvery != 0) {
    bytes = options_.coldFrom;
    const uint64_t strides = (target.size - options_.coldFrom) / kColdStride;
    if (++reads_ % options_.coldEvery == 0 &&
        reads_ / options_.coldEvery <= strides) {
      from = options_.coldFrom +
             reads_ / options_.coldEvery * kColdStep % strides * kColdStride;
      bytes = kColdStride;
    }
  }
  slot.read(unique_, FUSE_READ, target,
            from + random() % (bytes / options_.size) * options_.size);
}

void Bench::prepareSequential(BenchSlot& slot) noexcept {
  const BenchTarget& target = options_.targets[nextTarget_];
  slot.read(unique_, FUSE_READ, target, nextOffset_);
  nextOffset_ += options_.size;
  if (nextOffset_ + options_.size > target.size) {
    nextOffset_ = 0;
    nextTarget_ = (nextTarget_ + 1) % options_.targets.size();
  }
}

void Bench::prepareWalk(BenchSlot& slot) noexcept {
  slot.read(unique_, FUSE_READDIRPLUS, options_.targets[slot.folder],
            slot.cookie);
}

void Bench::prepare(BenchSlot& slot) noexcept {
  unique_ += 2;
  switch (options_.kind) {
    case BenchKind::kRead:
      prepareRead(slot);
      break;
    case BenchKind::kSequential:
      prepareSequential(slot);
      break;
    case BenchKind::kGetattr:
      slot.getattr(unique_, anyTarget());
      break;
    case BenchKind::kLookup:
      slot.lookup(unique_, anyTarget());
      break;
    case BenchKind::kStat:
      if (unique_ % 4 == 0) {
        slot.getattr(unique_, anyTarget());
      } else {
        slot.lookup(unique_, anyTarget());
      }
      break;
    case BenchKind::kReaddirplus:
      prepareWalk(slot);
      break;
  }
}

void Bench::take(BenchSlot& slot, uint32_t usedLength) noexcept {
  result_.ops++;
  if (usedLength != slot.replyLength()) {
    result_.wrongUsedLengths++;
  }
  const int64_t length = slot.bodyLength();
  const bool reads = options_.kind == BenchKind::kRead ||
                     options_.kind == BenchKind::kSequential;
  if (length < 0 || (reads && length != options_.size)) {
    result_.errors++;
    return;
  }
  result_.bytes += static_cast<uint64_t>(length);
  if (options_.kind != BenchKind::kReaddirplus) {
    return;
  }
  slot.cookie =
      length == 0 ? 0 : slot.lastCookie(static_cast<uint32_t>(length));
  if (length == 0) {
    slot.folder = nextTarget_;
    nextTarget_ = (nextTarget_ + 1) % options_.targets.size();
  }
}

// As Linux does, each request is published by itself (virtqueue_add in
// drivers/virtio/virtio_ring.c): the device may begin while the next is made.
void Bench::send(Lane& lane) noexcept {
  for (BenchSlot* slot : lane.done) {
    prepare(*slot);
    slot->sentAt = now();
    lane.queue->ring().expose(slot->head());
    if (lane.queue->ring().publish()) {
      lane.queue->kick();
    }
  }
  inFlight_ += lane.done.size();
  lane.done.clear();
}

bool Bench::pass(Lane& lane, bool sendAgain) noexcept {
  const std::lock_guard lock(lane.queue->lock());
  const size_t count = lane.queue->drain(lane.owner);
  if (!lane.done.empty() && count > 0) {
    const uint64_t arrivedAt = now();
    for (const BenchSlot* slot : lane.done) {
      result_.latencies.add(arrivedAt - slot->sentAt);
    }
    inFlight_ -= lane.done.size();
  }
  if (sendAgain) {
    send(lane);
  } else {
    lane.done.clear();
  }
  return count > 0;
}

// As drivers do: each queue has an interrupt of its own, which is wanted only
// while nothing looks at the queue.
bool Bench::fallAsleep(Lane& lane) noexcept {
  const std::lock_guard lock(lane.queue->lock());
  lane.awake = !lane.queue->ring().enableInterrupts();
  return !lane.awake;
}

void Bench::waitForCall() noexcept {
  std::array<Waiter::Ready, 80> ready;
  const size_t count = calls_.wait(ready, kLookMs);
  for (Lane& lane : lanes_)
    lane.awake = count == 0;
  for (size_t i = 0; i < count; i++) {
    Lane& lane = lanes_[ready[i].tag];
    lane.awake = true;
    lane.queue->clearCall();
    const std::lock_guard lock(lane.queue->lock());
    lane.queue->ring().disableInterrupts();
  }
}

BenchResult Bench::run() {
  for (Lane& lane : lanes_) {
    lane.owner = [this, &lane](const UsedElement& element) {
      BenchSlot* slot =
          element.id < lane.byHead.size() ? lane.byHead[element.id] : nullptr;
      if (slot == nullptr) {
        return false;
      }
      take(*slot, element.length);
      lane.done.push_back(slot);
      return true;
    };
    const std::lock_guard lock(lane.queue->lock());
    if (options_.poll) {
      lane.queue->ring().disableInterrupts();
    }
    // Interrupts that came for earlier requests are not ours.
    lane.queue->clearCall();
    lane.interrupts = lane.queue->interrupts();
  }
  const uint64_t start = now();
  const uint64_t end = start + static_cast<uint64_t>(options_.seconds * 1e9);
  for (Lane& lane : lanes_) {
    const std::lock_guard lock(lane.queue->lock());
    send(lane);
  }
  uint64_t progressAt = start;
  uint64_t at = start;
  bool sendAgain = true;
  while (inFlight_ > 0) {
    bool any = false;
    bool awake = false;
    for (Lane& lane : lanes_) {
      if (!lane.awake)
        continue;
      const bool more = pass(lane, sendAgain);
      any = any || more;
      awake = more || options_.poll || !fallAsleep(lane) || awake;
    }
    at = now();
    if (any) {
      progressAt = at;
    } else if (at - progressAt > kStalledAfter) {
      result_.problem =
          std::to_string(inFlight_) + " requests were not answered for 10 s";
      break;
    } else if (options_.poll) {
      relax();
    } else if (!awake) {
      waitForCall();
    }
    if (sendAgain && (at >= end || result_.ops >= options_.maxOps)) {
      sendAgain = false;
    }
  }
  result_.nanoseconds = at - start;
  for (const Lane& lane : lanes_) {
    lane.queue->clearCall();
    result_.kicks += lane.queue->kicks() - lane.kicks;
    result_.interrupts += lane.queue->interrupts() - lane.interrupts;
  }
  return result_;
}

}  // namespace

BenchResult runBench(GuestSpace& space,
                     const std::vector<FuseQueue*>& queues,
                     const BenchOptions& options) {
  return Bench(space, queues, options).run();
}

}  // namespace nydus::frontend
