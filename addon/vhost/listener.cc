#include "vhost/listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include "sys/system_error.h"
#include "sys/unix_socket.h"

namespace nydus {
namespace {

// One front-end at a time; others that knock are refused at once.
constexpr int kBacklog = 8;

[[noreturn]] void fail(int error, const char* call) {
  throw SystemError(error, call);
}

}  // namespace

Listener::Listener(const std::string& path)
    : socket_(listenUnix(path, kBacklog)), path_(path) {
  struct stat info = {};
  if (::lstat(path.c_str(), &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
}

Listener::Listener(UniqueFd socket) : socket_(std::move(socket)) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening,
                   &size) != 0) {
    fail(errno, "getsockopt");
  }
  if (listening == 0)
    fail(EINVAL, "accept");
  const int flags = ::fcntl(socket_.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    fail(errno, "fcntl");
  }
}

Listener::~Listener() {
  struct stat info = {};
  if (!path_.empty() && ::lstat(path_.c_str(), &info) == 0 &&
      info.st_dev == device_ && info.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

UniqueFd Listener::accept() const noexcept {
  return UniqueFd(
      ::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

}  // namespace nydus
