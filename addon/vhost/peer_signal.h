// A descriptor that a front-end sent for signals (kick, call, err): an
// eventfd if it is honest, anything if it is not.
#pragma once

#include <memory>

#include "base/fd.h"
#include "base/result.h"

namespace nydus {

class PeerSignal {
 public:
  using Ptr = std::shared_ptr<const PeerSignal>;

  // Refuses files and directories: reading and writing those may block
  // whatever their flags say. Sets O_NONBLOCK.
  static Result<Ptr> accept(UniqueFd fd);

  explicit PeerSignal(UniqueFd fd) noexcept : fd_(std::move(fd)) {}
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  // Adds 1 to the eventfd. A full counter is as good as one more.
  void signal() const noexcept;
  // Reads the counter away. False: it will never be an eventfd that works
  // (end of file, error), do not wait for it again.
  [[nodiscard]] bool drain() const noexcept;

 private:
  UniqueFd fd_;
};

}  // namespace nydus
