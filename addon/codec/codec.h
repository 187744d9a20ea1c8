// Decompression and compression into buffers of the caller: nothing here
// allocates an output, none of it waits. Contexts are kept per thread.
//
// Decoders believe nothing in `src`: whatever it holds, they write inside
// `dst` only and say what was wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nydus::codec {

// What came out: `problem` is null, or names what was wrong with the input.
struct Outcome {
  size_t size = 0;
  const char* problem = nullptr;
};

// The largest buffer that every codec here can take.
constexpr size_t kMaxBuffer = 0x7e000000;  // LZ4_MAX_INPUT_SIZE

using Source = std::span<const std::byte>;
using Target = std::span<std::byte>;

// One raw block: no frame, no size prefix.
Outcome lz4Decompress(Source src, Target dst);
// Size 0 when the result does not fit into `dst`.
Outcome lz4Compress(Source src, Target dst);
// Bytes that `size` can grow to.
[[nodiscard]] size_t lz4Bound(size_t size);

// Standard frames.
Outcome zstdDecompress(Source src, Target dst);
// Size 0 when the result does not fit into `dst`. `level` must be one of
// zstdLevels().
Outcome zstdCompress(Source src, Target dst, int level);
[[nodiscard]] size_t zstdBound(size_t size);
struct Levels {
  int min;
  int max;
};
Levels zstdLevels();

// Random access into gzip (RAFS "zran" windows): raw deflate that starts with
// the top `bits` (0-7) bits of `byte` and goes on with `src`, with
// `dictionary` (at most 32 KiB) as history. Where a gzip member ends, goes on
// with the next. Fills `dst`, or names a problem.
Outcome zranInflate(Source src,
                    Source dictionary,
                    uint8_t byte,
                    int bits,
                    Target dst);

}  // namespace nydus::codec
