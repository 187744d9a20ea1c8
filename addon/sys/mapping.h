// A guarded mapping of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "sys/fault_guard.h"

namespace nydus {

// The first `size` bytes of a file, mapped; pages that vanish read as zeros
// (FaultGuard). Unmapped when it dies.
class Mapping {
 public:
  enum class Mode {
    kReadOnly,    // private: a store into it crashes
    kReadShared,  // shared, but this process only reads
    kReadWrite,   // shared
  };

  // Starts of mappings are multiples of it, so that a huge page fits and
  // neighbouring windows of a mapping never share a page table's fault-around.
  static constexpr size_t kAlignment = size_t{2} << 20;

  // Nothing mapped.
  Mapping() noexcept = default;
  // Throws SystemError; EFBIG when the file is shorter than `size`, EINVAL when
  // it is not a regular file.
  static Mapping ofFile(int fd, uint64_t size, Mode mode);

  Mapping(Mapping&& other) noexcept { swap(other); }
  Mapping& operator=(Mapping&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Mapping();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  void swap(Mapping& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(guard_, other.guard_);
  }

  std::byte* data_ = nullptr;
  size_t size_ = 0;
  FaultGuard::Id guard_ = FaultGuard::kNone;
};

}  // namespace nydus
