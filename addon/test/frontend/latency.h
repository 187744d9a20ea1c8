// Latencies in a fixed number of buckets, 3 % wide.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace nydus::frontend {

class LatencyHistogram {
 public:
  void add(uint64_t nanoseconds) noexcept {
    counts_[bucket(nanoseconds)]++;
    total_++;
  }
  // The value below which `fraction` of all lie; 0 when there are none.
  [[nodiscard]] uint64_t quantile(double fraction) const noexcept {
    const auto wanted =
        static_cast<uint64_t>(fraction * static_cast<double>(total_));
    uint64_t seen = 0;
    for (uint32_t i = 0; i < counts_.size(); i++) {
      seen += counts_[i];
      if (seen > wanted) {
        return lowest(i);
      }
    }
    return 0;
  }

 private:
  // Below 64: one bucket a value. Above: 32 buckets for each power of two.
  static uint32_t bucket(uint64_t value) noexcept {
    if (value < 64) {
      return static_cast<uint32_t>(value);
    }
    const int shift = std::bit_width(value) - 6;
    return static_cast<uint32_t>(shift * 32 + (value >> shift));
  }
  static uint64_t lowest(uint32_t index) noexcept {
    if (index < 64) {
      return index;
    }
    const uint32_t shift = index / 32 - 1;
    return uint64_t{index % 32 + 32} << shift;
  }

  std::array<uint64_t, 60 * 32> counts_{};
  uint64_t total_ = 0;
};

}  // namespace nydus::frontend
