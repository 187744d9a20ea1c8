// Every request of the protocol: right, with a payload that is too short or
// too long, without its descriptor, with one too many, with need_reply and
// without.
#include <sys/mman.h>

#include <atomic>

#include "test/check.h"
#include "test/lane_thread.h"
#include "test/vhost_peer.h"

namespace nydus {
namespace {

using test::Peer;
using test::TemporaryFolder;
using test::TestGuest;
using test::TestRing;

struct Backend {
  explicit Backend(std::string tag = "", uint32_t queues = 2) {
    DeviceOptions options;
    options.path = folder.socket();
    options.requestQueues = queues;
    options.tag = std::move(tag);
    options.drainLimit = std::chrono::milliseconds(200);
    device = std::make_unique<Device>(std::move(options));
  }
  TemporaryFolder folder;
  std::unique_ptr<Device> device;
};

// What a right request of each kind looks like, before anything else was said.
struct Sample {
  std::vector<std::byte> payload;
  std::vector<int> fds;
};
template <typename T>
std::vector<std::byte> bytesOf(const T& value) {
  const auto span = std::as_bytes(std::span(&value, 1));
  return {span.begin(), span.end()};
}

Sample sampleOf(Request request, const TestGuest& guest, const EventFd& event) {
  switch (request) {
    case SET_FEATURES:
      return {bytesOf(kFeatureProtocol | kFeatureVersion1), {}};
    case SET_MEM_TABLE: {
      auto payload = bytesOf(MemoryTable{1, 0});
      const auto region = bytesOf(guest.region(0, TestGuest::kLowEnd));
      payload.insert(payload.end(), region.begin(), region.end());
      return {payload, {guest.space.fileFd(0)}};
    }
    case SET_LOG_BASE:
      return {bytesOf(LogDescription{4096, 0}), {guest.space.fileFd(0)}};
    case SET_LOG_FD:
      return {{}, {event.get()}};
    case SET_VRING_NUM:
      return {bytesOf(VringState{1, 128}), {}};
    case SET_VRING_ADDR:
      return {bytesOf(VringAddress{1, 0, guest.user(0), guest.user(8192),
                                   guest.user(4096), 0}),
              {}};
    case SET_VRING_BASE:
    case GET_VRING_BASE:
      return {bytesOf(VringState{1, 0}), {}};
    case SET_VRING_KICK:
    case SET_VRING_CALL:
    case SET_VRING_ERR:
      return {bytesOf(uint64_t{1}), {event.get()}};
    case SET_PROTOCOL_FEATURES:
      return {bytesOf(uint64_t{kProtocolFeatures}), {}};
    case SET_VRING_ENABLE:
      return {bytesOf(VringState{1, 0}), {}};
    case SET_BACKEND_REQ_FD:
      return {{}, {event.get()}};
    case GET_CONFIG: {
      auto payload = bytesOf(ConfigHeader{0, 40, 0});
      payload.resize(payload.size() + 40);
      return {payload, {}};
    }
    case SET_CONFIG:
      return {bytesOf(ConfigHeader{0, 0, 0}), {}};
    case GET_INFLIGHT_FD: {
      auto payload = bytesOf(InflightDescription{0, 0, 3, 128, 0});
      payload.resize(kInflightSize);
      return {payload, {}};
    }
    case SET_INFLIGHT_FD: {
      auto payload = bytesOf(
          InflightDescription{InflightArea::bytesPerQueue(128), 0, 1, 128, 0});
      payload.resize(kInflightSize);
      return {payload, {guest.space.fileFd(0)}};
    }
    case ADD_MEM_REG:
      return {bytesOf(MemoryRegion{
                  0, guest.region(TestGuest::kHighStart, 1u << 20)}),
              {guest.space.fileFd(0)}};
    case REM_MEM_REG:
      return {bytesOf(MemoryRegion{0, guest.region(0, TestGuest::kLowEnd)}),
              {}};
    case SET_STATUS:
      return {bytesOf(uint64_t{8}), {}};
    default:
      return {};
  }
}

// Sends one request behind the first region of memory and a negotiation.
struct Outcome {
  bool alive = false;
  // The reply's payload; nothing when there was none.
  std::optional<std::vector<std::byte>> reply;
};
Outcome outcomeOf(Backend& backend,
                  const TestGuest& guest,
                  Request request,
                  const Sample& sample,
                  bool needReply,
                  bool ownReply) {
  Peer peer(backend.folder.socket());
  peer.send(SET_PROTOCOL_FEATURES, uint64_t{kProtocolFeatures});
  peer.send(ADD_MEM_REG, MemoryRegion{0, guest.region(0, TestGuest::kLowEnd)},
            {guest.space.fileFd(0)});
  Outcome out;
  try {
    peer.sendBytes(request, sample.payload, sample.fds, needReply);
    if (needReply || ownReply) {
      auto reply = peer.receive();
      if (!reply)
        return out;
      CHECK_EQ(reply->request, uint32_t{request});
      CHECK_EQ(reply->flags, kFlagVersion | kFlagReply);
      out.reply = std::move(reply->payload);
    }
    out.alive = peer.alive();
  } catch (const std::exception&) {
  }
  return out;
}

uint64_t acknowledged(const Outcome& out) {
  return out.reply && out.reply->size() == 8
             ? loadLe<uint64_t>(out.reply->data())
             : ~uint64_t{0};
}

void expectThat(bool ok, const RequestRule& rule, const char* what) {
  if (!ok)
    test::fail(__FILE__, __LINE__, std::string(rule.name) + ": " + what);
}

TEST(vhostEveryRequestIsServedAndAcknowledged) {
  const TestGuest guest;
  const EventFd event;
  Backend backend("tag");
  for (const RequestRule& rule : kRequestRules) {
    const Sample sample = sampleOf(rule.request, guest, event);
    const Outcome asked =
        outcomeOf(backend, guest, rule.request, sample, true, rule.ownReply);
    expectThat(asked.alive && asked.reply, rule, "with need_reply");
    if (!rule.ownReply) {
      const bool refused = rule.request == SET_CONFIG;
      expectThat(acknowledged(asked) == (refused ? 1 : 0), rule, "ack");
      if (refused)
        continue;
    }
    const Outcome silent =
        outcomeOf(backend, guest, rule.request, sample, false, rule.ownReply);
    expectThat(silent.alive, rule, "without need_reply");
  }
}

TEST(vhostEveryRequestRefusesAWrongSize) {
  const TestGuest guest;
  const EventFd event;
  Backend backend("tag");
  for (const RequestRule& rule : kRequestRules) {
    std::vector<uint32_t> sizes{rule.maxSize + 1, kMaxPayload};
    if (rule.minSize > 0) {
      sizes.push_back(rule.minSize - 1);
      sizes.push_back(0);
    }
    for (const uint32_t size : sizes) {
      Sample sample = sampleOf(rule.request, guest, event);
      sample.payload.resize(size);
      const Outcome asked =
          outcomeOf(backend, guest, rule.request, sample, true, false);
      if (rule.ownReply) {
        expectThat(!asked.alive, rule, "a wrong size closes the connection");
      } else {
        expectThat(asked.alive && acknowledged(asked) == 1, rule,
                   "a wrong size is acknowledged as an error");
      }
      const Outcome silent =
          outcomeOf(backend, guest, rule.request, sample, false, false);
      expectThat(!silent.alive, rule, "an error without ack closes");
    }
  }
}

TEST(vhostEveryRequestMindsItsDescriptors) {
  const TestGuest guest;
  const EventFd event;
  Backend backend("tag");
  for (const RequestRule& rule : kRequestRules) {
    Sample sample = sampleOf(rule.request, guest, event);
    if (sample.fds.empty()) {
      // One that nobody asked for is closed; nothing else happens.
      sample.fds = {event.get(), event.get()};
      if (rule.request == SET_CONFIG)
        continue;
      const Outcome out =
          outcomeOf(backend, guest, rule.request, sample, false, rule.ownReply);
      expectThat(out.alive, rule, "a surplus descriptor");
    } else {
      sample.fds.clear();
      const Outcome out =
          outcomeOf(backend, guest, rule.request, sample, true, false);
      if (rule.ownReply) {
        expectThat(!out.alive, rule, "a missing descriptor closes");
      } else {
        expectThat(out.alive && acknowledged(out) == 1, rule,
                   "a missing descriptor");
      }
    }
  }
}

TEST(vhostNeverAcknowledgesWithoutReplyAck) {
  Backend backend;
  Peer peer(backend.folder.socket());
  peer.sendBytes(SET_OWNER, {}, {}, true);
  peer.sendBytes(9999, {}, {}, true);
  // The next reply is that of this request.
  peer.sendBytes(GET_QUEUE_NUM, {}, {}, true);
  const auto reply = peer.receive();
  CHECK(reply && reply->request == GET_QUEUE_NUM);
}

TEST(vhostAnswersUnknownRequests) {
  Backend backend;
  Peer peer(backend.folder.socket());
  const EventFd event;
  peer.negotiate();
  for (const uint32_t request :
       {0u, 19u, 20u, 22u, 23u, 24u, 25u, 26u, 28u, 33u, 35u, 41u, 42u, 43u,
        44u, 45u, 0xffffffffu}) {
    CHECK_EQ(peer.acked(request, uint64_t{1}, {event.get()}).value_or(0), 1u);
    peer.send(request, uint64_t{1}, {event.get()});
  }
  CHECK(peer.alive());
}

TEST(vhostTellsItsFeatures) {
  Backend backend("", 7);
  Peer peer(backend.folder.socket());
  CHECK_EQ(peer.ask64(GET_FEATURES).value_or(0), 0x1'7400'0000u);
  CHECK_EQ(peer.ask64(GET_FEATURES).value_or(0), 0x1'7400'0000u);
  CHECK_EQ(peer.ask64(GET_PROTOCOL_FEATURES).value_or(0),
           uint64_t{kProtocolFeatures});
  CHECK_EQ(peer.ask64(GET_QUEUE_NUM).value_or(0), 8u);
  CHECK(peer.ask64(GET_MAX_MEM_SLOTS).value_or(0) >= 8u);
  peer.negotiate();
  for (const uint32_t bit : {0u, 24u, 27u, 33u, 34u, 35u, 40u, 63u}) {
    CHECK_EQ(
        peer.acked(SET_FEATURES, kFeatures | uint64_t{1} << bit).value_or(0),
        1u);
  }
  for (const uint32_t bit : {2u, 4u, 6u, 8u, 9u, 10u, 14u, 19u, 63u}) {
    CHECK_EQ(peer.acked(SET_PROTOCOL_FEATURES,
                        kProtocolFeatures | uint64_t{1} << bit)
                 .value_or(0),
             1u);
  }
  CHECK(peer.alive());
}

TEST(vhostConfigTellsTagAndQueues) {
  Backend backend("images", 5);
  Peer peer(backend.folder.socket());
  CHECK_EQ(peer.ask64(GET_PROTOCOL_FEATURES).value_or(0) & kProtocolConfig,
           uint64_t{kProtocolConfig});
  const auto read = [&](uint32_t offset, uint32_t size, uint32_t room) {
    auto payload = bytesOf(ConfigHeader{offset, size, 0});
    payload.resize(payload.size() + room);
    peer.sendBytes(GET_CONFIG, payload);
    const auto reply = peer.receive();
    return reply ? reply->payload : std::vector<std::byte>(1);
  };
  const auto whole = read(0, 40, 40);
  CHECK_EQ(whole.size(), 52u);
  CHECK_EQ(std::memcmp(whole.data() + 12, "images\0", 7), 0);
  CHECK_EQ(loadLe<uint32_t>(whole.data() + 12 + 36), 5u);
  // Zeros behind the end.
  const auto behind = read(36, 200, 200);
  CHECK_EQ(behind.size(), 212u);
  CHECK_EQ(loadLe<uint32_t>(behind.data() + 12), 5u);
  CHECK_EQ(loadLe<uint64_t>(behind.data() + 20), 0u);
  CHECK_EQ(read(256, 256, 256).size(), 12u + 256u);
  CHECK_EQ(read(0, 257, 256).size(), 0u);
  CHECK_EQ(read(0, 40, 39).size(), 0u);
  CHECK_EQ(read(0xffffffff, 40, 40).size(), 0u);
  CHECK(peer.alive());
}

TEST(vhostRefusesBadRings) {
  const TestGuest guest;
  Backend backend;
  Peer peer(backend.folder.socket());
  peer.negotiate();
  TestGuest memory;
  CHECK_EQ(memory.share(peer), 0u);
  const auto refused = [&](uint32_t request, const auto& payload,
                           std::vector<int> fds = {}) {
    return peer.acked(request, payload, std::move(fds)).value_or(0) == 1;
  };
  for (const uint32_t size : {0u, 3u, 1000u, 2048u, 32768u, 65536u, ~0u}) {
    CHECK(refused(SET_VRING_NUM, VringState{1, size}));
  }
  CHECK(refused(SET_VRING_BASE, VringState{1, 65536}));
  CHECK(refused(SET_VRING_ENABLE, VringState{1, 2}));
  for (const uint32_t index : {3u, 255u, 0x10000u, ~0u}) {
    CHECK(refused(SET_VRING_NUM, VringState{index, 8}));
    CHECK(refused(SET_VRING_BASE, VringState{index, 0}));
    CHECK(refused(SET_VRING_ENABLE, VringState{index, 1}));
    CHECK(refused(SET_VRING_ADDR, VringAddress{index, 0, 0, 0, 0, 0}));
  }
  const EventFd event;
  CHECK(refused(SET_VRING_KICK, uint64_t{3}, {event.get()}));
  CHECK(refused(SET_VRING_KICK, uint64_t{0x201}, {event.get()}));
  // Descriptors on which reading or writing may block for ever.
  for (const uint32_t request :
       {SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR}) {
    CHECK(refused(request, uint64_t{1}, {memory.space.fileFd(0)}));
  }

  CHECK(!refused(SET_VRING_NUM, VringState{1, 256}));
  const auto address = [&](uint64_t descriptors, uint64_t used,
                           uint64_t available) {
    return VringAddress{1,
                        0,
                        memory.user(0) + descriptors,
                        memory.user(0) + used,
                        memory.user(0) + available,
                        0};
  };
  CHECK(!refused(SET_VRING_ADDR, address(0, 8192, 4096)));
  CHECK(refused(SET_VRING_ADDR, address(8, 8192, 4096)));
  CHECK(refused(SET_VRING_ADDR, address(0, 8194, 4096)));
  CHECK(refused(SET_VRING_ADDR, address(0, 8192, 4097)));
  CHECK(refused(SET_VRING_ADDR, address(TestGuest::kLowEnd - 4080, 8192, 0)));
  CHECK(refused(SET_VRING_ADDR, address(0, TestGuest::kLowEnd, 0)));
  CHECK(refused(SET_VRING_ADDR, address(0, 0, TestGuest::kSize - 100)));
  CHECK(refused(SET_VRING_ADDR, address(~uint64_t{0} - 15, 0, 0)));
  CHECK(peer.alive());
}

TEST(vhostRefusesBadMemory) {
  TestGuest guest;
  Backend backend;
  Peer peer(backend.folder.socket());
  peer.negotiate();
  const int fd = guest.space.fileFd(0);
  const auto add = [&](RegionSpec spec) {
    return peer.acked(ADD_MEM_REG, MemoryRegion{0, spec}, {fd}).value_or(9);
  };
  CHECK_EQ(add({0, 0, 0, 0}), 1u);
  CHECK_EQ(add({0, TestGuest::kSize + 1, 0, 0}), 1u);
  CHECK_EQ(add({~uint64_t{0}, 4096, 0, 0}), 1u);
  CHECK_EQ(add({0, 8192, 0x100000, 0}), 0u);
  CHECK_EQ(add({4096, 8192, 0x200000, 0}), 1u);
  CHECK_EQ(add({0x10000, 8192, 0x101000, 0}), 1u);
  CHECK_EQ(peer.acked(REM_MEM_REG, MemoryRegion{0, {0, 4096, 0x100000, 0}})
               .value_or(9),
           1u);
  // Old front-ends attach a descriptor.
  CHECK_EQ(
      peer.acked(REM_MEM_REG, MemoryRegion{0, {0, 8192, 0x100000, 0}}, {fd})
          .value_or(9),
      0u);
  // Tables whose parts do not agree.
  const auto table = [&](uint32_t count, uint32_t regions, size_t fds) {
    auto payload = bytesOf(MemoryTable{count, 0});
    for (uint32_t i = 0; i < regions; i++) {
      const auto region =
          bytesOf(RegionSpec{i * 0x10000u, 4096, i * 0x10000u, 0});
      payload.insert(payload.end(), region.begin(), region.end());
    }
    peer.sendBytes(SET_MEM_TABLE, payload, std::vector<int>(fds, fd), true);
    return peer.receive64().value_or(9);
  };
  CHECK_EQ(table(2, 2, 2), 0u);
  CHECK_EQ(table(2, 1, 2), 1u);
  CHECK_EQ(table(2, 2, 1), 1u);
  CHECK_EQ(table(2, 2, 3), 1u);
  CHECK_EQ(table(~0u, 2, 2), 1u);
  CHECK_EQ(table(9, 8, 9), 1u);
  CHECK_EQ(table(8, 8, 8), 0u);
  CHECK_EQ(table(0, 0, 0), 0u);
  CHECK(peer.alive());
}

TEST(vhostInflightAreaGoesToTheFrontEndAndBack) {
  Backend backend;
  Peer peer(backend.folder.socket());
  peer.negotiate();
  // Both lengths that front-ends send.
  for (const size_t length : {size_t{20}, size_t{24}}) {
    auto payload = bytesOf(InflightDescription{0, 0, 3, 64, 0});
    payload.resize(length);
    peer.sendBytes(GET_INFLIGHT_FD, payload);
    auto reply = peer.receive();
    CHECK(reply.has_value());
    CHECK_EQ(reply->payload.size(), length);
    CHECK_EQ(reply->fds.size(), 1u);
    InflightDescription got{};
    std::memcpy(&got, reply->payload.data(), length);
    CHECK_EQ(got.mmapSize, 3 * InflightArea::bytesPerQueue(64));
    CHECK_EQ(got.queues, 3);
    std::vector<std::byte> back(reply->payload);
    peer.sendBytes(SET_INFLIGHT_FD, back, {reply->fds[0].get()}, true);
    CHECK_EQ(peer.receive64().value_or(9), 0u);
  }
  // Nonsense gets no area and no descriptor.
  auto payload = bytesOf(InflightDescription{0, 0, 0, 0xffff, 0});
  peer.sendBytes(GET_INFLIGHT_FD, payload);
  const auto reply = peer.receive();
  CHECK(reply && reply->fds.empty());
  CHECK_EQ(reply ? loadLe<uint64_t>(reply->payload.data()) : 1, 0u);
}

}  // namespace
}  // namespace nydus
