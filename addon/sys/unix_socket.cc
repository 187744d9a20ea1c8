#include "sys/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "sys/system_error.h"

namespace nydus {

UniqueFd listenUnix(const std::string& path, int backlog) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    throw SystemError(ENAMETOOLONG, "bind");
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd)
    throw SystemError(errno, "socket");
  // The file takes the socket's mode (less the umask): no moment in which
  // others could connect.
  if (::fchmod(fd.get(), S_IRUSR | S_IWUSR) != 0)
    throw SystemError(errno, "fchmod");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
             sizeof address) != 0) {
    throw SystemError(errno, "bind");
  }
  if (::listen(fd.get(), backlog) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    throw SystemError(error, "listen");
  }
  return fd;
}

}  // namespace nydus
