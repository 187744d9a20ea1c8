// One run of a virtqueue: from its start to its stop.
//
// A ring that is started again gets another QueueRun. So a late answer cannot
// reach the wrong run: it holds the one that its request came from, finds it
// closed, and is dropped. Memory, buffers and the log stay mapped as long as
// somebody holds the run.
//
// Lane and completing threads meet under one lock, which nobody holds while
// data is copied.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/counter.h"
#include "fuse/transport.h"
#include "mem/dirty_log.h"
#include "mem/guest_memory.h"
#include "vhost/chain.h"
#include "vhost/inflight.h"
#include "vhost/peer_signal.h"
#include "vhost/pinned_table.h"
#include "vhost/ring_memory.h"

namespace nydus {

// Totals of one queue; live as long as the device.
struct QueueCounters {
  Counter requests;
  Counter completions;
  Counter bytes;
  Counter kicks;
  Counter interrupts;
  // Chains without a header that could be answered.
  Counter dropped;
  // Requests whose buffers lay outside the guest's memory.
  Counter faults;
  Counter broken;
};

// Hears of rings that cannot be believed any more. Called under the queue's
// lock: must not call back.
class QueueOwner {
 public:
  virtual ~QueueOwner() = default;
  virtual void queueBroken(uint32_t queue, const std::string& reason) = 0;
};

struct QueueSetup {
  uint32_t queue = 0;
  uint16_t size = 0;
  // Next available index to process.
  uint16_t base = 0;
  bool eventIndex = false;
  bool indirect = false;
  bool enabled = false;
  RingAddresses addresses;
  GuestMemory::Table memory;
  PeerSignal::Ptr kick;
  PeerSignal::Ptr call;
  PeerSignal::Ptr error;
  std::shared_ptr<const DirtyLog> log;
  std::shared_ptr<InflightArea> inflight;
  QueueCounters* counters = nullptr;
  QueueOwner* owner = nullptr;
};

class QueueRun final : public RequestQueue {
  struct Key {};

 public:
  // Fails when the ring's areas are not in memory.
  static Result<std::shared_ptr<QueueRun>> start(const QueueSetup& setup);

  QueueRun(Key key, const QueueSetup& setup, const RingMemory& ring);

  // RequestQueue.
  size_t take(std::span<Taken> out) override;
  size_t readMore(uint32_t index,
                  size_t offset,
                  std::span<std::byte> to) override;
  void beginPoll() override;
  bool pollReady() override;
  void endPoll() override;
  bool arm() override;
  void disarm() override;
  bool acknowledgeKick() override;
  bool mustPoll() override;
  uint64_t claim(std::span<const uint32_t> indices) override;
  bool write(uint32_t index,
             int32_t error,
             std::span<const Piece> body,
             Assistant* assistant = nullptr) override;
  size_t publish(std::span<const uint32_t> indices) override;
  void tell() override;
  void finish(std::span<const uint32_t> indices) override;

  // Control thread.
  void setEnabled(bool enabled);
  void setKick(PeerSignal::Ptr kick);
  void setCall(PeerSignal::Ptr call);
  void setError(PeerSignal::Ptr error);
  void setLog(std::shared_ptr<const DirtyLog> log);
  void setUsedLog(bool logUsed, uint64_t address);
  // Another table: the same areas are looked up in it, or the ring breaks.
  void setMemory(GuestMemory::Table memory);
  [[nodiscard]] bool broken() const;
  // It went on where an earlier run or back-end stopped.
  [[nodiscard]] bool resumed() const noexcept { return resumed_; }

  // No request is taken from here on.
  void beginStop();
  // True when no request is open or claimed any more; waits up to `limit`.
  bool waitIdle(std::chrono::milliseconds limit);
  // Answers what is open with EIO. Returns how many that were.
  size_t failOpen();
  // Ends the run: what is still open is forgotten. Returns the next available
  // index.
  uint16_t close();

 private:
  enum class State : uint8_t { kFree, kOpen, kClaimed };
  struct Pending {
    Chain chain;
    PinnedTable::Id memory = 0;  // pins the mappings of `chain`
    uint64_t unique = 0;
    uint32_t written = 0;
    State state = State::kFree;
  };

  // All of these are called under lock_.
  [[nodiscard]] bool mayTake() const noexcept {
    return enabled_ && !stopping_ && !closed_ && !broken_;
  }
  size_t nextHeads(std::span<uint16_t> heads);
  bool follow(uint16_t head, const Descriptor& first);
  bool admit(uint16_t head, Taken& out);
  void breakRing(const std::string& reason);
  void handBack(uint16_t head);
  void putBack(std::span<const uint32_t> heads);
  void interrupt();
  void settle() {
    if (owed_)
      interrupt();
  }
  // Requests that were not taken yet, if the guest is honest.
  [[nodiscard]] uint16_t waiting() const noexcept {
    return ring_.valid()
               ? static_cast<uint16_t>(ring_.availableIndex() - lastAvailable_)
               : 0;
  }
  void checkPoison();

  // Constant.
  const uint32_t queue_;
  const bool eventIndex_;
  bool resumed_ = false;
  QueueCounters& counters_;
  QueueOwner& owner_;

  mutable std::mutex lock_;
  std::condition_variable idle_;
  // Guarded by lock_.
  RingMemory ring_;
  PinnedTable memory_;
  ChainWalker walker_;
  InflightQueue inflight_;
  std::shared_ptr<const DirtyLog> log_;
  PeerSignal::Ptr kick_;
  PeerSignal::Ptr call_;
  PeerSignal::Ptr error_;
  bool enabled_;
  bool stopping_ = false;
  bool closed_ = false;
  bool broken_ = false;
  bool armed_ = true;
  uint16_t lastAvailable_;
  uint16_t used_;
  // The used index when it was last looked whether the guest wants to be told;
  // not valid at first.
  uint16_t signalled_ = 0;
  bool signalledValid_ = false;
  // There are replies that the guest was not told of: settle() before the lane
  // rests.
  bool owed_ = false;
  // Heads that an earlier back-end took and did not answer.
  std::vector<uint16_t> resubmit_;
  size_t resubmitted_ = 0;
  size_t busy_ = 0;
  std::vector<Pending> pending_;  // by head; state guarded, chain its owner's

  // The polling lane only.
  GuestMemory::Table pollMemory_;
  const uint16_t* pollIndex_ = nullptr;
  uint16_t pollLast_ = 0;
};

}  // namespace nydus
