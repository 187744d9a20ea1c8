// Requests about rings, and about the record of what is in flight.
#include <algorithm>
#include <utility>

#include "vhost/connection.h"

namespace nydus {
namespace {

Failure noSuchRing(uint64_t index) {
  return Failure{"there is no ring " + std::to_string(index)};
}

Failure atRing(uint64_t index, const std::string& reason) {
  return Failure{"ring " + std::to_string(index) + ": " + reason};
}

// Whose index a failure should name.
Status named(uint64_t index, Status status) {
  if (status)
    return status;
  return atRing(index, status.reason());
}

}  // namespace

Ring* Connection::ringAt(uint64_t index) noexcept {
  return index < rings_.size() ? rings_[index].get() : nullptr;
}

Status Connection::setRingSize(const Message& message) {
  const auto state = message.as<VringState>();
  Ring* ring = ringAt(state.index);
  if (ring == nullptr)
    return noSuchRing(state.index);
  return named(state.index, ring->setSize(state.num, context_));
}

Status Connection::setRingAddresses(const Message& message) {
  const auto request = message.as<VringAddress>();
  Ring* ring = ringAt(request.index);
  if (ring == nullptr)
    return noSuchRing(request.index);
  if (context_.memory->empty())
    reportMissingMemory();
  RingAddresses addresses;
  addresses.descriptors = request.descriptors;
  addresses.used = request.used;
  addresses.available = request.available;
  addresses.log = request.log;
  addresses.logUsed = (request.flags & 1) != 0;
  return named(request.index, ring->setAddresses(addresses, context_));
}

Status Connection::setRingBase(const Message& message) {
  const auto state = message.as<VringState>();
  Ring* ring = ringAt(state.index);
  if (ring == nullptr)
    return noSuchRing(state.index);
  return named(state.index, ring->setBase(state.num));
}

Status Connection::getRingBase(const Message& message) {
  auto state = message.as<VringState>();
  Ring* ring = ringAt(state.index);
  if (ring == nullptr)
    return noSuchRing(state.index);
  state.num = ring->stop(host_.options.drainLimit, [this] {
    return host_.stopping() || channel_.hungUp();
  });
  return answer(message, std::as_bytes(std::span(&state, 1)));
}

Status Connection::setRingEnabled(const Message& message) {
  const auto state = message.as<VringState>();
  Ring* ring = ringAt(state.index);
  if (ring == nullptr)
    return noSuchRing(state.index);
  if (state.num > 1) {
    return atRing(state.index, "ENABLE is " + std::to_string(state.num));
  }
  return named(state.index, ring->setEnabled(state.num == 1, context_));
}

Status Connection::setRingSignal(Message& message) {
  const auto value = message.as<uint64_t>();
  const uint64_t index = value & kVringIndexMask;
  Ring* ring = ringAt(index);
  if (ring == nullptr)
    return noSuchRing(index);
  if ((value & ~(kVringIndexMask | kVringNoFd)) != 0) {
    return atRing(index, "unknown bits are set");
  }
  PeerSignal::Ptr signal;
  if ((value & kVringNoFd) == 0) {
    if (message.fds.empty())
      return atRing(index, "its descriptor is missing");
    auto accepted = PeerSignal::accept(std::move(message.fds.front()));
    if (!accepted)
      return atRing(index, accepted.reason());
    signal = *accepted;
  }
  switch (message.header.request) {
    case SET_VRING_KICK:
      return named(index, ring->setKick(std::move(signal), context_));
    case SET_VRING_CALL:
      ring->setCall(std::move(signal));
      return Done{};
    default:
      ring->setError(std::move(signal));
      return Done{};
  }
}

// On failure the reply has no area and no descriptor.
Status Connection::getInflight(const Message& message) {
  auto description = message.as<InflightDescription>();
  UniqueFd fd;
  const uint16_t queues = static_cast<uint16_t>(
      std::min<size_t>(description.queues, rings_.size()));
  description.mmapSize = 0;
  description.mmapOffset = 0;
  if (queues > 0 && description.queueSize > 0 &&
      description.queueSize <= Ring::kMaxSize) {
    const auto area = InflightArea::create(queues, description.queueSize, fd);
    if (area) {
      context_.inflight = *area;
      description.mmapSize = (*area)->size();
      description.queues = queues;
    } else {
      complain(area.reason());
    }
  } else {
    complain("GET_INFLIGHT_FD for " + std::to_string(description.queues) +
             " queues of " + std::to_string(description.queueSize));
  }
  return answer(
      message,
      std::as_bytes(std::span(&description, 1)).first(message.payload.size()),
      description.mmapSize != 0 ? fd.get() : -1);
}

Status Connection::setInflight(Message& message) {
  const auto description = message.as<InflightDescription>();
  auto area = InflightArea::map(description.mmapSize, description.mmapOffset,
                                description.queues, description.queueSize,
                                std::move(message.fds.front()));
  if (!area)
    return area.failure();
  context_.inflight = *area;
  return Done{};
}

}  // namespace nydus
