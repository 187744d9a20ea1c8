// Requests about the device as a whole: features, status, configuration.
#include <algorithm>
#include <array>
#include <cstring>

#include "vhost/connection.h"

namespace nydus {
namespace {

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx",
                static_cast<unsigned long long>(value));
  return text;
}

}  // namespace

uint64_t Connection::offeredProtocolFeatures() const noexcept {
  return kProtocolFeatures | (host_.options.tag.empty() ? 0 : kProtocolConfig);
}

Status Connection::setFeatures(uint64_t features) {
  if ((features & ~kFeatures) != 0) {
    return Failure{"features " + hex(features & ~kFeatures) +
                   " were not offered"};
  }
  context_.features = features;
  // May come while rings run, when a migration switches the log: the rings go
  // on with what they started with.
  updateLog();
  if ((features & kFeatureProtocol) != 0)
    return Done{};
  for (const auto& ring : rings_) {
    Status status = ring->setEnabled(true, context_);
    if (!status)
      return status;
  }
  return Done{};
}

Status Connection::setProtocolFeatures(uint64_t features) {
  if ((features & ~offeredProtocolFeatures()) != 0) {
    return Failure{"protocol features " +
                   hex(features & ~offeredProtocolFeatures()) +
                   " were not offered"};
  }
  protocolFeatures_ = features;
  return Done{};
}

Status Connection::setOwner() {
  if (owned_) {
    // An error that costs nothing; it is not worth the connection.
    complain("SET_OWNER came twice");
    return Done{};
  }
  owned_ = true;
  return Done{};
}

// Obsolete, and its meanings contradict each other: stop working, keep all.
Status Connection::resetOwner() {
  owned_ = false;
  for (const auto& ring : rings_) {
    const Status status = ring->setEnabled(false, context_);
    if (!status)
      return status;
  }
  return Done{};
}

// Protocol features and memory stay.
Status Connection::resetDevice() {
  for (const auto& ring : rings_) {
    ring->abandon(true);
    const Status status = ring->setEnabled(false, context_);
    if (!status)
      return status;
  }
  host_.service.session().end();
  status_ = 0;
  host_.options.event(
      {EventLevel::kDebug, "reset", "the front-end has reset the device"});
  return Done{};
}

Status Connection::setStatus(uint64_t status) {
  if (status == 0)
    return resetDevice();
  status_ = status;
  return Done{};
}

Status Connection::getStatus(const Message& message) {
  const bool broken = std::any_of(rings_.begin(), rings_.end(),
                                  [](const auto& r) { return r->broken(); });
  return answer64(message, status_ | (broken ? kStatusNeedsReset : 0));
}

Status Connection::getConfig(const Message& message) {
  const auto header = message.as<ConfigHeader>();
  if (header.size > kMaxConfigSize ||
      header.size > message.payload.size() - sizeof header ||
      header.offset > kMaxConfigSize) {
    complain("GET_CONFIG asks for " + std::to_string(header.size) +
             " bytes at " + std::to_string(header.offset));
    return answer(message, {});
  }
  FsConfig config = {};
  std::copy_n(host_.options.tag.data(),
              std::min(host_.options.tag.size(), config.tag.size()),
              config.tag.data());
  config.requestQueues = host_.options.requestQueues;
  // Zeros behind its end.
  std::array<std::byte, 2 * kMaxConfigSize> space{};
  std::memcpy(space.data(), &config, sizeof config);
  std::vector<std::byte> reply(sizeof header + header.size);
  std::memcpy(reply.data(), &header, sizeof header);
  std::memcpy(reply.data() + sizeof header, space.data() + header.offset,
              header.size);
  return answer(message, reply);
}

Status Connection::setConfig(const Message&) {
  return Failure{"the configuration is read-only"};
}

}  // namespace nydus
