// Reads a gzip file as a stream and keeps where its last deflate block began,
// with all that zranInflate needs to start there. Holds one block border and
// zlib's window, whatever the size of the file.
#pragma once

#include <zlib.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/codec.h"

namespace nydus::codec {

// History that deflate can look back into.
constexpr size_t kDeflateWindow = 32768;

// The start of a deflate block.
struct BlockBorder {
  // Bytes of the file before the first whole byte of the block.
  uint64_t in = 0;
  // Plain bytes before it, of all members.
  uint64_t out = 0;
  // The byte at `in` - 1; its top `bits` bits belong to the block.
  uint8_t byte = 0;
  uint8_t bits = 0;
  // Gzip members before the one that it belongs to.
  uint32_t member = 0;
  // The plain bytes before it in its member, at most kDeflateWindow.
  std::array<std::byte, kDeflateWindow> dictionary;
  size_t dictionarySize = 0;
};

class GzipIndexer {
 public:
  struct Step {
    size_t taken = 0;
    size_t written = 0;
    // Null, or what is wrong with the file.
    const char* problem = nullptr;
  };

  GzipIndexer();
  GzipIndexer(const GzipIndexer&) = delete;
  GzipIndexer& operator=(const GzipIndexer&) = delete;
  ~GzipIndexer();

  // Goes on with `src`, the file's next bytes, until they are used up or `dst`
  // is full. Zeros may follow the last member, nothing else.
  Step step(Source src, Target dst);
  // The file may end here.
  [[nodiscard]] bool betweenMembers() const { return between_; }
  // Borders passed so far; `border` is the last of them.
  [[nodiscard]] uint64_t borders() const { return borders_; }
  [[nodiscard]] const BlockBorder& border() const { return border_; }

 private:
  // Looks for the next member; false when `src` has no more of it.
  bool nextMember(Source src, Step& step);
  void passBorder();

  z_stream stream_ = {};
  uint64_t in_ = 0;
  uint64_t out_ = 0;
  uint32_t members_ = 0;
  uint8_t lastByte_ = 0;
  bool between_ = true;
  bool padding_ = false;
  uint64_t borders_ = 0;
  BlockBorder border_;
};

}  // namespace nydus::codec
