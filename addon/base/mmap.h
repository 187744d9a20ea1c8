// Owns one memory map.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <utility>

namespace nydus {

class Mmap {
 public:
  Mmap() noexcept = default;
  Mmap(Mmap&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)),
        length_(std::exchange(other.length_, 0)) {}
  Mmap& operator=(Mmap&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(length_, other.length_);
    return *this;
  }
  ~Mmap() {
    if (address_ != nullptr)
      ::munmap(address_, length_);
  }

  // Empty on failure, errno says why.
  [[nodiscard]] static Mmap map(size_t length,
                                int protection,
                                int flags,
                                int fd,
                                off_t offset) noexcept {
    Mmap map;
    void* address = ::mmap(nullptr, length, protection, flags, fd, offset);
    if (address != MAP_FAILED) {
      map.address_ = address;
      map.length_ = length;
    }
    return map;
  }
  // Zeros that take no memory before they are written.
  [[nodiscard]] static Mmap anonymous(size_t length) noexcept {
    return map(length, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }

  explicit operator bool() const noexcept { return address_ != nullptr; }
  [[nodiscard]] std::byte* data() const noexcept {
    return static_cast<std::byte*>(address_);
  }
  [[nodiscard]] size_t size() const noexcept { return length_; }

 private:
  void* address_ = nullptr;
  size_t length_ = 0;
};

}  // namespace nydus
