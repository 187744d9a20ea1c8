// An eventfd of our own (never one that a front-end sent).
#pragma once

#include <sys/eventfd.h>

#include <cerrno>
#include <cstdint>
#include "sys/system_error.h"

#include "base/fd.h"

namespace nydus {

class EventFd {
 public:
  EventFd() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!fd_) {
      throw SystemError(errno, "eventfd");
    }
  }

  [[nodiscard]] int get() const noexcept { return fd_.get(); }
  void signal() const noexcept {
    const uint64_t one = 1;
    // EAGAIN: the counter is saturated, so the reader wakes up anyway.
    [[maybe_unused]] const ssize_t n = ::write(fd_.get(), &one, sizeof one);
  }
  void clear() const noexcept {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t n = ::read(fd_.get(), &count, sizeof count);
  }

 private:
  UniqueFd fd_;
};

}  // namespace nydus
