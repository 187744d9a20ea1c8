#include "vhost/reply_writer.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/copy.h"
#include "fuse/abi.h"
#include "sys/fault_guard.h"
#include "vhost/ring_memory.h"

namespace nydus {
namespace {

constexpr size_t kIovecs = 64;

// A place in the buffers and in the body that goes there; never runs past their
// end, because what is written was measured before.
class Cursor {
 public:
  explicit Cursor(std::span<const BufferSpan> buffers = {},
                  std::span<const Piece> body = {}) noexcept
      : buffers_(buffers), body_(body) {}

  // Copies the next `length` bytes of the body. False: not all could be had.
  bool copy(uint32_t length) noexcept {
    return eachPiece(length, [&](const Piece& piece, uint32_t n) {
      if (piece.data != nullptr) {
        put(piece.data + consumed_, n);
        return true;
      }
      if (piece.fd >= 0)
        return read(piece.fd, piece.offset + consumed_, n);
      each(n, [](std::byte* to, uint32_t m) { std::memset(to, 0, m); });
      return true;
    });
  }
  // Passes so much of buffers and body.
  void pass(uint32_t length) noexcept {
    eachPiece(length, [&](const Piece&, uint32_t n) {
      skip(n);
      return true;
    });
  }
  void skip(uint32_t length) noexcept {
    each(length, [](std::byte*, uint32_t) {});
  }
  void put(const std::byte* data, uint32_t length) noexcept {
    each(length, [&](std::byte* to, uint32_t n) {
      copyPages(to, data, n);
      data += n;
    });
  }

 private:
  bool read(int fd, uint64_t offset, uint32_t length) noexcept {
    while (length > 0) {
      const ssize_t n = readSome(fd, offset, length);
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

  // What the next buffers take of it, in one call.
  ssize_t readSome(int fd, uint64_t offset, uint32_t length) const noexcept {
    const BufferSpan& buffer = buffers_[index_];
    // A page into a page is the most frequent read that gets here.
    if (length <= buffer.length - used_)
      return ::pread(fd, buffer.host + used_, length,
                     static_cast<off_t>(offset));
    std::array<iovec, kIovecs> vectors;
    const int count = describe(length, vectors);
    return ::preadv(fd, vectors.data(), count, static_cast<off_t>(offset));
  }

  template <typename Action>
  bool eachPiece(uint32_t length, Action action) noexcept {
    while (length > 0) {
      const Piece& piece = body_[piece_];
      const uint32_t n = std::min(length, piece.length - consumed_);
      if (!action(piece, n))
        return false;
      length -= n;
      consumed_ += n;
      if (consumed_ == piece.length) {
        piece_++;
        consumed_ = 0;
      }
    }
    return true;
  }

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
  int describe(uint32_t length,
               std::array<iovec, kIovecs>& vectors) const noexcept {
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
  std::span<const Piece> body_;
  size_t index_ = 0;
  size_t piece_ = 0;
  // Of the buffer and of the piece.
  uint32_t used_ = 0;
  uint32_t consumed_ = 0;
};

// False: not all could be had, or pages vanished.
bool copyBody(Cursor from, uint32_t length) noexcept {
  const uint64_t faults = FaultGuard::threadFaults();
  return from.copy(length) && FaultGuard::threadFaults() == faults;
}

// A body in parts.
class SharedCopy final : public SharedWork {
 public:
  SharedCopy(Cursor start, uint32_t length) noexcept
      : length_(length),
        partLength_(std::max(kShortestPart,
                             (length + kMaxParts * kPartUnit - 1) /
                                 (kMaxParts * kPartUnit) * kPartUnit)) {
    for (uint32_t done = 0; done < length; done += partLength_) {
      starts_[parts_++] = start;
      start.pass(std::min(partLength_, length - done));
    }
  }

  [[nodiscard]] uint32_t parts() const noexcept { return parts_; }

  bool part(uint32_t index) noexcept override {
    return copyBody(starts_[index],
                    std::min(partLength_, length_ - index * partLength_));
  }

 private:
  static constexpr uint32_t kMaxParts = 8;
  static constexpr uint32_t kPartUnit = 4096;
  static constexpr uint32_t kShortestPart = 64 << 10;

  const uint32_t length_;
  const uint32_t partLength_;
  uint32_t parts_ = 0;
  // Where each part starts.
  std::array<Cursor, kMaxParts> starts_;
};

}  // namespace

uint32_t writeReply(std::span<const BufferSpan> buffers,
                    uint64_t unique,
                    std::span<const Piece> body,
                    Assistant* assistant) noexcept {
  Cursor cursor(buffers, body);
  cursor.skip(kOutHeaderSize);
  uint32_t length = 0;
  for (const Piece& piece : body)
    length += piece.length;
  bool good = false;
  if (assistant != nullptr && length >= Assistant::kWorthIt) {
    SharedCopy copy(cursor, length);
    good = assistant->run(copy, copy.parts());
  } else {
    good = copyBody(cursor, length);
  }
  if (!good)
    return 0;
  length += kOutHeaderSize;
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
