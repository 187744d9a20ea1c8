#include "test/frontend/vhost_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "sys/system_error.h"

namespace nydus::frontend {
namespace {

struct Header {
  uint32_t request;
  uint32_t flags;
  uint32_t size;
};
static_assert(sizeof(Header) == 12);

constexpr size_t kMaxFds = 64;
constexpr uint32_t kMaxPayload = 1 << 20;
constexpr std::chrono::seconds kMessageTime(10);

using Clock = std::chrono::steady_clock;

// Reads `bytes` completely; false at the end of the stream.
bool readAll(int socket,
             std::span<std::byte> bytes,
             std::vector<UniqueFd>* fds,
             Clock::time_point deadline) {
  size_t have = 0;
  while (have < bytes.size()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - Clock::now());
    pollfd ready = {socket, POLLIN, 0};
    const int count =
        ::poll(&ready, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
    if (count == 0) {
      throw SystemError(ETIMEDOUT, "recvmsg");
    }
    iovec part = {bytes.data() + have, bytes.size() - have};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxFds * sizeof(int))>
        control;
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno == ECONNRESET) {
      return false;
    }
    if (n < 0) {
      throw SystemError(errno, "recvmsg");
    }
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr;
         c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
        continue;
      }
      const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < n; i++) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        fds->emplace_back(fd);
      }
    }
    if (n == 0) {
      return false;
    }
    have += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

VhostSocket::VhostSocket(const std::string& path)
    : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (!socket_) {
    throw SystemError(errno, "socket");
  }
  if (path.size() >= sizeof address.sun_path) {
    throw SystemError(ENAMETOOLONG, "connect");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address),
                sizeof address) != 0) {
    throw SystemError(errno, "connect");
  }
}

void VhostSocket::send(std::span<const std::byte> bytes,
                       std::span<const int> fds) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    iovec part = {const_cast<std::byte*>(bytes.data()) + sent,
                  bytes.size() - sent};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxFds * sizeof(int))>
        control = {};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (sent == 0 && !fds.empty()) {
      const size_t count = std::min(fds.size(), kMaxFds);
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(count * sizeof(int));
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(count * sizeof(int));
      std::memcpy(CMSG_DATA(c), fds.data(), count * sizeof(int));
    }
    const ssize_t n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      throw SystemError(errno, "sendmsg");
    }
    sent += static_cast<size_t>(n);
  }
}

bool VhostSocket::ready(std::chrono::milliseconds timeout) const {
  pollfd ready = {socket_.get(), POLLIN, 0};
  return ::poll(&ready, 1, static_cast<int>(timeout.count())) > 0;
}

std::optional<VhostMessage> VhostSocket::receive() {
  const Clock::time_point deadline = Clock::now() + kMessageTime;
  VhostMessage message;
  Header header = {};
  if (!readAll(socket_.get(), std::as_writable_bytes(std::span(&header, 1)),
               &message.fds, deadline)) {
    return std::nullopt;
  }
  if (header.size > kMaxPayload) {
    throw SystemError(EMSGSIZE, "recvmsg");
  }
  message.request = header.request;
  message.flags = header.flags;
  message.payload.resize(header.size);
  if (!readAll(socket_.get(), message.payload, &message.fds, deadline)) {
    return std::nullopt;
  }
  return message;
}

}  // namespace nydus::frontend
