#include "vhost/ring.h"

#include <bit>
#include <string>
#include <utility>

#include "vhost/protocol.h"

namespace nydus {
namespace {

using std::chrono::milliseconds;

// Between two looks whether the front-end is still there.
constexpr milliseconds kSlice{20};
// For threads that copy at this moment. Longer only when the front-end's
// memory does not answer.
constexpr milliseconds kCopying{1000};

Failure whileRunning(const char* what) {
  return Failure{std::string(what) + " while the ring is running"};
}

}  // namespace

void Ring::report(EventLevel level,
                  const char* kind,
                  std::string message) const {
  place_.event({level, kind,
                "ring " + std::to_string(place_.index) + ": " + message,
                static_cast<int>(place_.index)});
}

Status Ring::setSize(uint32_t size, const RingContext& context) {
  if (run_ != nullptr)
    return whileRunning("its size was set");
  if (size == 0 || size > kMaxSize || !std::has_single_bit(size)) {
    return Failure{"a size of " + std::to_string(size) +
                   " is not a power of two up to " + std::to_string(kMaxSize)};
  }
  size_ = static_cast<uint16_t>(size);
  return startIfComplete(context);
}

Status Ring::setBase(uint32_t base) {
  if (run_ != nullptr)
    return whileRunning("its base was set");
  if (base > UINT16_MAX) {
    return Failure{"a base of " + std::to_string(base) + " is above 65535"};
  }
  base_ = static_cast<uint16_t>(base);
  return Done{};
}

Status Ring::setAddresses(const RingAddresses& addresses,
                          const RingContext& context) {
  if (run_ != nullptr) {
    if (addresses.descriptors != addresses_->descriptors ||
        addresses.used != addresses_->used ||
        addresses.available != addresses_->available) {
      return whileRunning("its addresses were changed");
    }
    addresses_ = addresses;
    run_->setUsedLog(addresses.logUsed, addresses.log);
    return Done{};
  }
  // Without a size, the smallest ring must fit at least.
  const auto found = RingMemory::resolve(*context.memory, addresses,
                                         size_ == 0 ? uint16_t{1} : size_);
  if (!found) {
    addresses_.reset();
    return found.failure();
  }
  addresses_ = addresses;
  return startIfComplete(context);
}

Status Ring::setKick(PeerSignal::Ptr kick, const RingContext& context) {
  kicked_ = true;
  if (run_ != nullptr) {
    place_.port.waiter().unwatch(place_.index);
    run_->setKick(kick);
  }
  kick_ = std::move(kick);
  if (run_ == nullptr)
    return startIfComplete(context);
  if (kick_ != nullptr &&
      !place_.port.waiter().watch(place_.index, kick_->fd())) {
    return Failure{"its kick descriptor cannot be waited for"};
  }
  place_.port.wake();
  return Done{};
}

void Ring::setCall(PeerSignal::Ptr call) {
  call_ = std::move(call);
  if (run_ != nullptr)
    run_->setCall(call_);
}

void Ring::setError(PeerSignal::Ptr error) {
  error_ = std::move(error);
  if (run_ != nullptr)
    run_->setError(error_);
}

Status Ring::setEnabled(bool enabled, const RingContext& context) {
  enabled_ = enabled;
  if (run_ == nullptr)
    return startIfComplete(context);
  run_->setEnabled(enabled);
  place_.port.wake();
  return Done{};
}

Status Ring::startIfComplete(const RingContext& context) {
  if (!kicked_ || !addresses_ || size_ == 0)
    return Done{};
  if ((context.features & kFeatureVersion1) == 0) {
    return Failure{"the driver does not speak virtio 1 (no VERSION_1)"};
  }
  QueueSetup setup;
  setup.queue = place_.index;
  setup.size = size_;
  setup.base = base_;
  setup.eventIndex = (context.features & kFeatureEventIndex) != 0;
  setup.indirect = (context.features & kFeatureIndirect) != 0;
  setup.enabled = enabled_;
  setup.addresses = *addresses_;
  setup.memory = context.memory;
  setup.kick = kick_;
  setup.call = call_;
  setup.error = error_;
  setup.log = context.log;
  setup.inflight = context.inflight;
  setup.counters = &place_.counters;
  setup.owner = &place_.owner;
  auto run = QueueRun::start(setup);
  if (!run)
    return run.failure();
  if (kick_ != nullptr &&
      !place_.port.waiter().watch(place_.index, kick_->fd())) {
    return Failure{"its kick descriptor cannot be waited for"};
  }
  run_ = *run;
  // A guest that goes on in the middle has sent its INIT long ago.
  if (place_.index != 0 && run_->resumed() &&
      !place_.service.session().accepts()) {
    place_.service.session().resume();
    report(EventLevel::kInfo, "session-resumed",
           "the guest goes on with a session that an earlier connection had");
  }
  place_.port.setQueue(place_.index, run_);
  report(EventLevel::kDebug, "ring-started",
         "started with " + std::to_string(size_) + " entries at index " +
             std::to_string(base_));
  return Done{};
}

void Ring::unplug() {
  run_->beginStop();
  place_.port.waiter().unwatch(place_.index);
  place_.port.setQueue(place_.index, nullptr);
}

uint16_t Ring::stop(milliseconds limit, const std::function<bool()>& giveUp) {
  kicked_ = false;
  kick_.reset();
  call_.reset();
  if (run_ == nullptr)
    return base_;
  unplug();
  if (!run_->waitIdle(milliseconds(0))) {
    report(EventLevel::kDebug, "ring-stopping", "waits for open requests");
  }
  const auto end = std::chrono::steady_clock::now() + limit;
  bool idle = run_->waitIdle(milliseconds(0));
  while (!idle && std::chrono::steady_clock::now() < end && !giveUp()) {
    idle = run_->waitIdle(kSlice);
  }
  if (!idle) {
    const size_t failed = run_->failOpen();
    report(EventLevel::kWarn, "ring-stopping",
           std::to_string(failed) +
               " open requests were answered with EIO because they took too "
               "long");
    run_->waitIdle(kCopying);
  }
  base_ = run_->close();
  place_.service.deferred().dropQueue(run_.get());
  run_.reset();
  report(EventLevel::kDebug, "ring-stopped",
         "stopped at index " + std::to_string(base_));
  return base_;
}

void Ring::fail() {
  if (run_ == nullptr)
    return;
  unplug();
  run_->failOpen();
  run_->waitIdle(kCopying);
  abandon();
}

void Ring::abandon(bool wait) {
  kicked_ = false;
  kick_.reset();
  addresses_.reset();
  base_ = 0;
  if (run_ == nullptr)
    return;
  unplug();
  run_->close();
  if (wait)
    run_->waitIdle(kCopying);
  place_.service.deferred().dropQueue(run_.get());
  run_.reset();
}

void Ring::setMemory(const GuestMemory::Table& memory) {
  if (run_ != nullptr)
    run_->setMemory(memory);
}

void Ring::setLog(const std::shared_ptr<const DirtyLog>& log) {
  if (run_ != nullptr)
    run_->setLog(log);
}

}  // namespace nydus
