#include "vhost/peer_signal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace nydus {

Result<PeerSignal::Ptr> PeerSignal::accept(UniqueFd fd) {
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0 || S_ISREG(info.st_mode) ||
      S_ISDIR(info.st_mode) || S_ISBLK(info.st_mode)) {
    return Failure{"a descriptor for signals is not an eventfd"};
  }
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return Failure{"a descriptor for signals cannot be made non-blocking"};
  }
  return Ptr(std::make_shared<PeerSignal>(std::move(fd)));
}

void PeerSignal::signal() const noexcept {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(fd_.get(), &one, sizeof one);
}

bool PeerSignal::drain() const noexcept {
  uint64_t count = 0;
  const ssize_t n = ::read(fd_.get(), &count, sizeof count);
  return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

}  // namespace nydus
