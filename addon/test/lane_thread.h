// A lane whose TypeScript is a C++ function: answers each slot of a batch.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/mmap.h"
#include "fuse/lane.h"
#include "vhost/device.h"

namespace nydus::test {

// The ring memory of a lane, and what a server does with it.
class LaneMemory {
 public:
  LaneMemory() : map_(Mmap::anonymous(kRingSize)) {}
  [[nodiscard]] std::span<std::byte> bytes() const {
    return {map_.data(), kRingSize};
  }
  [[nodiscard]] Slot& slot(size_t i) const {
    return *reinterpret_cast<Slot*>(map_.data() + i * kSlotSize);
  }
  [[nodiscard]] Extent* extents(size_t i) const {
    return reinterpret_cast<Extent*>(map_.data() + kExtentsOffset +
                                     i * kExtentsStride);
  }
  [[nodiscard]] std::byte* arena() const { return map_.data() + kArenaOffset; }

  void answerError(size_t i, int32_t status) const {
    Slot& s = slot(i);
    s.status = status;
    s.kind = kReplyInline;
    s.length = 0;
    s.extentCount = 0;
    s.lookups = 0;
    s.lookupSlot = 0;
  }
  void answerBytes(size_t i, const void* data, uint32_t length) const {
    answerError(i, 0);
    slot(i).length = length;
    std::memcpy(slot(i).body, data, length);
  }
  void answerExtents(size_t i, std::initializer_list<Extent> list) const {
    answerError(i, 0);
    slot(i).kind = kReplyExtents;
    slot(i).extentCount = static_cast<uint32_t>(list.size());
    std::copy(list.begin(), list.end(), extents(i));
  }

 private:
  Mmap map_;
};

class LaneThread {
 public:
  using Handler = std::function<void(const LaneMemory&, size_t slot)>;

  // Runs until the device stops. `mail` is called when there is some;
  // `handed` after a batch was handed over.
  LaneThread(Device& device, uint32_t lane, Handler handler)
      : handler_(std::move(handler)) {
    LanePort* port = device.lanePort(lane);
    attached_ = port != nullptr && port->attach();
    if (!attached_)
      return;
    lane_ = std::make_unique<Lane>(device.service(), *port, memory_.bytes());
    thread_ = std::thread([this] {
      int n = 0;
      while ((n = lane_->turn(static_cast<uint32_t>(n))) >= 0) {
        for (int i = 0; i < n; i++)
          handler_(memory_, static_cast<size_t>(i));
      }
    });
  }
  ~LaneThread() {
    if (thread_.joinable())
      thread_.join();
  }
  [[nodiscard]] bool attached() const { return attached_; }

 private:
  LaneMemory memory_;
  Handler handler_;
  bool attached_ = false;
  std::unique_ptr<Lane> lane_;
  std::thread thread_;
};

// INIT: FUSE 7.41, nothing special; GETATTR: zeros; all others: ENOENT.
inline void answerPlainly(const LaneMemory& memory, size_t i) {
  std::byte body[104] = {};
  switch (memory.slot(i).opcode) {
    case FUSE_INIT:
      memory.answerBytes(i, body, 64);
      break;
    case FUSE_GETATTR:
      memory.answerBytes(i, body, 104);
      break;
    case FUSE_DESTROY:
      memory.answerBytes(i, body, 0);
      break;
    default:
      memory.answerError(i, -ENOENT);
  }
}

}  // namespace nydus::test
