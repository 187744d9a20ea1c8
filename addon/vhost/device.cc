#include "vhost/device.h"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace nydus {
namespace {

// A listening socket whose connections cannot be accepted (no descriptors
// left) stays readable: look again after this long.
constexpr std::chrono::milliseconds kAcceptPause{100};

DeviceOptions normalized(DeviceOptions options) {
  if (!options.event)
    options.event = [](const DeviceEvent&) {};
  options.requestQueues =
      std::clamp<uint32_t>(options.requestQueues, 1, kMaxRequestQueues);
  options.lanes = std::clamp<uint32_t>(options.lanes, 1, options.requestQueues);
  return options;
}

}  // namespace

Device::Device(DeviceOptions options)
    : options_(normalized(std::move(options))),
      service_(options_.pollUs),
      queueCounters_(options_.requestQueues + 1) {
  for (uint32_t i = 0; i < options_.lanes; i++) {
    lanePorts_.push_back(std::make_unique<LanePort>());
  }
  host_.emplace(Connection::Host{
      options_, service_, *this, [this] { return stopping_.load(); }, {}});
  for (uint32_t i = 0; i <= options_.requestQueues; i++) {
    LanePort& port =
        i == 0 ? hiprioPort_ : *lanePorts_[(i - 1) % options_.lanes];
    host_->places.push_back(
        {i, port, service_, queueCounters_[i], *this, options_.event});
  }
  if (options_.listener) {
    listener_.emplace(options_.listener.duplicate());
  } else {
    listener_.emplace(options_.path);
  }
  hiprio_.emplace(service_, hiprioPort_);
  control_ = std::jthread([this] { run(); });
}

Device::~Device() {
  stop();
}

LanePort* Device::lanePort(uint32_t lane) noexcept {
  return lane < lanePorts_.size() ? lanePorts_[lane].get() : nullptr;
}

void Device::ringLanes() noexcept {
  for (const auto& port : lanePorts_)
    port->ring();
}

void Device::stopLanes() noexcept {
  for (const auto& port : lanePorts_)
    port->stop();
}

void Device::stop() noexcept {
  const std::lock_guard lock(stopLock_);
  stopping_ = true;
  wake_.signal();
  if (control_.joinable())
    control_.join();
  stopLanes();
  hiprio_.reset();
  listener_.reset();
}

void Device::report(EventLevel level,
                    const char* kind,
                    std::string message) const {
  options_.event({level, kind, std::move(message)});
}

void Device::queueBroken(uint32_t queue, const std::string& reason) {
  options_.event({EventLevel::kError, "ring-broken",
                  "ring " + std::to_string(queue) + ": " + reason +
                      "; it stands still until the guest resets the device",
                  static_cast<int>(queue)});
}

void Device::run() {
  ::pthread_setname_np(::pthread_self(), "nydus-vhost");
  report(EventLevel::kInfo, "listening",
         options_.path.empty() ? "waiting for a front-end"
                               : "waiting for a front-end at " + options_.path);
  while (!stopping_) {
    std::array<pollfd, 3> fds = {{
        {wake_.get(), POLLIN, 0},
        {listener_->fd(), POLLIN, 0},
        {connection_ ? connection_->fd() : -1, POLLIN, 0},
    }};
    if (::poll(fds.data(), fds.size(), timeoutMs()) < 0)
      continue;
    if (stopping_)
      break;
    if (fds[2].revents != 0 && !connection_->serve()) {
      dropFrontEnd(connection_->lastWords());
    } else if (connection_ && connection_->deadline() &&
               *connection_->deadline() < std::chrono::steady_clock::now()) {
      dropFrontEnd("the rest of a message did not come");
    }
    if ((fds[1].revents & POLLIN) != 0)
      acceptFrontEnd();
  }
  if (connection_) {
    connection_->fail();
    dropFrontEnd("the device stops");
  }
}

int Device::timeoutMs() const {
  if (!connection_ || !connection_->deadline())
    return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(
      *connection_->deadline() - std::chrono::steady_clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 1));
}

void Device::acceptFrontEnd() {
  UniqueFd socket = listener_->accept();
  if (!socket) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      report(EventLevel::kError, "refused",
             std::string("a front-end cannot be accepted: ") +
                 std::strerror(errno));
      std::this_thread::sleep_for(kAcceptPause);
    }
    return;
  }
  // The last one's end may not have been read yet, behind all that it sent.
  if (connection_ && connection_->hungUp()) {
    dropFrontEnd("the front-end has closed the connection");
  }
  if (connection_) {
    refused_.bump();
    report(EventLevel::kWarn, "refused",
           "a second front-end was refused: one is connected already");
    return;
  }
  connections_.bump();
  connection_.emplace(std::move(socket), *host_);
  report(EventLevel::kInfo, "connected", "a front-end has connected");
}

void Device::dropFrontEnd(std::string why) {
  connection_.reset();
  report(EventLevel::kInfo, "disconnected", std::move(why));
}

Device::Totals Device::totals() const {
  const FuseCounters& fuse = service_.counters();
  QueueCounters const* begin = queueCounters_.data();
  const auto sum = [&](Counter QueueCounters::*member) {
    uint64_t total = 0;
    for (size_t i = 0; i < queueCounters_.size(); i++) {
      total += (begin[i].*member).get();
    }
    return total;
  };
  return {
      {"requests", sum(&QueueCounters::requests)},
      {"completions", sum(&QueueCounters::completions)},
      {"bytes", sum(&QueueCounters::bytes)},
      {"kicks", sum(&QueueCounters::kicks)},
      {"interrupts", sum(&QueueCounters::interrupts)},
      {"droppedRequests", sum(&QueueCounters::dropped)},
      {"faultyBuffers", sum(&QueueCounters::faults)},
      {"brokenRings", sum(&QueueCounters::broken)},
      {"connections", connections_.get()},
      {"refused", refused_.get()},
      {"nativeAnswers", fuse.nativeAnswers.get()},
      {"forgets", fuse.forgets.get()},
      {"forgetsTooMany", fuse.forgetsTooMany.get()},
      {"badRequests", fuse.malformed.get()},
      {"badReplies", fuse.badReplies.get()},
      {"readErrors", fuse.readErrors.get()},
      {"deferred", fuse.deferred.get()},
      {"deferredDone", fuse.deferredDone.get()},
      {"deferredGone", fuse.deferredGone.get()},
      {"deferredRefused", fuse.deferredRefused.get()},
      {"orphans", fuse.orphans.get()},
      {"turns", fuse.turns.get()},
      {"polls", fuse.polls.get()},
      {"pollHits", fuse.pollHits.get()},
      {"sleeps", fuse.sleeps.get()},
      {"sharedParts", service_.assistant().helped()},
  };
}

}  // namespace nydus
