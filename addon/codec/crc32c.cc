// CRC-32C by the processor's instruction where there is one. The instruction
// takes three cycles and starts every cycle, so three streams run side by side
// and are joined at the end of each stripe.
#include <array>
#include <cstring>

#include "codec/digest.h"

namespace nydus::codec {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected
// Bytes of one of three streams of a stripe.
constexpr size_t kStripe = 4096;

using ByteTable = std::array<uint32_t, 256>;

constexpr ByteTable makeByteTable() {
  ByteTable table{};
  for (uint32_t i = 0; i < table.size(); i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++)
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}
constexpr ByteTable kByteTable = makeByteTable();

constexpr uint32_t addByte(uint32_t crc, uint8_t byte) {
  return (crc >> 8) ^ kByteTable[(crc ^ byte) & 0xff];
}

uint32_t portable(uint32_t crc, const std::byte* from, size_t length) {
  for (size_t i = 0; i < length; i++)
    crc = addByte(crc, static_cast<uint8_t>(from[i]));
  return crc;
}

#ifdef __x86_64__

// What kStripe zero bytes make of a CRC, by its four bytes: a linear map.
using ShiftTable = std::array<ByteTable, 4>;

ShiftTable makeShiftTable() {
  std::array<uint32_t, 32> ofBit{};
  for (size_t bit = 0; bit < ofBit.size(); bit++) {
    uint32_t crc = uint32_t{1} << bit;
    for (size_t i = 0; i < kStripe; i++)
      crc = addByte(crc, 0);
    ofBit[bit] = crc;
  }
  ShiftTable table{};
  for (size_t at = 0; at < table.size(); at++) {
    for (size_t value = 0; value < 256; value++) {
      for (size_t bit = 0; bit < 8; bit++)
        table[at][value] ^= ((value >> bit) & 1) != 0 ? ofBit[8 * at + bit] : 0;
    }
  }
  return table;
}

uint32_t behindStripe(uint32_t crc) {
  static const ShiftTable table = makeShiftTable();
  return table[0][crc & 0xff] ^ table[1][(crc >> 8) & 0xff] ^
         table[2][(crc >> 16) & 0xff] ^ table[3][crc >> 24];
}

uint64_t word(const std::byte* from) {
  uint64_t value = 0;
  std::memcpy(&value, from, sizeof value);
  return value;
}

__attribute__((target("sse4.2"))) uint32_t byInstruction(uint32_t crc,
                                                         const std::byte* from,
                                                         size_t length) {
  uint64_t a = crc;
  for (; length >= 3 * kStripe; length -= 3 * kStripe, from += 3 * kStripe) {
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < kStripe; i += sizeof(uint64_t)) {
      a = __builtin_ia32_crc32di(a, word(from + i));
      b = __builtin_ia32_crc32di(b, word(from + kStripe + i));
      c = __builtin_ia32_crc32di(c, word(from + 2 * kStripe + i));
    }
    a = behindStripe(behindStripe(static_cast<uint32_t>(a)) ^
                     static_cast<uint32_t>(b)) ^
        c;
  }
  for (; length >= sizeof(uint64_t);
       length -= sizeof(uint64_t), from += sizeof(uint64_t))
    a = __builtin_ia32_crc32di(a, word(from));
  return portable(static_cast<uint32_t>(a), from, length);
}

#endif

}  // namespace

uint32_t crc32c(Source bytes) {
#ifdef __x86_64__
  static const bool hasInstruction = __builtin_cpu_supports("sse4.2");
  if (hasInstruction)
    return ~byInstruction(~uint32_t{0}, bytes.data(), bytes.size());
#endif
  return ~portable(~uint32_t{0}, bytes.data(), bytes.size());
}

}  // namespace nydus::codec
