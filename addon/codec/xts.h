// AES-128-XTS as RAFS uses it: one data unit per chunk, short ones padded
// (blobs-and-cache.md §5).
#pragma once

#include <array>
#include <cstddef>

#include "codec/codec.h"

namespace nydus::codec {

struct XtsKey {
  std::array<std::byte, 32> key;  // both halves
  std::array<std::byte, 16> iv;
};

// Decrypts one data unit into as many bytes of `dst` and takes off its
// padding. Throws std::bad_alloc.
Outcome xtsDecrypt(const XtsKey& key, Source src, Target dst);

}  // namespace nydus::codec
