// A system call that failed, thrown.
#pragma once

#include <cstring>
#include <exception>

namespace nydus {

class SystemError : public std::exception {
 public:
  // `call` must be a literal: "mmap", "dup", …
  SystemError(int error, const char* call) noexcept
      : error_(error), call_(call) {}

  [[nodiscard]] int error() const noexcept { return error_; }
  [[nodiscard]] const char* call() const noexcept { return call_; }
  [[nodiscard]] const char* what() const noexcept override {
    return ::strerrordesc_np(error_);
  }

 private:
  int error_;
  const char* call_;
};

}  // namespace nydus
