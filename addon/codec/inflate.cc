// zlib: whole streams, and windows in the middle of a gzip file.
#include <zlib.h>

#include <new>

#include "codec/codec.h"

namespace nydus::codec {
namespace {

// zlib's windowBits for raw deflate and for gzip, largest window.
constexpr int kRaw = -MAX_WBITS;
constexpr int kGzip = 16 + MAX_WBITS;
// CRC32 and length behind each gzip member (RFC 1952 §2.3.1).
constexpr size_t kGzipTrailer = 8;

// One inflate state over one input and one output.
class Inflater {
 public:
  Inflater(Source src, Target dst, int windowBits) {
    stream_.next_in =
        reinterpret_cast<Bytef*>(const_cast<std::byte*>(src.data()));
    stream_.avail_in = static_cast<uInt>(src.size());
    // zlib refuses a null output even when nothing is to be written.
    stream_.next_out =
        dst.empty() ? &nowhere_ : reinterpret_cast<Bytef*>(dst.data());
    stream_.avail_out = static_cast<uInt>(dst.size());
    const int status = inflateInit2(&stream_, windowBits);
    if (status == Z_MEM_ERROR)
      throw std::bad_alloc();
    usable_ = status == Z_OK;
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() {
    if (usable_)
      inflateEnd(&stream_);
  }

  [[nodiscard]] bool usable() const { return usable_; }
  z_stream& stream() { return stream_; }
  int run() { return ::inflate(&stream_, Z_SYNC_FLUSH); }
  [[nodiscard]] const char* problem(const char* otherwise) const {
    return stream_.msg != nullptr ? stream_.msg : otherwise;
  }

 private:
  z_stream stream_ = {};
  Bytef nowhere_ = 0;
  bool usable_ = false;
};

}  // namespace

Outcome zranInflate(Source src,
                    Source dictionary,
                    uint8_t byte,
                    int bits,
                    Target dst) {
  Inflater inflater(src, dst, kRaw);
  z_stream& stream = inflater.stream();
  if (!inflater.usable() ||
      (bits > 0 && inflatePrime(&stream, bits, byte >> (8 - bits)) != Z_OK) ||
      (!dictionary.empty() &&
       inflateSetDictionary(&stream,
                            reinterpret_cast<const Bytef*>(dictionary.data()),
                            static_cast<uInt>(dictionary.size())) != Z_OK)) {
    return {0, "zlib refused the dictionary or the first bits"};
  }
  bool first = true;
  while (stream.avail_out > 0) {
    const int status = inflater.run();
    if (status == Z_OK)
      continue;
    if (status != Z_STREAM_END) {
      return {0, status == Z_BUF_ERROR ? "the window is cut off"
                                       : inflater.problem("not deflate data")};
    }
    if (stream.avail_out == 0)
      break;
    // The member ends here. zlib itself parses the header of the next one,
    // and checks that one's trailer; ours stands behind raw data.
    if (first) {
      if (stream.avail_in < kGzipTrailer) {
        return {0, "the window ends with its first gzip member"};
      }
      stream.next_in += kGzipTrailer;
      stream.avail_in -= kGzipTrailer;
      first = false;
    }
    if (inflateReset2(&stream, kGzip) != Z_OK)
      throw std::bad_alloc();
  }
  return {dst.size()};
}

}  // namespace nydus::codec
