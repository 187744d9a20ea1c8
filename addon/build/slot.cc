#include "build/slot.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace nydus::build {
namespace {

constexpr size_t kPage = 4096;

constexpr size_t pages(size_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

template <typename T>
std::span<T> carve(std::byte*& from, size_t count) {
  const std::span<T> carved(reinterpret_cast<T*>(from), count);
  from += pages(count * sizeof(T));
  return carved;
}

// A whole number from 0 to `most`.
bool isCount(double value, double most) {
  return value >= 0 && value <= most && std::trunc(value) == value;
}

}  // namespace

Slot::Slot(const SlotLimits& limits) : limits_(limits) {
  const size_t inputSize = std::max(limits.bytes, limits.paths);
  const size_t dataSize = limits.bytes + limits.spare;
  memory_ = Mmap::anonymous(
      pages(limits.parts * sizeof(Part)) + pages(inputSize) +
      pages(limits.chunks * sizeof(ChunkResult)) + pages(dataSize));
  if (!memory_)
    throw std::bad_alloc();
  std::byte* at = memory_.data();
  parts_ = carve<Part>(at, limits.parts);
  input_ = carve<std::byte>(at, inputSize);
  results_ = carve<ChunkResult>(at, limits.chunks);
  data_ = carve<std::byte>(at, dataSize);
}

bool Slot::isInside(const Part& part) const {
  const auto size = static_cast<double>(input_.size());
  return isCount(part.offset, 0x1p53) &&
         isCount(part.length, static_cast<double>(limits_.bytes)) &&
         isCount(part.folderAt, size) && isCount(part.nameAt, size) &&
         isCount(part.folderLength, size - part.folderAt) &&
         isCount(part.nameLength, size - part.nameAt);
}

const char* Slot::take(JobKind kind, size_t count, size_t chunkSize) {
  if (count > parts_.size() || (kind == JobKind::kBatch && count != 1))
    return "wrong number of parts";
  // First a copy, then the checks: JavaScript can still write to the slot.
  kind_ = kind;
  taken_.assign(parts_.begin(), parts_.begin() + static_cast<ptrdiff_t>(count));
  double bytes = 0;
  double chunks = 0;
  for (const Part& part : taken_) {
    if (!isInside(part))
      return "a part lies outside of the slot";
    bytes += part.length;
    chunks += std::ceil(part.length / static_cast<double>(chunkSize));
  }
  if (bytes > static_cast<double>(limits_.bytes))
    return "too many bytes";
  if (chunks > static_cast<double>(results_.size()))
    return "too many chunks";
  return nullptr;
}

}  // namespace nydus::build
