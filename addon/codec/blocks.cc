// lz4 and zstd.
#include <lz4.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <memory>
#include <new>

#include "codec/codec.h"

namespace nydus::codec {
namespace {

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

ZSTD_DCtx* decoder() {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeContext> context(
      ZSTD_createDCtx());
  if (context == nullptr)
    throw std::bad_alloc();
  return context.get();
}

ZSTD_CCtx* encoder() {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeContext> context(
      ZSTD_createCCtx());
  if (context == nullptr)
    throw std::bad_alloc();
  return context.get();
}

const char* chars(Source bytes) {
  return reinterpret_cast<const char*>(bytes.data());
}

char* chars(Target bytes) {
  return reinterpret_cast<char*>(bytes.data());
}

}  // namespace

Outcome lz4Decompress(Source src, Target dst) {
  const int size =
      LZ4_decompress_safe(chars(src), chars(dst), static_cast<int>(src.size()),
                          static_cast<int>(dst.size()));
  if (size < 0)
    return {0, "not an LZ4 block, or one that needs more room"};
  return {static_cast<size_t>(size)};
}

Outcome lz4Compress(Source src, Target dst) {
  const int size =
      LZ4_compress_default(chars(src), chars(dst), static_cast<int>(src.size()),
                           static_cast<int>(dst.size()));
  return {static_cast<size_t>(size)};
}

size_t lz4Bound(size_t size) {
  return static_cast<size_t>(LZ4_compressBound(static_cast<int>(size)));
}

Outcome zstdDecompress(Source src, Target dst) {
  // zstd takes an empty input for zero frames; a chunk is one frame.
  if (src.empty())
    return {0, "no zstd frame: the input is empty"};
  const size_t size = ZSTD_decompressDCtx(decoder(), dst.data(), dst.size(),
                                          src.data(), src.size());
  if (ZSTD_isError(size))
    return {0, ZSTD_getErrorName(size)};
  return {size};
}

Outcome zstdCompress(Source src, Target dst, int level) {
  const size_t size = ZSTD_compressCCtx(encoder(), dst.data(), dst.size(),
                                        src.data(), src.size(), level);
  if (!ZSTD_isError(size))
    return {size};
  if (ZSTD_getErrorCode(size) == ZSTD_error_dstSize_tooSmall)
    return {0};
  return {0, ZSTD_getErrorName(size)};
}

size_t zstdBound(size_t size) {
  return ZSTD_compressBound(size);
}

Levels zstdLevels() {
  return {ZSTD_minCLevel(), ZSTD_maxCLevel()};
}

}  // namespace nydus::codec
