// A front-end for native tests that can say exactly what a test wants, right
// or wrong: every message of the protocol, typed, with or without need_reply.
#pragma once

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_fd.h"
#include "test/frontend/driver_ring.h"
#include "test/frontend/guest_space.h"
#include "test/frontend/vhost_socket.h"
#include "vhost/device.h"
#include "vhost/protocol.h"

namespace nydus::test {

constexpr std::chrono::milliseconds kPatience{10'000};

// A folder that goes away with its socket.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = "/tmp/nydus-native-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr)
      std::abort();
    path_ = name;
  }
  ~TemporaryFolder() {
    ::unlink(socket().c_str());
    ::rmdir(path_.c_str());
  }
  [[nodiscard]] std::string socket() const { return path_ + "/s"; }

 private:
  std::string path_;
};

class Peer {
 public:
  explicit Peer(const std::string& path) : socket_(path) {}

  [[nodiscard]] frontend::VhostSocket& socket() noexcept { return socket_; }

  void sendRaw(uint32_t request,
               uint32_t flags,
               uint32_t size,
               std::span<const std::byte> payload,
               std::vector<int> fds = {}) {
    const MessageHeader header{request, flags, size};
    std::vector<std::byte> bytes(sizeof header + payload.size());
    std::memcpy(bytes.data(), &header, sizeof header);
    if (!payload.empty()) {
      std::memcpy(bytes.data() + sizeof header, payload.data(), payload.size());
    }
    socket_.send(bytes, fds);
  }
  void sendBytes(uint32_t request,
                 std::span<const std::byte> payload,
                 std::vector<int> fds = {},
                 bool needReply = false) {
    sendRaw(request, kFlagVersion | (needReply ? kFlagNeedReply : 0),
            static_cast<uint32_t>(payload.size()), payload, std::move(fds));
  }
  template <typename T>
  void send(uint32_t request,
            const T& payload,
            std::vector<int> fds = {},
            bool needReply = false) {
    sendBytes(request, std::as_bytes(std::span(&payload, 1)), std::move(fds),
              needReply);
  }

  // Nothing when the connection is closed instead, or nothing comes.
  std::optional<frontend::VhostMessage> receive() {
    if (!socket_.ready(kPatience))
      return std::nullopt;
    return socket_.receive();
  }
  std::optional<uint64_t> receive64() {
    const auto message = receive();
    if (!message || message->payload.size() != sizeof(uint64_t)) {
      return std::nullopt;
    }
    return loadLe<uint64_t>(message->payload.data());
  }
  // Sends with need_reply and returns the acknowledgement.
  template <typename T>
  std::optional<uint64_t> acked(uint32_t request,
                                const T& payload,
                                std::vector<int> fds = {}) {
    send(request, payload, std::move(fds), true);
    return receive64();
  }
  std::optional<uint64_t> ask64(uint32_t request) {
    sendBytes(request, {});
    return receive64();
  }
  // Everything that was sent before has been handled when it returns true.
  bool alive() { return ask64(GET_FEATURES).has_value(); }
  // The back-end closes the connection (after messages that do not matter).
  bool closed() {
    while (receive()) {
    }
    return true;
  }

  void negotiate(uint64_t features = kFeatures & ~kFeatureLogAll) {
    send(SET_PROTOCOL_FEATURES, uint64_t{kProtocolFeatures});
    send(SET_FEATURES, features);
  }

 private:
  frontend::VhostSocket socket_;
};

// Guest memory with a hole below 1 MiB, as QEMU's.
class TestGuest {
 public:
  static constexpr uint64_t kSize = 4u << 20;
  static constexpr uint64_t kLowEnd = 0xa0000;
  static constexpr uint64_t kHighStart = 0xc0000;

  TestGuest() : space(kSize) {
    space.addFile(kSize);
    space.addRegion(0, 0, kLowEnd, 0);
    space.addRegion(0, kHighStart, kSize - kHighStart, kHighStart);
  }
  [[nodiscard]] RegionSpec region(uint64_t gpa, uint64_t size) const {
    return {gpa, size, user(gpa), gpa};
  }
  [[nodiscard]] uint64_t user(uint64_t gpa) const {
    return reinterpret_cast<uint64_t>(space.host(gpa));
  }
  // All acknowledgements, added up: 0 when all is well.
  uint64_t share(Peer& peer) {
    uint64_t bad = 0;
    for (const RegionSpec& spec :
         {region(0, kLowEnd), region(kHighStart, kSize - kHighStart)}) {
      bad += peer.acked(ADD_MEM_REG, MemoryRegion{0, spec}, {space.fileFd(0)})
                 .value_or(1);
    }
    return bad;
  }

  frontend::GuestSpace space;
};

// One ring of the guest, with the descriptors that belong to it.
class TestRing {
 public:
  TestRing(TestGuest& guest, uint32_t index, uint16_t size, bool eventIdx)
      : guest(guest), index(index), ring(guest.space, size, eventIdx) {}

  [[nodiscard]] VringAddress addresses() const {
    return {index,
            0,
            guest.user(ring.descriptors()),
            guest.user(ring.used()),
            guest.user(ring.avail()),
            0};
  }
  // Acknowledgements, added up.
  uint64_t start(Peer& peer, uint16_t base = 0) {
    uint64_t bad = 0;
    bad +=
        peer.acked(SET_VRING_CALL, uint64_t{index}, {call.get()}).value_or(1);
    bad +=
        peer.acked(SET_VRING_ERR, uint64_t{index}, {error.get()}).value_or(1);
    bad +=
        peer.acked(SET_VRING_NUM, VringState{index, ring.size()}).value_or(1);
    bad += peer.acked(SET_VRING_BASE, VringState{index, base}).value_or(1);
    bad += peer.acked(SET_VRING_ADDR, addresses()).value_or(1);
    bad +=
        peer.acked(SET_VRING_KICK, uint64_t{index}, {kick.get()}).value_or(1);
    bad += peer.acked(SET_VRING_ENABLE, VringState{index, 1}).value_or(1);
    return bad;
  }
  std::optional<uint32_t> stop(Peer& peer) {
    peer.send(GET_VRING_BASE, VringState{index, 0});
    const auto reply = peer.receive();
    if (!reply || reply->payload.size() != sizeof(VringState)) {
      return std::nullopt;
    }
    return loadLe<VringState>(reply->payload.data()).num;
  }

  TestGuest& guest;
  const uint32_t index;
  frontend::DriverRing ring;
  EventFd kick;
  EventFd call;
  EventFd error;
};

}  // namespace nydus::test
