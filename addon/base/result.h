// A value or the reason why there is none. For what another party can cause
// (a front-end, a guest): such failures are answers, not exceptions.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace nydus {

struct Failure {
  // One sentence: what was wanted, what came.
  std::string reason;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Failure failure) : reason_(std::move(failure.reason)) {}

  explicit operator bool() const noexcept { return value_.has_value(); }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  [[nodiscard]] const std::string& reason() const noexcept { return reason_; }
  [[nodiscard]] Failure failure() const { return Failure{reason_}; }

 private:
  std::optional<T> value_;
  std::string reason_;
};

// Success without a value.
struct Done {};
using Status = Result<Done>;

}  // namespace nydus
