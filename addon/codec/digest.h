// The two digests of RAFS over plain bytes, in one call each, for threads that
// run no JavaScript (lib/base/digest.ts does the same for those that do).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/codec.h"

namespace nydus::codec {

enum class Digester : uint8_t { kBlake3, kSha256 };

constexpr int kDigesters = 2;
constexpr size_t kDigestSize = 32;
using DigestTarget = std::span<std::byte, kDigestSize>;

// Throws std::bad_alloc only.
void digest(Digester digester, Source bytes, DigestTarget into);

// CRC-32C (Castagnoli, reflected, all ones in and out).
[[nodiscard]] uint32_t crc32c(Source bytes);

}  // namespace nydus::codec
