// The request ring as lib/fuse/ring.ts declares it: the memory that a lane
// (TypeScript) and the addon share. The two declarations are compared by name
// when a lane starts (ringLayout), and here by the compiler.
//
// Nothing in this memory is believed: replies are read once into locals and
// checked again against the guest's buffers, the files and the arena.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nydus {

// Requests that a lane takes at a time. With few, a guest gets the first
// replies while the others are being answered, and neither waits for the other:
// 8 give twice the metadata rate of 64 (docs/performance.md).
constexpr uint32_t kBatch = 8;
constexpr uint32_t kSlotSize = 1024;
constexpr uint32_t kMaxExtents = 264;
constexpr uint32_t kArenaSize = 32u << 20;
constexpr uint32_t kInlineSize = 296;
constexpr uint32_t kRawSize = 632;

constexpr uint32_t kFileZero = 0;
constexpr uint32_t kFileArena = 0xffff'ffff;

enum ReplyKind : uint32_t {
  kReplyInline = 0,
  kReplyExtents = 1,
  kReplyDeferred = 2,
};

struct Extent {
  uint32_t file;
  uint32_t length;
  double offset;
};
static_assert(sizeof(Extent) == 16);

struct Slot {
  // Request.
  uint32_t opcode;
  uint32_t argLength;
  uint32_t writable;
  uint32_t reserved;
  double ticket;
  double nodeid;
  double offset;
  double fh;
  uint32_t size;
  uint32_t flags;
  uint32_t nameOffset;
  uint32_t nameLength;
  uint32_t uid;
  uint32_t gid;
  // Reply.
  int32_t status;
  uint32_t kind;
  uint32_t length;
  uint32_t extentCount;
  uint32_t lookups;
  uint32_t lookupSlot;
  std::byte body[kInlineSize];
  std::byte raw[kRawSize];
};
static_assert(sizeof(Slot) == kSlotSize);
static_assert(offsetof(Slot, ticket) == 16);
static_assert(offsetof(Slot, status) == 72);
static_assert(offsetof(Slot, body) == 96);
static_assert(offsetof(Slot, raw) == 392);

constexpr uint32_t kExtentsOffset = kBatch * kSlotSize;
constexpr uint32_t kExtentsStride = kMaxExtents * sizeof(Extent);
constexpr uint32_t kArenaOffset = kExtentsOffset + kBatch * kExtentsStride;
constexpr uint32_t kRingSize = kArenaOffset + kArenaSize;

struct LayoutEntry {
  const char* name;
  uint32_t value;
};
// What ringLayout() of lib/fuse/ring.ts returns, name by name.
constexpr LayoutEntry kRingLayout[] = {
    {"batch", kBatch},
    {"slotSize", kSlotSize},
    {"maxExtents", kMaxExtents},
    {"arenaSize", kArenaSize},
    {"extentsOffset", kExtentsOffset},
    {"arenaOffset", kArenaOffset},
    {"ringSize", kRingSize},
    {"slot.opcode", offsetof(Slot, opcode)},
    {"slot.argLength", offsetof(Slot, argLength)},
    {"slot.writable", offsetof(Slot, writable)},
    {"slot.reserved", offsetof(Slot, reserved)},
    {"slot.ticket", offsetof(Slot, ticket)},
    {"slot.nodeid", offsetof(Slot, nodeid)},
    {"slot.offset", offsetof(Slot, offset)},
    {"slot.fh", offsetof(Slot, fh)},
    {"slot.size", offsetof(Slot, size)},
    {"slot.flags", offsetof(Slot, flags)},
    {"slot.nameOffset", offsetof(Slot, nameOffset)},
    {"slot.nameLength", offsetof(Slot, nameLength)},
    {"slot.uid", offsetof(Slot, uid)},
    {"slot.gid", offsetof(Slot, gid)},
    {"slot.status", offsetof(Slot, status)},
    {"slot.kind", offsetof(Slot, kind)},
    {"slot.length", offsetof(Slot, length)},
    {"slot.extentCount", offsetof(Slot, extentCount)},
    {"slot.lookups", offsetof(Slot, lookups)},
    {"slot.lookupSlot", offsetof(Slot, lookupSlot)},
    {"slot.inline", offsetof(Slot, body)},
    {"slot.raw", offsetof(Slot, raw)},
    {"extent.file", offsetof(Extent, file)},
    {"extent.length", offsetof(Extent, length)},
    {"extent.offset", offsetof(Extent, offset)},
};

}  // namespace nydus
