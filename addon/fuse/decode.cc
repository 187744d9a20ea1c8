#include "fuse/decode.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/bytes.h"
#include "fuse/session.h"

namespace nydus {
namespace {

// linux/limits.h: NAME_MAX and XATTR_NAME_MAX.
constexpr uint32_t kNameMax = 255;

constexpr Verdict error(int32_t errorNumber) {
  return {Action::kError, -errorNumber, false};
}
constexpr Verdict malformed(int32_t errorNumber) {
  return {Action::kError, -errorNumber, true};
}
constexpr Verdict kToLane{Action::kLane};

double exact(uint64_t value) {
  return value <= kMaxExact ? static_cast<double>(value) : -1.0;
}

// Reads the arguments of one request; `at` counts from their start, and the
// opcode's minimum length has been checked.
class Body {
 public:
  Body(const Taken& request, uint32_t available)
      : bytes_(request.raw + kInHeaderSize), available_(available) {}
  [[nodiscard]] uint32_t u32(size_t at) const {
    return loadLe<uint32_t>(bytes_ + at);
  }
  [[nodiscard]] double f64(size_t at) const {
    return exact(loadLe<uint64_t>(bytes_ + at));
  }
  // Length of the name at `at`, which ends with a NUL within what was copied;
  // UINT32_MAX when there is no NUL.
  [[nodiscard]] uint32_t nameLength(uint32_t at) const {
    const void* end = std::memchr(bytes_ + at, 0, available_ - at);
    if (end == nullptr)
      return UINT32_MAX;
    return static_cast<uint32_t>(static_cast<const std::byte*>(end) - bytes_ -
                                 at);
  }
  [[nodiscard]] const std::byte* bytes() const { return bytes_; }

 private:
  const std::byte* bytes_;
  uint32_t available_;
};

// Puts the name that starts at `at` into the slot. `whole`: all arguments were
// copied; else a name without an end is too long rather than malformed.
Verdict takeName(const Body& body,
                 uint32_t at,
                 bool whole,
                 int32_t tooLong,
                 Slot& slot) {
  const uint32_t length = body.nameLength(at);
  if (length == UINT32_MAX) {
    return whole ? malformed(EINVAL) : malformed(tooLong);
  }
  if (length == 0)
    return malformed(EINVAL);
  if (length > kNameMax)
    return malformed(tooLong);
  slot.nameOffset = kInHeaderSize + at;
  slot.nameLength = length;
  return kToLane;
}

Verdict takeArguments(ArgumentShape arguments,
                      const Body& body,
                      bool whole,
                      Slot& slot) {
  switch (arguments) {
    case ArgumentShape::kNone:
      return kToLane;
    case ArgumentShape::kName: {
      const Verdict verdict = takeName(body, 0, whole, ENAMETOOLONG, slot);
      if (verdict.action != Action::kLane)
        return verdict;
      if (std::memchr(body.bytes(), '/', slot.nameLength) != nullptr) {
        return malformed(ENOENT);
      }
      return kToLane;
    }
    case ArgumentShape::kGetattr:
      slot.flags = body.u32(0);
      slot.fh = body.f64(8);
      return kToLane;
    case ArgumentShape::kOpen:
      slot.flags = body.u32(0);
      return kToLane;
    case ArgumentShape::kRead:
      slot.fh = body.f64(0);
      slot.offset = body.f64(8);
      slot.size = std::min(body.u32(16), slot.writable);
      return kToLane;
    case ArgumentShape::kRelease:
      slot.fh = body.f64(0);
      slot.flags = body.u32(8);
      return kToLane;
    case ArgumentShape::kXattr:
      slot.size = body.u32(0);
      return takeName(body, 8, whole, ERANGE, slot);
    case ArgumentShape::kListxattr:
      slot.size = body.u32(0);
      return kToLane;
    case ArgumentShape::kLseek:
      slot.fh = body.f64(0);
      slot.offset = body.f64(8);
      slot.flags = body.u32(16);
      return kToLane;
    case ArgumentShape::kAccess:
      slot.flags = body.u32(0);
      return kToLane;
    case ArgumentShape::kIoctl:
      slot.fh = body.f64(0);
      slot.flags = body.u32(12);
      return kToLane;
    case ArgumentShape::kHandle:
      slot.fh = body.f64(0);
      return kToLane;
  }
  return malformed(EINVAL);
}

}  // namespace

Verdict decode(const Taken& request, bool accepts, Slot& slot) noexcept {
  if (request.copied < kInHeaderSize)
    return {Action::kDrop, 0, true};
  const auto header = loadLe<InHeader>(request.raw);
  const OpcodeRule rule = ruleOf(header.opcode);
  const bool lengthOk =
      header.len >= kInHeaderSize && header.len <= request.readable;
  switch (rule.handling) {
    case Handling::kForget:
    case Handling::kBatchForget:
      if (!lengthOk || header.len - kInHeaderSize < rule.minArguments) {
        return {Action::kDrop, 0, true};
      }
      return {rule.handling == Handling::kForget ? Action::kForget
                                                 : Action::kBatchForget};
    case Handling::kSilent:
      return {Action::kDrop, 0, !lengthOk};
    default:
      break;
  }
  if (request.writable < kOutHeaderSize)
    return {Action::kDrop, 0, true};
  if (!lengthOk)
    return malformed(EINVAL);
  if (!accepts && header.opcode != FUSE_INIT)
    return error(EIO);
  if (rule.handling == Handling::kReadOnly)
    return error(EROFS);
  if (rule.handling == Handling::kUnsupported)
    return error(ENOSYS);

  // The header's length is what counts, whatever lies behind it.
  const uint32_t length = header.len - kInHeaderSize;
  const uint32_t copied = std::min(header.len, request.copied) - kInHeaderSize;
  if (copied < rule.minArguments)
    return malformed(EINVAL);
  slot.opcode = header.opcode;
  slot.argLength = copied;
  slot.writable = request.writable - kOutHeaderSize;
  slot.nodeid = exact(header.nodeid);
  slot.offset = 0;
  slot.fh = 0;
  slot.size = 0;
  slot.flags = 0;
  slot.nameOffset = 0;
  slot.nameLength = 0;
  slot.uid = header.uid;
  slot.gid = header.gid;
  const Verdict verdict = takeArguments(rule.arguments, Body(request, copied),
                                        copied == length, slot);
  if (verdict.action == Action::kLane) {
    std::memcpy(slot.raw, request.raw, kInHeaderSize + copied);
  }
  return verdict;
}

}  // namespace nydus
