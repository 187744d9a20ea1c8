// Children of inputs, made by chance: bytes that change, come, go and move.
// The same seed makes the same children.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <random>
#include <vector>

namespace nydus::test {

using Input = std::vector<uint8_t>;

// Numbers at which lengths, indexes and counts break.
inline constexpr uint64_t kOddNumbers[] = {
    0,          1,          2,          15,         16,         39,
    40,         0x7f,       0xff,       0x100,      0xfff,      0x1000,
    0x7fff,     0x8000,     0xffff,     0x10000,    1 << 20,    1 << 26,
    0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff, 1ull << 53, 1ull << 63,
    ~0ull - 7,  ~0ull};

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  [[nodiscard]] uint64_t number() { return random_(); }
  // 0 … below - 1; 0 when there is nothing to pick.
  [[nodiscard]] uint32_t pick(size_t below) {
    return below == 0 ? 0 : static_cast<uint32_t>(random_() % below);
  }
  [[nodiscard]] bool oneIn(uint32_t n) { return pick(n) == 0; }
  template <typename T>
  [[nodiscard]] const T& of(const std::vector<T>& values) {
    return values[pick(values.size())];
  }

  // Changes something without knowing what the bytes mean.
  void changeBytes(Input& input, const Input& other) {
    const size_t at = pick(input.size() + 1);
    const auto place = input.begin() + static_cast<ptrdiff_t>(at);
    switch (pick(6)) {
      case 0:
        if (at < input.size())
          input[at] ^= static_cast<uint8_t>(1u << pick(8));
        break;
      case 1:
        if (at < input.size())
          input[at] = static_cast<uint8_t>(random_());
        break;
      case 2: {
        const size_t width = size_t{1} << pick(4);
        putNumber(input, at, width, kOddNumbers[pick(std::size(kOddNumbers))]);
        break;
      }
      case 3:
        input.insert(place, 1 + pick(32), static_cast<uint8_t>(random_()));
        break;
      case 4:
        input.erase(place, place + static_cast<ptrdiff_t>(std::min<size_t>(
                                       pick(64), input.size() - at)));
        break;
      default: {
        const size_t from = pick(other.size());
        const size_t length = std::min<size_t>(pick(64), other.size() - from);
        const auto begin = other.begin() + static_cast<ptrdiff_t>(from);
        input.insert(place, begin, begin + static_cast<ptrdiff_t>(length));
      }
    }
  }

  // Puts a number of `width` bytes at `at`, if there is room.
  static void putNumber(Input& input, size_t at, size_t width, uint64_t value) {
    if (at + width <= input.size())
      std::memcpy(input.data() + at, &value, width);
  }
  // Puts one of `values` into some aligned place of [from, from + length).
  void putOne(Input& input,
              size_t from,
              size_t length,
              const std::vector<uint64_t>& values) {
    const size_t width = size_t{1} << pick(4);
    if (length < width)
      return;
    const uint64_t value =
        oneIn(3) ? kOddNumbers[pick(std::size(kOddNumbers))] : of(values);
    putNumber(input, from + pick(length / width) * width, width, value);
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace nydus::test
