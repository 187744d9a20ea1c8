// One request of a benchmark, laid out once and sent again and again.
#pragma once

#include <cstdint>
#include <vector>

#include "test/frontend/bench.h"

namespace nydus::frontend {

class BenchSlot {
 public:
  // Takes its memory and one descriptor of the queue. Throws
  // std::invalid_argument when there is no room.
  BenchSlot(GuestSpace& space, FuseQueue& queue, const BenchOptions& options);
  ~BenchSlot();
  BenchSlot(const BenchSlot&) = delete;
  BenchSlot& operator=(const BenchSlot&) = delete;

  [[nodiscard]] FuseQueue& queue() const noexcept { return queue_; }
  [[nodiscard]] uint16_t head() const noexcept { return head_; }

  // Write the request into guest memory.
  void getattr(uint64_t unique, const BenchTarget& target) noexcept;
  void lookup(uint64_t unique, const BenchTarget& target) noexcept;
  void read(uint64_t unique,
            uint32_t opcode,
            const BenchTarget& target,
            uint64_t offset) noexcept;

  // Bytes of the answer's body; negative: an error, or not an answer to the
  // last request.
  [[nodiscard]] int64_t bodyLength() const noexcept;
  // The reply header's length field.
  [[nodiscard]] uint32_t replyLength() const noexcept;
  // The cookie of the last record in a READDIRPLUS body.
  [[nodiscard]] uint64_t lastCookie(uint32_t bodyLength) noexcept;

  uint64_t sentAt = 0;
  // READDIRPLUS: which target is walked.
  size_t folder = 0;
  uint64_t cookie = 0;

 private:
  void header(uint64_t unique,
              uint32_t opcode,
              uint64_t nodeid,
              uint32_t arguments) noexcept;
  void table(uint32_t arguments, uint32_t body) noexcept;

  GuestSpace& space_;
  FuseQueue& queue_;
  const uint32_t size_;
  uint64_t block_ = 0;
  uint64_t blockBytes_ = 0;
  std::vector<uint64_t> pages_;
  uint16_t head_ = 0;
  uint64_t unique_ = 0;
  // What the indirect table describes at the moment.
  uint32_t tableArguments_ = ~uint32_t{0};
  uint32_t tableBody_ = 0;
  std::vector<std::byte> scratch_;
};

}  // namespace nydus::frontend
