// A descriptor chain, followed once: copied, checked, translated.
//
// Afterwards nothing of the driver's descriptors is needed or read again; a
// driver that changes them meanwhile changes nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mem/guest_memory.h"
#include "vhost/ring_memory.h"

namespace nydus {

struct BufferSpan {
  std::byte* host;
  uint64_t gpa;
  uint32_t length;
};

struct Chain {
  // Readable spans, then writable ones; contiguous neighbours are one span.
  // Keeps its memory from request to request.
  std::vector<BufferSpan> spans;
  uint32_t readableSpans = 0;
  uint32_t readable = 0;
  uint32_t writable = 0;
  // A buffer lies (partly) outside guest memory: the readable or the writable
  // spans stop before it.
  bool readFault = false;
  bool writeFault = false;

  [[nodiscard]] std::span<const BufferSpan> readSpans() const noexcept {
    return {spans.data(), readableSpans};
  }
  [[nodiscard]] std::span<const BufferSpan> writeSpans() const noexcept {
    return std::span(spans).subspan(readableSpans);
  }
};

// Fetch the lines that are read first, which the guest's processor has just
// written; and those that are written first, where it has read the last reply.
void prefetchRequest(const Chain& chain) noexcept;
void prefetchReply(const Chain& chain) noexcept;

class ChainWalker {
 public:
  explicit ChainWalker(bool indirect) : indirect_(indirect) {}

  // Bytes of one chain; a request of FUSE is 1 MiB and a bit.
  static constexpr uint64_t kMaxBytes = 64u << 20;
  // Entries of an indirect table for rings smaller than that; the longest that
  // Linux makes is max_pages (256) + 3.
  static constexpr uint32_t kMinIndirectLimit = 1024 + 8;

  // Follows the chain whose first descriptor (at `head`) is `first`. Null: it
  // is in `out`. Else: the sentence why the ring cannot be believed any more.
  const char* walk(const RingMemory& ring,
                   const GuestMemory& memory,
                   const Descriptor& first,
                   Chain& out);

  // Fetches what walk() will want to see of this chain.
  void prefetch(const GuestMemory& memory, const Descriptor& first) noexcept;

 private:
  const char* walkTable(const GuestMemory& memory,
                        const Descriptor& holder,
                        uint16_t ringSize,
                        Chain& out);
  const char* append(const GuestMemory& memory,
                     const Descriptor& descriptor,
                     Chain& out);

  const bool indirect_;
  GuestMemory::Hint hint_;
  // The private copy of an indirect table.
  std::vector<Descriptor> table_;
};

}  // namespace nydus
