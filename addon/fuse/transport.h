// What a lane knows of the road that its requests come by.
//
//     virtqueue (vhost/queue_run.h)  ─┐
//                                     ├─ RequestQueue ── Lane ── slots
//     /dev/fuse clone                ─┘
//
// A request is taken (its header and arguments copied into private memory),
// open while somebody works on it, claimed by the one thread that answers it,
// written, and finished. A queue that stops answers or drops what is open;
// claim() then says that the request is gone, and nothing of it may be
// touched any more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/assistant.h"
#include "fuse/slot.h"

namespace nydus {

// A request as it came: private, so it cannot change between check and use.
struct Taken {
  // Names the request to its queue.
  uint32_t index;
  // Bytes the requester sent, and how many of them `raw` holds.
  uint32_t readable;
  uint32_t copied;
  // Bytes a reply may have, its header included.
  uint32_t writable;
  alignas(8) std::byte raw[kRawSize];
};

// One piece of a reply's body: memory, a range of a file, or zeros.
struct Piece {
  // Null: read from `fd`, or zeros when there is none.
  const std::byte* data = nullptr;
  int fd = -1;
  uint32_t length = 0;
  uint64_t offset = 0;
};

class RequestQueue {
 public:
  virtual ~RequestQueue() = default;

  // --- the queue's own lane only ---

  // Takes the next requests, at most `out.size()` (never more than kBatch);
  // they are open then. Returns how many.
  virtual size_t take(std::span<Taken> out) = 0;
  // Cheap look whether take() would find something; between beginPoll and
  // endPoll, in which the requester need not tell us. Who begins, or arms, has
  // told the requester of everything.
  virtual void beginPoll() = 0;
  [[nodiscard]] virtual bool pollReady() = 0;
  virtual void endPoll() = 0;
  // Asks to be told of the next request. True: one is there already, do not
  // sleep.
  [[nodiscard]] virtual bool arm() = 0;
  // The requester told us, or we are busy again: no need to be told.
  virtual void disarm() = 0;
  // Consumes what made the waiter wake up. False: its kick descriptor does not
  // work, do not wait for it again.
  [[nodiscard]] virtual bool acknowledgeKick() = 0;
  // The requester cannot tell us (no kick descriptor): look from time to time.
  [[nodiscard]] virtual bool mustPoll() = 0;

  // --- any thread ---

  // Makes the caller the only one to answer these requests (kBatch at most).
  // Bit i of the result: indices[i] is claimed; else it is gone.
  virtual uint64_t claim(std::span<const uint32_t> indices) = 0;
  // Copies what a claimed request brought, from byte `offset` on: for what
  // `raw` is too short for. Returns how many bytes were there.
  virtual size_t readMore(uint32_t index,
                          size_t offset,
                          std::span<std::byte> to) = 0;
  // Puts a reply into the buffers of a claimed request: `error` 0 and a body,
  // or a negative errno. False: the body could not be had completely, or does
  // not fit; an EIO reply was put in its place. A large body is copied together
  // with `assistant`, if there is one. Never throws, may block on page faults
  // only.
  virtual bool write(uint32_t index,
                     int32_t error,
                     std::span<const Piece> body,
                     Assistant* assistant = nullptr) = 0;
  // Hands claimed requests back, in this order. One that was not written goes
  // back without a reply. The requester need not hear of it before tell();
  // returns how many requests of it were not taken yet.
  virtual size_t publish(std::span<const uint32_t> indices) = 0;
  // Tells the requester of what was published, once, if it wants to be told.
  virtual void tell() = 0;
  // Both.
  virtual void finish(std::span<const uint32_t> indices) = 0;
};

}  // namespace nydus
