// Owning file descriptor.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace nydus {

class UniqueFd {
 public:
  explicit UniqueFd(int fd = -1) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd() {
    if (fd_ >= 0)
      ::close(fd_);
  }

  // -1 when it owns none.
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  // Closes it early.
  void reset() noexcept { *this = UniqueFd(); }
  // Another descriptor for the same open file; owns none on failure.
  [[nodiscard]] UniqueFd duplicate() const noexcept {
    return UniqueFd(::fcntl(fd_, F_DUPFD_CLOEXEC, 0));
  }

 private:
  int fd_;
};

}  // namespace nydus
