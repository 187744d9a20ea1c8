#include <sys/mman.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <vector>

#include "test/check.h"
#include "vhost/channel.h"

namespace nydus {
namespace {

struct Pair {
  Pair() {
    int fds[2] = {};
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    peer = UniqueFd(fds[0]);
    channel.emplace(UniqueFd(fds[1]));
  }
  void send(const void* data, size_t size, std::vector<int> fds = {}) {
    iovec vector = {const_cast<void*>(data), size};
    msghdr message = {};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(64 * sizeof(int))>
        control{};
    if (!fds.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
      cmsghdr* item = CMSG_FIRSTHDR(&message);
      item->cmsg_level = SOL_SOCKET;
      item->cmsg_type = SCM_RIGHTS;
      item->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      std::memcpy(CMSG_DATA(item), fds.data(), fds.size() * sizeof(int));
    }
    CHECK(::sendmsg(peer.get(), &message, 0) == static_cast<ssize_t>(size));
  }
  void header(uint32_t request,
              uint32_t flags,
              uint32_t size,
              std::vector<int> fds = {}) {
    const MessageHeader header{request, flags, size};
    send(&header, sizeof header, std::move(fds));
  }

  UniqueFd peer;
  std::optional<Channel> channel;
};

using State = Channel::State;

TEST(vhostChannelPutsPiecesTogether) {
  Pair p;
  CHECK(p.channel->read() == State::kWaiting);
  CHECK(!p.channel->partialSince());
  const MessageHeader header{SET_FEATURES, kFlagVersion, 8};
  const uint64_t payload = 0x1122334455667788;
  const auto* bytes = reinterpret_cast<const char*>(&header);
  for (size_t i = 0; i < sizeof header; i++) {
    p.send(bytes + i, 1);
    CHECK(p.channel->read() == State::kWaiting);
    CHECK(p.channel->partialSince().has_value());
  }
  p.send(&payload, 5);
  CHECK(p.channel->read() == State::kWaiting);
  p.send(reinterpret_cast<const char*>(&payload) + 5, 3);
  CHECK(p.channel->read() == State::kMessage);
  CHECK_EQ(p.channel->message().as<uint64_t>(), payload);
  CHECK(!p.channel->partialSince());
}

TEST(vhostChannelSeparatesMessages) {
  Pair p;
  const UniqueFd fd(::memfd_create("x", MFD_CLOEXEC));
  p.header(GET_FEATURES, kFlagVersion, 0);
  p.header(SET_LOG_FD, kFlagVersion, 0, {fd.get()});
  p.header(GET_QUEUE_NUM, kFlagVersion, 0);
  CHECK(p.channel->read() == State::kMessage);
  CHECK(p.channel->message().fds.empty());
  CHECK(p.channel->read() == State::kMessage);
  CHECK_EQ(p.channel->message().fds.size(), 1u);
  CHECK(p.channel->read() == State::kMessage);
  CHECK_EQ(p.channel->message().header.request, uint32_t{GET_QUEUE_NUM});
  CHECK(p.channel->message().fds.empty());
}

TEST(vhostChannelRefusesWhatIsNoMessage) {
  for (const uint32_t flags : {0u, 2u, 3u, 5u, 0x11u, 0x80000001u}) {
    Pair p;
    p.header(GET_FEATURES, flags, 0);
    CHECK(p.channel->read() == State::kBroken);
    CHECK(!p.channel->problem().empty());
  }
  for (const uint32_t size : {kMaxPayload + 1, 0xffffffffu}) {
    Pair p;
    p.header(GET_FEATURES, kFlagVersion, size);
    CHECK(p.channel->read() == State::kBroken);
  }
}

TEST(vhostChannelClosesDescriptorsThatNobodyTook) {
  Pair p;
  int ends[2] = {};
  CHECK(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
  const UniqueFd reader(ends[0]);
  p.header(GET_FEATURES, kFlagVersion, 8, {ends[1]});
  ::close(ends[1]);
  // Descriptors in the middle of a message are nobody's either.
  const uint64_t payload = 0;
  int more[2] = {};
  CHECK(::pipe2(more, O_CLOEXEC | O_NONBLOCK) == 0);
  const UniqueFd reader2(more[0]);
  p.send(&payload, 8, {more[1]});
  ::close(more[1]);
  CHECK(p.channel->read() == State::kMessage);
  char byte = 0;
  CHECK(::read(reader.get(), &byte, 1) == -1);  // still held by the message
  CHECK(::read(reader2.get(), &byte, 1) == 0);  // closed
  CHECK(p.channel->read() == State::kWaiting);
  CHECK(::read(reader.get(), &byte, 1) == 0);
}

TEST(vhostChannelRefusesFloodsOfDescriptors) {
  Pair p;
  const UniqueFd fd(::memfd_create("x", MFD_CLOEXEC));
  p.header(GET_FEATURES, kFlagVersion, 0,
           std::vector<int>(kMaxFds + 1, fd.get()));
  CHECK(p.channel->read() == State::kBroken);
}

TEST(vhostChannelNeverWaitsForAReader) {
  Pair p;
  const std::array<std::byte, 256> payload{};
  int replies = 0;
  while (p.channel->reply(GET_CONFIG, payload) && replies < 100'000)
    replies++;
  CHECK(replies > 0);
  CHECK(replies < 100'000);
  p.peer.reset();
  CHECK(!p.channel->reply(GET_CONFIG, payload));
  CHECK(p.channel->hungUp());
}

}  // namespace
}  // namespace nydus
