#include "vhost/reply_writer.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "fuse/abi.h"
#include "sys/fault_guard.h"
#include "vhost/ring_memory.h"

namespace nydus {
namespace {

constexpr size_t kIovecs = 64;

// A place in the buffers; never runs past their end, because what is written
// was measured before.
class Cursor {
 public:
  explicit Cursor(std::span<const BufferSpan> buffers) : buffers_(buffers) {}

  void skip(uint32_t length) noexcept {
    each(length, [](std::byte*, uint32_t) {});
  }
  void put(const std::byte* data, uint32_t length) noexcept {
    each(length, [&](std::byte* to, uint32_t n) {
      std::memcpy(to, data, n);
      data += n;
    });
  }
  void zero(uint32_t length) noexcept {
    each(length, [](std::byte* to, uint32_t n) { std::memset(to, 0, n); });
  }

  bool read(int fd, uint64_t offset, uint32_t length) noexcept {
    while (length > 0) {
      std::array<iovec, kIovecs> vectors;
      const int count = describe(length, vectors);
      const ssize_t n =
          ::preadv(fd, vectors.data(), count, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return false;
      skip(static_cast<uint32_t>(n));
      offset += static_cast<uint64_t>(n);
      length -= static_cast<uint32_t>(n);
    }
    return true;
  }

 private:
  template <typename Action>
  void each(uint32_t length, Action action) noexcept {
    while (length > 0) {
      const BufferSpan& buffer = buffers_[index_];
      const uint32_t n = std::min(length, buffer.length - used_);
      action(buffer.host + used_, n);
      length -= n;
      used_ += n;
      if (used_ == buffer.length) {
        index_++;
        used_ = 0;
      }
    }
  }

  // The next `length` bytes of buffers, as far as the vectors go.
  int describe(uint32_t length, std::array<iovec, kIovecs>& vectors) noexcept {
    size_t count = 0;
    uint32_t used = used_;
    for (size_t i = index_; length > 0 && count < vectors.size(); i++) {
      const uint32_t n = std::min(length, buffers_[i].length - used);
      vectors[count++] = {buffers_[i].host + used, n};
      length -= n;
      used = 0;
    }
    return static_cast<int>(count);
  }

  std::span<const BufferSpan> buffers_;
  size_t index_ = 0;
  uint32_t used_ = 0;
};

}  // namespace

uint32_t writeReply(std::span<const BufferSpan> buffers,
                    uint64_t unique,
                    std::span<const Piece> body) noexcept {
  const uint64_t faults = FaultGuard::threadFaults();
  Cursor cursor(buffers);
  cursor.skip(kOutHeaderSize);
  uint32_t length = kOutHeaderSize;
  for (const Piece& piece : body) {
    if (piece.data != nullptr) {
      cursor.put(piece.data, piece.length);
    } else if (piece.fd >= 0) {
      if (!cursor.read(piece.fd, piece.offset, piece.length))
        return 0;
    } else {
      cursor.zero(piece.length);
    }
    length += piece.length;
  }
  if (FaultGuard::threadFaults() != faults)
    return 0;
  const OutHeader header{length, 0, unique};
  Cursor(buffers).put(reinterpret_cast<const std::byte*>(&header),
                      sizeof header);
  return length;
}

uint32_t writeError(std::span<const BufferSpan> buffers,
                    uint64_t unique,
                    int32_t error) noexcept {
  const OutHeader header{kOutHeaderSize, error, unique};
  Cursor(buffers).put(reinterpret_cast<const std::byte*>(&header),
                      sizeof header);
  return kOutHeaderSize;
}

size_t gather(std::span<const BufferSpan> buffers,
              size_t offset,
              std::span<std::byte> to) noexcept {
  size_t done = 0;
  for (const BufferSpan& buffer : buffers) {
    if (done == to.size())
      break;
    if (offset >= buffer.length) {
      offset -= buffer.length;
      continue;
    }
    const size_t n = std::min(to.size() - done, buffer.length - offset);
    copyOnce(to.data() + done, buffer.host + offset, n);
    done += n;
    offset = 0;
  }
  return done;
}

}  // namespace nydus
