// A lane: the thread that has TypeScript answer the requests of its queues.
//
//     turn:  complete the batch ─ take the next ─ look for a while ─ sleep
//               │                    │
//            pieces → buffers     decode → slots, or a native answer
//
// It does not know how requests travel (transport.h) nor what they mean.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fuse/fuse_service.h"
#include "fuse/lane_port.h"
#include "fuse/native_answers.h"
#include "fuse/poll_budget.h"
#include "fuse/reply_body.h"
#include "fuse/slot.h"
#include "fuse/tell_pacing.h"

namespace nydus {

class Lane {
 public:
  // `ring` is kRingSize bytes, aligned to 8, and outlives the lane; `service`
  // outlives it, too. The port is attached, the lane detaches it.
  Lane(FuseService& service, LanePort& port, std::span<std::byte> ring);
  // Answers what is still open with EIO.
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Completes the last batch, of which the first `completed` slots have been
  // answered (the others get EIO), and waits for the next. Returns how many
  // slots hold a request, 0 when there is mail (or the last batch had deferred
  // requests and nothing else is there), -1 when the device is gone.
  int turn(uint32_t completed);

 private:
  struct Open {
    RequestQueue* queue;
    size_t queueAt;  // in queues_
    uint32_t index;
    uint32_t opcode;
    uint32_t writable;
    uint64_t ticket;
    Session::Epoch epoch;
  };
  // What a reply leads to once it has been written.
  struct Effect {
    uint32_t lookups = 0;
    uint32_t lookupSlot = 0;
    uint64_t bytes = 0;
  };

  // References that replies hand out, before the guest can see those.
  struct Lookups {
    Session::Epoch epoch = 0;
    uint32_t slot = 0;
    uint64_t count = 0;
  };

  struct Served {
    LanePort::Entry entry;
    // Requests that were not taken when we last looked.
    size_t waiting = 0;
    // Its guest was not told of all that it got back.
    bool owed = false;
  };

  void finishBatch(uint32_t completed);
  void finishRun(size_t begin, size_t end, uint32_t completed);
  void giveBack(Served& served, std::span<const uint32_t> done);
  void pace();
  void tellAll();
  [[nodiscard]] size_t left() const noexcept;
  uint64_t answer(size_t slot, bool answered);
  void count(Session::Epoch epoch, const Effect& effect);
  void settleLookups();
  int32_t buildBody(size_t slot, Effect& effect);
  bool defer(size_t slot);

  void refreshQueues();
  bool fill();  // false: the queues were empty
  void accept(RequestQueue& queue, size_t queueAt, const Taken& request);
  void waitForWork();
  bool poll(uint64_t start, uint64_t budget);
  bool armAll();
  void sleep();
  [[nodiscard]] bool interrupted() const noexcept;

  [[nodiscard]] Slot& slotAt(size_t i) const noexcept {
    return *reinterpret_cast<Slot*>(ring_.data() + i * kSlotSize);
  }
  [[nodiscard]] const Extent* extentsOf(size_t slot) const noexcept {
    return reinterpret_cast<const Extent*>(ring_.data() + kExtentsOffset +
                                           slot * kExtentsStride);
  }
  [[nodiscard]] std::span<const std::byte> arena() const noexcept {
    return ring_.subspan(kArenaOffset, kArenaSize);
  }

  FuseService& service_;
  LanePort& port_;
  const std::span<std::byte> ring_;
  NativeAnswers natives_;
  ReplyBody body_;
  PollBudget pollBudget_;
  uint64_t seenChanges_ = 0;
  TellPacing pacing_;
  std::vector<Served> queues_;
  // The queue that is asked first; moves on, so that none starves.
  size_t next_ = 0;
  size_t batch_ = 0;
  // Of the batch: answered, or deferred.
  size_t settled_ = 0;
  // When the batch before ended, of a lane that has not waited since; else 0.
  uint64_t busySince_ = 0;
  // The batch that was completed last had deferred requests.
  bool deferred_ = false;
  Lookups lookups_;
  std::array<Open, kBatch> open_;
  std::array<Taken, kBatch> taken_;
};

}  // namespace nydus
