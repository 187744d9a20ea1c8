// The vhost-user protocol (QEMU docs/interop/vhost-user.rst) as tables:
// requests, payloads, features. Everything is native-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "mem/guest_region.h"

namespace nydus {

struct MessageHeader {
  uint32_t request;
  uint32_t flags;
  uint32_t size;
};
static_assert(sizeof(MessageHeader) == 12);

constexpr uint32_t kFlagVersionMask = 0x3;
constexpr uint32_t kFlagVersion = 0x1;
constexpr uint32_t kFlagReply = 0x4;
constexpr uint32_t kFlagNeedReply = 0x8;
constexpr uint32_t kFlagsKnown = 0xf;

// The longest payload here is SET_MEM_TABLE with 8 + 32 × 8 bytes or a config
// space with 12 + 256; nothing legitimate comes near this.
constexpr uint32_t kMaxPayload = 4096;
// More descriptors than any message may carry, so that too many can be told
// from enough.
constexpr size_t kMaxFds = 32;

enum Request : uint32_t {
  GET_FEATURES = 1,
  SET_FEATURES = 2,
  SET_OWNER = 3,
  RESET_OWNER = 4,
  SET_MEM_TABLE = 5,
  SET_LOG_BASE = 6,
  SET_LOG_FD = 7,
  SET_VRING_NUM = 8,
  SET_VRING_ADDR = 9,
  SET_VRING_BASE = 10,
  GET_VRING_BASE = 11,
  SET_VRING_KICK = 12,
  SET_VRING_CALL = 13,
  SET_VRING_ERR = 14,
  GET_PROTOCOL_FEATURES = 15,
  SET_PROTOCOL_FEATURES = 16,
  GET_QUEUE_NUM = 17,
  SET_VRING_ENABLE = 18,
  SET_BACKEND_REQ_FD = 21,
  GET_CONFIG = 24,
  SET_CONFIG = 25,
  GET_INFLIGHT_FD = 31,
  SET_INFLIGHT_FD = 32,
  RESET_DEVICE = 34,
  GET_MAX_MEM_SLOTS = 36,
  ADD_MEM_REG = 37,
  REM_MEM_REG = 38,
  SET_STATUS = 39,
  GET_STATUS = 40,
};

struct VringState {
  uint32_t index;
  uint32_t num;
};
static_assert(sizeof(VringState) == 8);

struct VringAddress {
  uint32_t index;
  uint32_t flags;  // bit 0: log writes to the used ring
  uint64_t descriptors;
  uint64_t used;
  uint64_t available;
  uint64_t log;
};
static_assert(sizeof(VringAddress) == 40);

struct MemoryTable {
  uint32_t count;
  uint32_t padding;
  // RegionSpec × count follow.
};
static_assert(sizeof(MemoryTable) == 8);
constexpr uint32_t kMaxTableRegions = 8;

struct MemoryRegion {
  uint64_t padding;
  RegionSpec region;
};
static_assert(sizeof(MemoryRegion) == 40);

struct LogDescription {
  uint64_t size;
  uint64_t offset;
};
static_assert(sizeof(LogDescription) == 16);

struct ConfigHeader {
  uint32_t offset;
  uint32_t size;
  uint32_t flags;
  // `size` bytes follow.
};
static_assert(sizeof(ConfigHeader) == 12);
constexpr uint32_t kMaxConfigSize = 256;

// 20 bytes in the specification; front-ends in C send the structure's 24.
struct InflightDescription {
  uint64_t mmapSize;
  uint64_t mmapOffset;
  uint16_t queues;
  uint16_t queueSize;
  uint32_t padding;
};
static_assert(sizeof(InflightDescription) == 24);
constexpr uint32_t kInflightSize = 20;

// SET_VRING_KICK, _CALL and _ERR carry a u64.
constexpr uint64_t kVringIndexMask = 0xff;
constexpr uint64_t kVringNoFd = 0x100;

constexpr uint64_t kStatusNeedsReset = 0x40;

struct RequestRule {
  Request request;
  const char* name;
  uint32_t minSize;
  uint32_t maxSize;
  // Descriptors that must come along; more are closed.
  uint8_t fds;
  // It has a reply of its own, so that it never gets an acknowledgement.
  bool ownReply;
};

constexpr uint32_t kU64 = sizeof(uint64_t);
constexpr RequestRule kRequestRules[] = {
    {GET_FEATURES, "GET_FEATURES", 0, 0, 0, true},
    {SET_FEATURES, "SET_FEATURES", kU64, kU64, 0, false},
    {SET_OWNER, "SET_OWNER", 0, 0, 0, false},
    {RESET_OWNER, "RESET_OWNER", 0, 0, 0, false},
    {SET_MEM_TABLE, "SET_MEM_TABLE", sizeof(MemoryTable),
     sizeof(MemoryTable) + kMaxTableRegions * sizeof(RegionSpec), 0, false},
    {SET_LOG_BASE, "SET_LOG_BASE", sizeof(LogDescription),
     sizeof(LogDescription), 1, true},
    // A u64 in the specification, without a meaning.
    {SET_LOG_FD, "SET_LOG_FD", 0, kU64, 1, false},
    {SET_VRING_NUM, "SET_VRING_NUM", sizeof(VringState), sizeof(VringState), 0,
     false},
    {SET_VRING_ADDR, "SET_VRING_ADDR", sizeof(VringAddress),
     sizeof(VringAddress), 0, false},
    {SET_VRING_BASE, "SET_VRING_BASE", sizeof(VringState), sizeof(VringState),
     0, false},
    {GET_VRING_BASE, "GET_VRING_BASE", sizeof(VringState), sizeof(VringState),
     0, true},
    {SET_VRING_KICK, "SET_VRING_KICK", kU64, kU64, 0, false},
    {SET_VRING_CALL, "SET_VRING_CALL", kU64, kU64, 0, false},
    {SET_VRING_ERR, "SET_VRING_ERR", kU64, kU64, 0, false},
    {GET_PROTOCOL_FEATURES, "GET_PROTOCOL_FEATURES", 0, 0, 0, true},
    {SET_PROTOCOL_FEATURES, "SET_PROTOCOL_FEATURES", kU64, kU64, 0, false},
    {GET_QUEUE_NUM, "GET_QUEUE_NUM", 0, 0, 0, true},
    {SET_VRING_ENABLE, "SET_VRING_ENABLE", sizeof(VringState),
     sizeof(VringState), 0, false},
    {SET_BACKEND_REQ_FD, "SET_BACKEND_REQ_FD", 0, kU64, 1, false},
    {GET_CONFIG, "GET_CONFIG", sizeof(ConfigHeader),
     sizeof(ConfigHeader) + kMaxConfigSize, 0, true},
    {SET_CONFIG, "SET_CONFIG", sizeof(ConfigHeader),
     sizeof(ConfigHeader) + kMaxConfigSize, 0, false},
    {GET_INFLIGHT_FD, "GET_INFLIGHT_FD", kInflightSize,
     sizeof(InflightDescription), 0, true},
    {SET_INFLIGHT_FD, "SET_INFLIGHT_FD", kInflightSize,
     sizeof(InflightDescription), 1, false},
    {RESET_DEVICE, "RESET_DEVICE", 0, 0, 0, false},
    {GET_MAX_MEM_SLOTS, "GET_MAX_MEM_SLOTS", 0, 0, 0, true},
    {ADD_MEM_REG, "ADD_MEM_REG", sizeof(MemoryRegion), sizeof(MemoryRegion), 1,
     false},
    // Old front-ends attach a descriptor: it is closed like any surplus one.
    {REM_MEM_REG, "REM_MEM_REG", sizeof(MemoryRegion), sizeof(MemoryRegion), 0,
     false},
    {SET_STATUS, "SET_STATUS", kU64, kU64, 0, false},
    {GET_STATUS, "GET_STATUS", 0, 0, 0, true},
};

// Null for requests that are not served.
[[nodiscard]] constexpr const RequestRule* ruleOfRequest(
    uint32_t request) noexcept {
  for (const RequestRule& rule : kRequestRules) {
    if (rule.request == request)
      return &rule;
  }
  return nullptr;
}

// Virtio features (virtio 1.2 §6) and the two of vhost.
constexpr uint64_t kFeatureLogAll = uint64_t{1} << 26;
constexpr uint64_t kFeatureIndirect = uint64_t{1} << 28;
constexpr uint64_t kFeatureEventIndex = uint64_t{1} << 29;
constexpr uint64_t kFeatureProtocol = uint64_t{1} << 30;
constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;
// Not IN_ORDER: one slow request would hold up all behind it.
constexpr uint64_t kFeatures = kFeatureLogAll | kFeatureIndirect |
                               kFeatureEventIndex | kFeatureProtocol |
                               kFeatureVersion1;

constexpr uint64_t kProtocolMq = uint64_t{1} << 0;
constexpr uint64_t kProtocolLogShmfd = uint64_t{1} << 1;
constexpr uint64_t kProtocolReplyAck = uint64_t{1} << 3;
constexpr uint64_t kProtocolBackendReq = uint64_t{1} << 5;
constexpr uint64_t kProtocolConfig = uint64_t{1} << 9;
constexpr uint64_t kProtocolInflightShmfd = uint64_t{1} << 12;
constexpr uint64_t kProtocolResetDevice = uint64_t{1} << 13;
constexpr uint64_t kProtocolMemSlots = uint64_t{1} << 15;
constexpr uint64_t kProtocolStatus = uint64_t{1} << 16;
// CONFIG comes on top when the device has a tag.
constexpr uint64_t kProtocolFeatures =
    kProtocolMq | kProtocolLogShmfd | kProtocolReplyAck | kProtocolBackendReq |
    kProtocolInflightShmfd | kProtocolResetDevice | kProtocolMemSlots |
    kProtocolStatus;

// virtio 1.2 §5.11.4.
struct FsConfig {
  std::array<char, 36> tag;  // NUL-padded, not always terminated
  uint32_t requestQueues;
};
static_assert(sizeof(FsConfig) == 40);

}  // namespace nydus
