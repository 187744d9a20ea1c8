// The socket that front-ends knock at.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/fd.h"

namespace nydus {

class Listener {
 public:
  // Listens at `path`, mode 0600. Throws SystemError named after the
  // call that failed.
  explicit Listener(const std::string& path);
  // Takes over a socket that listens already; its file, if any, is not ours.
  explicit Listener(UniqueFd socket);
  // Removes the file, unless somebody has put another in its place.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  // A connection that waits, non-blocking; none otherwise, errno says why.
  [[nodiscard]] UniqueFd accept() const noexcept;

 private:
  UniqueFd socket_;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace nydus
