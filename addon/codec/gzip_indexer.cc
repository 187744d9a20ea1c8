#include "codec/gzip_indexer.h"

#include <new>

namespace nydus::codec {
namespace {

constexpr int kGzip = 16 + MAX_WBITS;
// First byte of a gzip member (RFC 1952 §2.3.1).
constexpr std::byte kMagic{0x1f};

// z_stream::data_type after inflate with Z_BLOCK (zlib.h).
constexpr int kUnusedBits = 7;
constexpr int kLastBlock = 64;
constexpr int kAtBorder = 128;

}  // namespace

GzipIndexer::GzipIndexer() {
  if (inflateInit2(&stream_, kGzip) != Z_OK)
    throw std::bad_alloc();
}

GzipIndexer::~GzipIndexer() {
  inflateEnd(&stream_);
}

bool GzipIndexer::nextMember(Source src, Step& step) {
  while (step.taken < src.size()) {
    const std::byte next = src[step.taken];
    if (next == kMagic && !padding_) {
      inflateReset(&stream_);
      between_ = false;
      return true;
    }
    if (next != std::byte{0} || in_ == 0) {
      step.problem = in_ == 0 ? "it is not in gzip format"
                              : "bytes that are no gzip data follow its end";
      return false;
    }
    // Padding to a block, of a tape for instance.
    padding_ = true;
    step.taken++;
    in_++;
  }
  return false;
}

void GzipIndexer::passBorder() {
  border_.in = in_;
  border_.out = out_;
  border_.bits = static_cast<uint8_t>(stream_.data_type & kUnusedBits);
  border_.byte = border_.bits == 0 ? 0 : lastByte_;
  border_.member = members_;
  uInt size = 0;
  inflateGetDictionary(
      &stream_, reinterpret_cast<Bytef*>(border_.dictionary.data()), &size);
  border_.dictionarySize = size;
  borders_++;
}

GzipIndexer::Step GzipIndexer::step(Source src, Target dst) {
  Step step;
  while (step.problem == nullptr && step.written < dst.size()) {
    if (between_ && !nextMember(src, step))
      break;
    const Source in = src.subspan(step.taken);
    const Target out = dst.subspan(step.written);
    stream_.next_in =
        reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
    stream_.avail_in = static_cast<uInt>(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    const int status = ::inflate(&stream_, Z_BLOCK);
    const size_t taken = in.size() - stream_.avail_in;
    const size_t written = out.size() - stream_.avail_out;
    if (taken > 0)
      lastByte_ = static_cast<uint8_t>(in[taken - 1]);
    step.taken += taken;
    step.written += written;
    in_ += taken;
    out_ += written;
    if (status == Z_STREAM_END) {
      between_ = true;
      members_++;
    } else if (status == Z_BUF_ERROR) {
      // All of `src` is used up.
      break;
    } else if (status != Z_OK) {
      step.problem = stream_.msg != nullptr ? stream_.msg : "not gzip data";
    } else if ((stream_.data_type & kAtBorder) != 0 &&
               (stream_.data_type & kLastBlock) == 0) {
      passBorder();
    }
  }
  return step;
}

}  // namespace nydus::codec
