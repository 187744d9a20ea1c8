#include "vhost/connection.h"

#include <algorithm>
#include <utility>

namespace nydus {
namespace {

// Sentences about one connection's mistakes; more say nothing more.
constexpr int kMaxComplaints = 16;
// Messages that are served before others get a look.
constexpr int kMessagesInARow = 64;

}  // namespace

Connection::Connection(UniqueFd socket, const Host& host)
    : channel_(std::move(socket)), host_(host) {
  context_.memory = std::make_shared<GuestMemory>();
  for (const Ring::Place& place : host.places) {
    rings_.push_back(std::make_unique<Ring>(place));
  }
}

Connection::~Connection() {
  rings_.clear();
  host_.service.session().end();
}

std::optional<std::chrono::steady_clock::time_point> Connection::deadline()
    const noexcept {
  const auto since = channel_.partialSince();
  if (!since)
    return std::nullopt;
  return *since + host_.options.messageLimit;
}

void Connection::fail() {
  for (const auto& ring : rings_)
    ring->fail();
}

void Connection::complain(std::string message) {
  if (complaints_ >= kMaxComplaints)
    return;
  complaints_++;
  host_.options.event(
      {EventLevel::kWarn, "protocol", "front-end: " + std::move(message)});
}

bool Connection::serve() {
  for (int i = 0; i < kMessagesInARow && !host_.stopping(); i++) {
    switch (channel_.read()) {
      case Channel::State::kWaiting:
        return true;
      case Channel::State::kClosed:
        lastWords_ = "the front-end has closed the connection";
        return false;
      case Channel::State::kBroken:
        lastWords_ = channel_.problem();
        return false;
      case Channel::State::kMessage:
        if (!handle(channel_.message()))
          return false;
    }
  }
  return true;
}

bool Connection::handle(Message& message) {
  const RequestRule* rule = ruleOfRequest(message.header.request);
  if (rule == nullptr ||
      ((rule->request == GET_CONFIG || rule->request == SET_CONFIG) &&
       host_.options.tag.empty())) {
    return handleUnknown(message);
  }
  if (message.header.size < rule->minSize ||
      message.header.size > rule->maxSize) {
    return acknowledge(message, *rule,
                       Failure{"its payload has " +
                               std::to_string(message.header.size) + " bytes"});
  }
  if (message.fds.size() < rule->fds) {
    return acknowledge(message, *rule, Failure{"its descriptor is missing"});
  }
  return acknowledge(message, *rule, dispatch(message));
}

// False: the connection must be closed.
bool Connection::acknowledge(const Message& message,
                             const RequestRule& rule,
                             const Status& status) {
  const std::string what = std::string(rule.name) + ": " + status.reason();
  if (!status)
    complain(what);
  const bool wanted = !rule.ownReply &&
                      (message.header.flags & kFlagNeedReply) != 0 &&
                      (protocolFeatures_ & kProtocolReplyAck) != 0;
  if (wanted) {
    if (answer64(message, status ? 0 : 1))
      return true;
    lastWords_ = "the front-end does not read its replies";
    return false;
  }
  // There is no other way to tell the front-end that it failed.
  if (!status)
    lastWords_ = what;
  return static_cast<bool>(status);
}

bool Connection::handleUnknown(const Message& message) {
  const uint32_t request = message.header.request;
  // At most one sentence each.
  if (unknownRequests_.size() < kMaxComplaints &&
      unknownRequests_.insert(request).second) {
    complain("request " + std::to_string(request) + " is not supported");
  }
  if ((message.header.flags & kFlagNeedReply) == 0 ||
      (protocolFeatures_ & kProtocolReplyAck) == 0) {
    return true;
  }
  return static_cast<bool>(answer64(message, 1));
}

Status Connection::answer(const Message& message, Payload payload, int fd) {
  if (!channel_.reply(message.header.request, payload, fd)) {
    return Failure{"the front-end does not read its replies"};
  }
  return Done{};
}

Status Connection::answer64(const Message& message, uint64_t value) {
  return answer(message, std::as_bytes(std::span(&value, 1)));
}

Status Connection::dispatch(Message& message) {
  switch (message.header.request) {
    case GET_FEATURES:
      return answer64(message, kFeatures);
    case SET_FEATURES:
      return setFeatures(message.as<uint64_t>());
    case SET_OWNER:
      return setOwner();
    case RESET_OWNER:
      return resetOwner();
    case SET_MEM_TABLE:
      return setMemoryTable(message);
    case SET_LOG_BASE:
      return setLogBase(message);
    case SET_LOG_FD:
      logSignal_ = std::move(message.fds.front());
      return Done{};
    case SET_VRING_NUM:
      return setRingSize(message);
    case SET_VRING_ADDR:
      return setRingAddresses(message);
    case SET_VRING_BASE:
      return setRingBase(message);
    case GET_VRING_BASE:
      return getRingBase(message);
    case SET_VRING_KICK:
    case SET_VRING_CALL:
    case SET_VRING_ERR:
      return setRingSignal(message);
    case GET_PROTOCOL_FEATURES:
      return answer64(message, offeredProtocolFeatures());
    case SET_PROTOCOL_FEATURES:
      return setProtocolFeatures(message.as<uint64_t>());
    case GET_QUEUE_NUM:
      return answer64(message, rings_.size());
    case SET_VRING_ENABLE:
      return setRingEnabled(message);
    case SET_BACKEND_REQ_FD:
      backendRequests_ = std::move(message.fds.front());
      return Done{};
    case GET_CONFIG:
      return getConfig(message);
    case SET_CONFIG:
      return setConfig(message);
    case GET_INFLIGHT_FD:
      return getInflight(message);
    case SET_INFLIGHT_FD:
      return setInflight(message);
    case RESET_DEVICE:
      return resetDevice();
    case GET_MAX_MEM_SLOTS:
      return answer64(message, GuestMemory::kMaxRegions);
    case ADD_MEM_REG:
      return addRegion(message);
    case REM_MEM_REG:
      return removeRegion(message);
    case SET_STATUS:
      return setStatus(message.as<uint64_t>());
    case GET_STATUS:
      return getStatus(message);
    default:
      return Failure{"the request has a rule but no handler"};
  }
}

}  // namespace nydus
