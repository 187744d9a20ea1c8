// The record of requests in flight that survives this process: memory that
// the front-end keeps for us (vhost-user, "Inflight I/O tracking", split
// virtqueue). After a crash the next back-end reads here which requests the
// guest still waits for.
//
// The memory comes from a peer: everything found in it is checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "base/mmap.h"
#include "base/result.h"
#include "sys/fault_guard.h"

namespace nydus {

// The whole area: one part for each queue.
class InflightArea {
 public:
  // Bytes of the part of one queue with `queueSize` entries.
  static uint64_t bytesPerQueue(uint16_t queueSize) noexcept;

  // A fresh area in a file that cannot shrink; `fd` receives the file.
  static Result<std::shared_ptr<InflightArea>> create(uint16_t queues,
                                                      uint16_t queueSize,
                                                      UniqueFd& fd);
  // What a front-end gives back.
  static Result<std::shared_ptr<InflightArea>> map(uint64_t size,
                                                   uint64_t offset,
                                                   uint16_t queues,
                                                   uint16_t queueSize,
                                                   UniqueFd fd);
  ~InflightArea();
  InflightArea(const InflightArea&) = delete;
  InflightArea& operator=(const InflightArea&) = delete;

  [[nodiscard]] uint64_t size() const noexcept { return size_; }
  [[nodiscard]] uint16_t queues() const noexcept { return queues_; }
  [[nodiscard]] uint16_t queueSize() const noexcept { return queueSize_; }
  // Null when there is no such queue.
  [[nodiscard]] std::byte* part(uint32_t queue) const noexcept;

 private:
  InflightArea(Mmap map,
               size_t lead,
               uint64_t size,
               uint16_t queues,
               uint16_t queueSize);

  Mmap map_;
  std::byte* base_;
  uint64_t size_;
  uint16_t queues_;
  uint16_t queueSize_;
  FaultGuard::Id guard_;
};

// The part of one running queue.
class InflightQueue {
 public:
  // Null area, or a queue that has no part in it: tracks nothing.
  InflightQueue(std::shared_ptr<InflightArea> area,
                uint32_t queue,
                uint16_t queueSize);

  struct Recovered {
    // An earlier back-end used this part: `heads` are still owed an answer, in
    // the order in which they came.
    bool resumed = false;
    std::vector<uint16_t> heads;
  };
  // Reads what an earlier back-end left, `usedIndex` being the guest's.
  Recovered recover(uint16_t usedIndex);

  void taken(uint16_t head) noexcept;
  // Called for each request of a batch before the used index is published …
  void finishing(uint16_t head) noexcept;
  // … and this for each afterwards, then settled().
  void finished(uint16_t head) noexcept;
  void settled(uint16_t usedIndex) noexcept;

 private:
  struct Header {
    uint64_t features;
    uint16_t version;
    uint16_t descriptors;
    uint16_t lastBatchHead;
    uint16_t usedIndex;
  };
  static_assert(sizeof(Header) == 16);
  struct Entry {
    uint8_t inflight;
    uint8_t padding[5];
    uint16_t next;
    uint64_t counter;
  };
  static_assert(sizeof(Entry) == 16);
  friend class InflightArea;

  [[nodiscard]] Header* header() const noexcept;
  [[nodiscard]] Entry* entry(uint16_t head) const noexcept;

  std::shared_ptr<InflightArea> area_;
  std::byte* part_ = nullptr;
  uint16_t size_ = 0;
  uint64_t counter_ = 0;
};

}  // namespace nydus
