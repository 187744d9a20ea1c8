// A device, a front-end and a guest that has mounted: for tests of what
// happens then.
#pragma once

#include <dirent.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "test/check.h"
#include "test/frontend/completions.h"
#include "test/frontend/fuse_queue.h"
#include "test/lane_thread.h"
#include "test/vhost_peer.h"

namespace nydus::test {

// Of this process, as /proc tells them.
inline size_t openDescriptors() {
  size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr)
    count++;
  ::closedir(folder);
  return count;
}

// Events of a device, to be waited for.
class EventLog {
 public:
  [[nodiscard]] EventSink sink() {
    return [this](DeviceEvent event) {
      const std::lock_guard lock(lock_);
      events_.push_back(std::move(event));
      arrived_.notify_all();
    };
  }
  // The first event of this kind that comes, or has come; then it is forgotten.
  std::optional<DeviceEvent> wait(const std::string& kind) {
    std::unique_lock lock(lock_);
    std::optional<DeviceEvent> found;
    arrived_.wait_for(lock, kPatience, [&] {
      for (auto it = events_.begin(); it != events_.end(); ++it) {
        if (it->kind != kind)
          continue;
        found = std::move(*it);
        events_.erase(it);
        return true;
      }
      return false;
    });
    return found;
  }
  [[nodiscard]] size_t count(const std::string& kind) {
    const std::lock_guard lock(lock_);
    return static_cast<size_t>(
        std::count_if(events_.begin(), events_.end(),
                      [&](const DeviceEvent& e) { return e.kind == kind; }));
  }

 private:
  std::mutex lock_;
  std::condition_variable arrived_;
  std::vector<DeviceEvent> events_;
};

// A device with its lanes.
struct Machine {
  struct Options {
    uint32_t queues = 1;
    uint32_t lanes = 1;
    uint32_t pollUs = 0;
    std::chrono::milliseconds drainLimit{5000};
    std::chrono::milliseconds messageLimit{5000};
  };
  explicit Machine(LaneThread::Handler handler = answerPlainly)
      : Machine(Options(), std::move(handler)) {}
  explicit Machine(const Options& wanted,
                   LaneThread::Handler handler = answerPlainly) {
    DeviceOptions options;
    options.path = folder.socket();
    options.requestQueues = wanted.queues;
    options.lanes = wanted.lanes;
    options.pollUs = wanted.pollUs;
    options.event = events.sink();
    options.drainLimit = wanted.drainLimit;
    options.messageLimit = wanted.messageLimit;
    device = std::make_unique<Device>(std::move(options));
    for (uint32_t i = 0; i < wanted.lanes; i++) {
      lanes.push_back(std::make_unique<LaneThread>(*device, i, handler));
    }
  }
  ~Machine() {
    device->stop();
    lanes.clear();
  }
  [[nodiscard]] uint64_t total(const std::string& name) const {
    for (const auto& [key, value] : device->totals()) {
      if (name == key)
        return value;
    }
    fail(__FILE__, __LINE__, "no counter " + name);
    return 0;
  }

  TemporaryFolder folder;
  EventLog events;
  std::unique_ptr<Device> device;
  std::vector<std::unique_ptr<LaneThread>> lanes;
};

// A guest that is connected to a machine.
class Vm {
 public:
  struct Options {
    uint32_t queues = 1;  // request queues that the guest uses
    uint16_t size = 64;
    bool eventIdx = true;
    bool indirect = true;
  };

  explicit Vm(const Machine& machine) : Vm(machine.folder.socket()) {}
  Vm(const Machine& machine, const Options& options)
      : Vm(machine.folder.socket(), options) {}
  explicit Vm(const std::string& path) : Vm(path, Options()) {}
  Vm(const std::string& path, const Options& options)
      : peer(path), completions([] {}) {
    for (uint32_t i = 0; i <= options.queues; i++) {
      queues.push_back(std::make_unique<frontend::FuseQueue>(
          guest.space,
          frontend::QueueOptions{.size = options.size,
                                 .eventIdx = options.eventIdx,
                                 .indirect = options.indirect},
          completions));
    }
    uint64_t features = kFeatureProtocol | kFeatureVersion1;
    if (options.eventIdx)
      features |= kFeatureEventIndex;
    if (options.indirect)
      features |= kFeatureIndirect;
    peer.negotiate(features);
    CHECK_EQ(guest.share(peer), 0u);
  }

  void startRing(uint32_t i, uint16_t base = 0) {
    frontend::FuseQueue& q = *queues.at(i);
    uint64_t bad = 0;
    const auto say = [&](uint32_t request, const auto& payload,
                         std::vector<int> fds = {}) {
      bad += peer.acked(request, payload, std::move(fds)).value_or(1);
    };
    say(SET_VRING_NUM, VringState{i, q.ring().size()});
    say(SET_VRING_BASE, VringState{i, base});
    say(SET_VRING_ADDR, addresses(i));
    say(SET_VRING_CALL, uint64_t{i}, {q.callFd()});
    say(SET_VRING_ERR, uint64_t{i}, {q.errorFd()});
    say(SET_VRING_KICK, uint64_t{i}, {q.kickFd()});
    say(SET_VRING_ENABLE, VringState{i, 1});
    CHECK_EQ(bad, 0u);
  }
  [[nodiscard]] VringAddress addresses(uint32_t i) const {
    frontend::DriverRing& ring = queues.at(i)->ring();
    return {i,
            0,
            guest.user(ring.descriptors()),
            guest.user(ring.used()),
            guest.user(ring.avail()),
            0};
  }
  void startRings() {
    for (uint32_t i = 0; i < queues.size(); i++)
      startRing(i);
  }
  // As a guest that mounts: all rings run, and INIT is answered.
  void mount(uint32_t queue = 1) {
    startRings();
    CHECK_EQ(init(queue), 0);
  }
  // What the back-end says is next; nothing when it closed the connection.
  std::optional<uint32_t> stopRing(uint32_t i) {
    peer.send(GET_VRING_BASE, VringState{i, 0});
    const auto reply = peer.receive();
    if (!reply || reply->payload.size() != sizeof(VringState))
      return {};
    return loadLe<VringState>(reply->payload.data()).num;
  }

  // Sends a request and does not wait. Returns its unique.
  uint64_t post(uint32_t opcode,
                const std::vector<std::byte>& arguments,
                uint32_t replyCapacity,
                uint32_t queue = 1,
                uint64_t nodeid = 1,
                bool replies = true) {
    frontend::Request request;
    request.unique = nextUnique_ += 2;
    request.nodeid = nodeid;
    request.opcode = opcode;
    if (!arguments.empty())
      request.arguments = {arguments};
    request.replyCapacity = replyCapacity;
    request.replies = replies;
    if (replies)
      completions.expect(request.unique);
    CHECK(queues.at(queue)->submit(request));
    return request.unique;
  }
  // The answer, with used rings being reaped meanwhile.
  std::optional<frontend::Completion> await(uint64_t unique) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      // A wait that ended in vain has given it up; nobody else reaps.
      completions.expect(unique);
      reap();
      auto done = completions.wait(unique, std::chrono::milliseconds(1));
      if (done) {
        CHECK(done->problem.empty());
        return done;
      }
    }
    fail(__FILE__, __LINE__, "no answer to " + std::to_string(unique));
    return std::nullopt;
  }
  void reap() {
    for (const auto& queue : queues)
      queue->reap();
  }
  // The answer's error; 1 when there is none.
  int errorOf(uint64_t unique) {
    const auto done = await(unique);
    return done ? done->error : 1;
  }
  int init(uint32_t queue = 1) {
    std::vector<std::byte> arguments(64);
    storeLe<uint32_t>(arguments.data(), 7);
    storeLe<uint32_t>(arguments.data() + 4, 41);
    return errorOf(post(FUSE_INIT, arguments, 64, queue));
  }
  int getattr(uint32_t queue = 1) {
    return errorOf(post(FUSE_GETATTR, std::vector<std::byte>(16), 104, queue));
  }
  uint64_t read(uint64_t offset, uint32_t size, uint32_t queue = 1) {
    std::vector<std::byte> arguments(40);
    storeLe<uint64_t>(arguments.data() + 8, offset);
    storeLe<uint32_t>(arguments.data() + 16, size);
    return post(FUSE_READ, arguments, size, queue, 5);
  }
  void forget(uint64_t nodeid, uint64_t count) {
    std::vector<std::byte> arguments(8);
    storeLe<uint64_t>(arguments.data(), count);
    post(FUSE_FORGET, arguments, 0, 0, nodeid, false);
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (queues[0]->inFlight() != 0 &&
           std::chrono::steady_clock::now() < end) {
      queues[0]->reap();
      std::this_thread::yield();
    }
    CHECK_EQ(queues[0]->inFlight(), 0u);
  }

  TestGuest guest;
  Peer peer;
  frontend::Completions completions;
  std::vector<std::unique_ptr<frontend::FuseQueue>> queues;

 private:
  uint64_t nextUnique_ = 0;
};

// Waits until something holds that other threads bring about.
template <typename Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < end) {
    if (condition())
      return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

}  // namespace nydus::test
