// FUSE wire format as far as native code reads it (FUSE 7.45,
// linux/fuse.h): headers, opcodes, and what becomes of each opcode.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace nydus {

struct InHeader {
  uint32_t len;
  uint32_t opcode;
  uint64_t unique;
  uint64_t nodeid;
  uint32_t uid;
  uint32_t gid;
  uint32_t pid;
  uint16_t totalExtlen;
  uint16_t padding;
};
static_assert(sizeof(InHeader) == 40);

struct OutHeader {
  uint32_t len;
  int32_t error;
  uint64_t unique;
};
static_assert(sizeof(OutHeader) == 16);

constexpr uint32_t kInHeaderSize = sizeof(InHeader);
constexpr uint32_t kOutHeaderSize = sizeof(OutHeader);
// Linux refuses replies with an error of -512 or below (ERESTARTSYS).
constexpr int32_t kLowestError = -511;

enum Opcode : uint32_t {
  FUSE_LOOKUP = 1,
  FUSE_FORGET = 2,
  FUSE_GETATTR = 3,
  FUSE_SETATTR = 4,
  FUSE_READLINK = 5,
  FUSE_SYMLINK = 6,
  FUSE_MKNOD = 8,
  FUSE_MKDIR = 9,
  FUSE_UNLINK = 10,
  FUSE_RMDIR = 11,
  FUSE_RENAME = 12,
  FUSE_LINK = 13,
  FUSE_OPEN = 14,
  FUSE_READ = 15,
  FUSE_WRITE = 16,
  FUSE_STATFS = 17,
  FUSE_RELEASE = 18,
  FUSE_FSYNC = 20,
  FUSE_SETXATTR = 21,
  FUSE_GETXATTR = 22,
  FUSE_LISTXATTR = 23,
  FUSE_REMOVEXATTR = 24,
  FUSE_FLUSH = 25,
  FUSE_INIT = 26,
  FUSE_OPENDIR = 27,
  FUSE_READDIR = 28,
  FUSE_RELEASEDIR = 29,
  FUSE_FSYNCDIR = 30,
  FUSE_ACCESS = 34,
  FUSE_CREATE = 35,
  FUSE_INTERRUPT = 36,
  FUSE_DESTROY = 38,
  FUSE_IOCTL = 39,
  FUSE_POLL = 40,
  FUSE_NOTIFY_REPLY = 41,
  FUSE_BATCH_FORGET = 42,
  FUSE_FALLOCATE = 43,
  FUSE_READDIRPLUS = 44,
  FUSE_RENAME2 = 45,
  FUSE_LSEEK = 46,
  FUSE_SYNCFS = 50,
  FUSE_TMPFILE = 51,
  FUSE_STATX = 52,
};

// Where the fields of an operation's arguments go in a slot.
enum class ArgumentShape : uint8_t {
  kNone,
  kName,       // name
  kGetattr,    // flags, fh
  kOpen,       // flags
  kRead,       // fh, offset, size
  kRelease,    // fh, flags
  kXattr,      // size, name
  kListxattr,  // size
  kLseek,      // fh, offset, whence
  kAccess,     // mask
  kIoctl,      // fh, command
  kHandle,     // fh
};

enum class Handling : uint8_t {
  kLane,         // TypeScript answers
  kReadOnly,     // EROFS
  kUnsupported,  // ENOSYS: sticky in the guest, so only where that is harmless
  kForget,       // counted, no reply
  kBatchForget,
  kSilent,  // no reply exists; handed back
};

struct OpcodeRule {
  Handling handling = Handling::kUnsupported;
  ArgumentShape arguments = ArgumentShape::kNone;
  // Bytes of arguments that must be there.
  uint16_t minArguments = 0;
};

namespace detail {
constexpr auto makeOpcodeRules() {
  std::array<OpcodeRule, 64> rules{};
  const auto lane = [&](Opcode op, uint16_t min, ArgumentShape arguments) {
    rules[op] = {Handling::kLane, arguments, min};
  };
  lane(FUSE_LOOKUP, 1, ArgumentShape::kName);
  lane(FUSE_GETATTR, 16, ArgumentShape::kGetattr);
  lane(FUSE_STATX, 24, ArgumentShape::kGetattr);
  lane(FUSE_READLINK, 0, ArgumentShape::kNone);
  lane(FUSE_OPEN, 8, ArgumentShape::kOpen);
  lane(FUSE_OPENDIR, 8, ArgumentShape::kOpen);
  lane(FUSE_READ, 40, ArgumentShape::kRead);
  lane(FUSE_READDIR, 40, ArgumentShape::kRead);
  lane(FUSE_READDIRPLUS, 40, ArgumentShape::kRead);
  lane(FUSE_RELEASE, 24, ArgumentShape::kRelease);
  lane(FUSE_RELEASEDIR, 24, ArgumentShape::kRelease);
  lane(FUSE_STATFS, 0, ArgumentShape::kNone);
  lane(FUSE_GETXATTR, 9, ArgumentShape::kXattr);
  lane(FUSE_LISTXATTR, 8, ArgumentShape::kListxattr);
  lane(FUSE_ACCESS, 8, ArgumentShape::kAccess);
  lane(FUSE_LSEEK, 24, ArgumentShape::kLseek);
  lane(FUSE_FLUSH, 24, ArgumentShape::kHandle);
  lane(FUSE_FSYNC, 16, ArgumentShape::kHandle);
  lane(FUSE_FSYNCDIR, 16, ArgumentShape::kHandle);
  lane(FUSE_SYNCFS, 8, ArgumentShape::kNone);
  lane(FUSE_IOCTL, 32, ArgumentShape::kIoctl);
  lane(FUSE_POLL, 24, ArgumentShape::kHandle);
  lane(FUSE_INIT, 16, ArgumentShape::kNone);
  lane(FUSE_DESTROY, 0, ArgumentShape::kNone);
  for (const Opcode op :
       {FUSE_SETATTR, FUSE_SYMLINK, FUSE_MKNOD, FUSE_MKDIR, FUSE_UNLINK,
        FUSE_RMDIR, FUSE_RENAME, FUSE_LINK, FUSE_WRITE, FUSE_SETXATTR,
        FUSE_REMOVEXATTR, FUSE_CREATE, FUSE_FALLOCATE, FUSE_RENAME2,
        FUSE_TMPFILE}) {
    rules[op] = {Handling::kReadOnly, ArgumentShape::kNone, 0};
  }
  rules[FUSE_FORGET] = {Handling::kForget, ArgumentShape::kNone, 8};
  rules[FUSE_BATCH_FORGET] = {Handling::kBatchForget, ArgumentShape::kNone, 8};
  rules[FUSE_INTERRUPT] = {Handling::kSilent, ArgumentShape::kNone, 0};
  rules[FUSE_NOTIFY_REPLY] = {Handling::kSilent, ArgumentShape::kNone, 0};
  return rules;
}
inline constexpr auto kOpcodeRules = makeOpcodeRules();
}  // namespace detail

// Opcodes that nobody defined have a rule too: ENOSYS.
[[nodiscard]] constexpr OpcodeRule ruleOf(uint32_t opcode) noexcept {
  return opcode < detail::kOpcodeRules.size() ? detail::kOpcodeRules[opcode]
                                              : OpcodeRule{};
}

}  // namespace nydus
