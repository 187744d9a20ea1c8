#include "vhost/reply_writer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/fd.h"
#include "fuse/abi.h"
#include "sys/mapping.h"
#include "test/check.h"

namespace nydus {
namespace {

constexpr size_t kPage = 4096;
constexpr uint32_t kHeader = kOutHeaderSize;

std::byte patternAt(uint64_t offset) {
  return static_cast<std::byte>(offset * 2654435761u >> 13);
}

// A file with a pattern, and the same bytes mapped.
struct Source {
  explicit Source(size_t size)
      : fd(::memfd_create("source", MFD_CLOEXEC)), bytes(size) {
    for (size_t i = 0; i < size; i++)
      bytes[i] = patternAt(i);
    CHECK(::pwrite(fd.get(), bytes.data(), size, 0) ==
          static_cast<ssize_t>(size));
    mapping = Mapping::ofFile(fd.get(), size, Mapping::Mode::kReadShared);
  }
  [[nodiscard]] Piece mapped(uint64_t offset, uint32_t length) const {
    return {mapping.data() + offset, fd.get(), length, offset};
  }
  [[nodiscard]] Piece unmapped(uint64_t offset, uint32_t length) const {
    return {nullptr, fd.get(), length, offset};
  }

  UniqueFd fd;
  std::vector<std::byte> bytes;
  Mapping mapping;
};

// Buffers like a guest's: pages all over a memory, the first with the header.
class Buffers {
 public:
  explicit Buffers(uint32_t body, uint32_t header = kHeader)
      : memory_(2 * (body + kPage), std::byte{0xee}) {
    spans_.push_back({memory_.data(), 0, header});
    // Backwards, so that no two are one behind the other.
    std::byte* end = memory_.data() + memory_.size();
    for (uint32_t left = body; left > 0;) {
      const uint32_t n = std::min<uint32_t>(left, kPage);
      end -= n;
      spans_.push_back({end, 0, n});
      left -= n;
    }
  }
  [[nodiscard]] std::span<const BufferSpan> spans() const { return spans_; }
  // What is in them after the header.
  [[nodiscard]] std::vector<std::byte> content() const {
    std::vector<std::byte> all;
    for (const BufferSpan& span : spans_)
      all.insert(all.end(), span.host, span.host + span.length);
    all.erase(all.begin(), all.begin() + kHeader);
    return all;
  }
  [[nodiscard]] OutHeader header() const {
    OutHeader header{};
    std::memcpy(&header, spans_[0].host, sizeof header);
    return header;
  }

 private:
  std::vector<std::byte> memory_;
  std::vector<BufferSpan> spans_;
};

TEST(vhostReplyIsTheSameWithAndWithoutAnAssistant) {
  const Source source(1 << 20);
  Assistant assistant(50);
  // Sizes around the borders of sharing, parts and pages.
  for (const uint32_t body :
       {1u, 4096u, 65'535u, 65'536u, 65'537u, 131'072u, 600'001u, 1'048'576u}) {
    const uint32_t a = body / 3;
    const uint32_t b = body / 5;
    const uint32_t c = body / 7;
    const std::vector<Piece> pieces = {source.mapped(5, a),
                                       source.unmapped(77, b),
                                       {nullptr, -1, c, 0},
                                       source.mapped(0, body - a - b - c)};
    std::vector<std::byte> wanted(source.bytes.begin() + 5,
                                  source.bytes.begin() + 5 + a);
    wanted.insert(wanted.end(), source.bytes.begin() + 77,
                  source.bytes.begin() + 77 + b);
    wanted.insert(wanted.end(), c, std::byte{0});
    wanted.insert(wanted.end(), source.bytes.begin(),
                  source.bytes.begin() + (body - a - b - c));
    for (Assistant* with : {static_cast<Assistant*>(nullptr), &assistant}) {
      for (int round = 0; round < 20; round++) {
        // The first buffer takes a part of the body, too.
        const Buffers buffers(body, kHeader + 100 + round);
        CHECK_EQ(writeReply(buffers.spans(), 42, pieces, with), kHeader + body);
        CHECK_EQ(buffers.header().len, kHeader + body);
        CHECK_EQ(buffers.header().unique, 42u);
        CHECK_EQ(buffers.header().error, 0);
        const std::vector<std::byte> content = buffers.content();
        CHECK(std::equal(wanted.begin(), wanted.end(), content.begin()));
        // Nothing behind it was touched.
        CHECK(std::all_of(content.begin() + body, content.end(),
                          [](std::byte at) { return at == std::byte{0xee}; }));
      }
    }
  }
}

TEST(vhostReplyOfAFileThatBecameShorterIsNone) {
  for (const bool mapped : {true, false}) {
    Assistant assistant(50);
    const Source source(1 << 20);
    const Piece piece =
        mapped ? source.mapped(0, 1 << 20) : source.unmapped(0, 1 << 20);
    const Buffers buffers(1 << 20);
    CHECK_EQ(writeReply(buffers.spans(), 1, {&piece, 1}, &assistant),
             kHeader + (1u << 20));
    CHECK(::ftruncate(source.fd.get(), (1 << 20) - kPage) == 0);
    for (int round = 0; round < 3; round++) {
      const Buffers none(1 << 20);
      // What vanished was replaced by zeros once a mapping: only the first
      // read can tell.
      const bool tells = !mapped || round == 0;
      CHECK_EQ(writeReply(none.spans(), 1, {&piece, 1}, &assistant) == 0,
               tells);
      CHECK_EQ(none.header().len == 0xeeee'eeee, tells);
    }
  }
}

}  // namespace
}  // namespace nydus
