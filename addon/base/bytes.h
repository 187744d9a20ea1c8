// Integers in and out of byte ranges: little-endian, unaligned, in bounds.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace nydus {

static_assert(std::endian::native == std::endian::little,
              "virtio 1.2, FUSE and RAFS are little-endian; a big-endian host "
              "needs swaps in this file");

// The caller has checked that sizeof(T) bytes lie at `from`.
template <typename T>
[[nodiscard]] inline T loadLe(const std::byte* from) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <typename T>
inline void storeLe(std::byte* to, const T& value) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof(T));
}

// Nothing when the value does not lie completely within `bytes`.
template <typename T>
[[nodiscard]] inline std::optional<T> loadAt(std::span<const std::byte> bytes,
                                             size_t offset) noexcept {
  if (offset > bytes.size() || sizeof(T) > bytes.size() - offset) {
    return std::nullopt;
  }
  return loadLe<T>(bytes.data() + offset);
}

// `offset + length` stays within `size`; cannot overflow.
[[nodiscard]] constexpr bool fits(uint64_t offset,
                                  uint64_t length,
                                  uint64_t size) noexcept {
  return offset <= size && length <= size - offset;
}

// `begin + length` does not wrap around 2^64 (its end may be 2^64 - 1 at most).
[[nodiscard]] constexpr bool wraps(uint64_t begin, uint64_t length) noexcept {
  return begin + length < begin;
}

}  // namespace nydus
