#include "vhost/channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace nydus {
namespace {

constexpr size_t kHeaderSize = sizeof(MessageHeader);

}  // namespace

Channel::State Channel::read() {
  if (have_ == 0)
    message_ = Message();
  if (have_ < kHeaderSize) {
    const State state = readHeader();
    if (state != State::kMessage)
      return state;
  }
  while (have_ < kHeaderSize + message_.header.size) {
    const size_t done = have_ - kHeaderSize;
    // Without room for descriptors: those that come in mid-message are closed
    // by the kernel.
    const ssize_t n = ::recv(socket_.get(), message_.payload.data() + done,
                             message_.header.size - done, MSG_DONTWAIT);
    if (n == 0)
      return State::kClosed;
    if (n < 0) {
      if (errno == EINTR)
        continue;
      return errno == EAGAIN ? State::kWaiting : State::kClosed;
    }
    have_ += static_cast<size_t>(n);
  }
  have_ = 0;
  return State::kMessage;
}

Channel::State Channel::readHeader() {
  std::array<std::byte, kHeaderSize> bytes;
  std::memcpy(bytes.data(), &message_.header, kHeaderSize);
  while (have_ < kHeaderSize) {
    const std::span<std::byte> rest = std::span(bytes).subspan(have_);
    // Descriptors come with the first byte of a message.
    const ssize_t n = have_ == 0 ? receiveFirst(rest)
                                 : ::recv(socket_.get(), rest.data(),
                                          rest.size(), MSG_DONTWAIT);
    if (!problem_.empty())
      return State::kBroken;
    if (n == 0)
      return State::kClosed;
    if (n < 0) {
      if (errno == EINTR)
        continue;
      return errno == EAGAIN ? State::kWaiting : State::kClosed;
    }
    if (have_ == 0)
      startedAt_ = std::chrono::steady_clock::now();
    have_ += static_cast<size_t>(n);
    std::memcpy(&message_.header, bytes.data(), kHeaderSize);
  }
  const MessageHeader& header = message_.header;
  if ((header.flags & kFlagVersionMask) != kFlagVersion ||
      (header.flags & ~kFlagsKnown) != 0 || (header.flags & kFlagReply) != 0) {
    return broken("request " + std::to_string(header.request) + " has flags " +
                  std::to_string(header.flags));
  }
  if (header.size > kMaxPayload) {
    return broken("request " + std::to_string(header.request) +
                  " has a payload of " + std::to_string(header.size) +
                  " bytes");
  }
  message_.payload.resize(header.size);
  return State::kMessage;
}

ssize_t Channel::receiveFirst(std::span<std::byte> to) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxFds * sizeof(int))>
      control;
  iovec vector = {to.data(), to.size()};
  msghdr header = {};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t n =
      ::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0)
    return n;
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr;
       item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof fd);
      message_.fds.emplace_back(fd);
    }
  }
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    broken("a message carries more than " + std::to_string(kMaxFds) +
           " descriptors");
  }
  return n;
}

Channel::State Channel::broken(std::string problem) {
  problem_ = std::move(problem);
  message_ = Message();
  return State::kBroken;
}

std::optional<std::chrono::steady_clock::time_point> Channel::partialSince()
    const noexcept {
  if (have_ == 0)
    return std::nullopt;
  return startedAt_;
}

bool Channel::reply(uint32_t request,
                    std::span<const std::byte> payload,
                    int fd) {
  std::array<std::byte, kHeaderSize + kMaxPayload> bytes;
  if (payload.size() > kMaxPayload)
    return false;
  const MessageHeader header{request, kFlagVersion | kFlagReply,
                             static_cast<uint32_t>(payload.size())};
  std::memcpy(bytes.data(), &header, kHeaderSize);
  if (!payload.empty()) {
    std::memcpy(bytes.data() + kHeaderSize, payload.data(), payload.size());
  }
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  iovec vector = {bytes.data(), kHeaderSize + payload.size()};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(item), &fd, sizeof fd);
  }
  for (;;) {
    const ssize_t n =
        ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR)
      continue;
    // A reply is far smaller than the buffer of a socket whose peer reads.
    return n == static_cast<ssize_t>(vector.iov_len);
  }
}

bool Channel::hungUp() const noexcept {
  pollfd entry = {socket_.get(), POLLRDHUP, 0};
  return ::poll(&entry, 1, 0) > 0 &&
         (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace nydus
