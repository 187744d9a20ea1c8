// A FUSE reply, scattered over a request's writable buffers.
#pragma once

#include <cstdint>
#include <span>

#include "base/assistant.h"
#include "fuse/transport.h"
#include "vhost/chain.h"

namespace nydus {

// Writes header and body; they must fit (16 bytes and the sum of the pieces).
// Returns the bytes written, or 0 when a piece could not be had completely: a
// file that is shorter than it was, a page that vanished, a disk error. The
// header is not written then. A large body is copied together with `assistant`,
// if there is one.
[[nodiscard]] uint32_t writeReply(std::span<const BufferSpan> buffers,
                                  uint64_t unique,
                                  std::span<const Piece> body,
                                  Assistant* assistant = nullptr) noexcept;

// Writes a header that carries `error` (negative); 16 bytes must fit. Returns
// the bytes written.
uint32_t writeError(std::span<const BufferSpan> buffers,
                    uint64_t unique,
                    int32_t error) noexcept;

// Copies up to `to.size()` readable bytes from `offset` on; returns how many.
size_t gather(std::span<const BufferSpan> buffers,
              size_t offset,
              std::span<std::byte> to) noexcept;

}  // namespace nydus
