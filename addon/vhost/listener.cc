#include "vhost/listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include "sys/system_error.h"

namespace nydus {
namespace {

// One front-end at a time; others that knock are refused at once.
constexpr int kBacklog = 8;

[[noreturn]] void fail(int error, const char* call) {
  throw SystemError(error, call);
}

}  // namespace

Listener::Listener(const std::string& path) : path_(path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    fail(ENAMETOOLONG, "bind");
  std::memcpy(address.sun_path, path.data(), path.size());
  socket_ = UniqueFd(
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_)
    fail(errno, "socket");
  // The file takes the socket's mode (less the umask): no moment in which
  // others could connect.
  if (::fchmod(socket_.get(), S_IRUSR | S_IWUSR) != 0)
    fail(errno, "fchmod");
  if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address),
             sizeof address) != 0) {
    fail(errno, "bind");
  }
  struct stat info = {};
  if (::lstat(path.c_str(), &info) == 0) {
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
  if (::listen(socket_.get(), kBacklog) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    fail(error, "listen");
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
