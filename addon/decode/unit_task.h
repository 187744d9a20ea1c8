// What has to be done with one unit of a blob: from its stored bytes to checked
// chunks in a file. JavaScript describes it in records (lib/cache/decoder.ts
// sees the same through field tables); nothing here knows blobs or images.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "codec/codec.h"
#include "codec/digest.h"
#include "codec/xts.h"

namespace nydus::decode {

enum class Compressor : uint8_t {
  kNone = 0,
  kLz4Block = 1,
  kZstd = 2,
  kGzip = 3
};
constexpr int kCompressors = 4;

// How all units of a blob are coded.
struct Coding {
  Compressor compressor = Compressor::kNone;
  codec::Digester digester = codec::Digester::kBlake3;
  std::optional<codec::XtsKey> cipher;
};

// Doubles, because JavaScript keeps sizes as such.
struct UnitRecord {
  double id;
  double flags;  // kCompressed, …
  double start;  // of the stored bytes, in the batch's memory or in the file
  double size;
  double outputSize;
  double fd;
  double position;  // of the output, in the batch's target
  double members;   // MemberRecords that follow
  double zranByte;
  double zranBits;
  double dictionaryAt;  // in the batch's extra bytes
  double dictionarySize;
};
static_assert(sizeof(UnitRecord) == 96);

struct MemberRecord {
  double flags;  // kStore, …
  double at;     // in the output
  double size;
  double position;  // in the file
  double crc32;
  double digestAt;  // in the batch's extra bytes
};
static_assert(sizeof(MemberRecord) == 48);

constexpr uint32_t kCompressed = 1;
constexpr uint32_t kEncrypted = 2;
constexpr uint32_t kZran = 4;
// The whole output goes to `position` of the file, whatever its checks say.
constexpr uint32_t kStoreWhole = 8;
// The output goes to `position` of the batch's target.
constexpr uint32_t kIntoTarget = 16;
// The stored bytes are in the file.
constexpr uint32_t kFromFile = 32;
constexpr uint32_t kUnitFlags = 63;

constexpr uint32_t kStore = 1;
constexpr uint32_t kDigest = 2;
constexpr uint32_t kCrc = 4;
constexpr uint32_t kMemberFlags = 7;

// The largest output of a unit (lib/cache/unit.ts), or of a chunk table.
constexpr size_t kMaxOutput = size_t{1} << 30;

// What units that were submitted together share.
struct Batch {
  Coding coding;
  codec::Source stored;
  codec::Target target;
  // Keeps both alive.
  std::shared_ptr<const void> owner;
};

// A chunk inside the output.
struct Member {
  uint32_t flags = 0;
  size_t at = 0;
  size_t size = 0;
  uint64_t position = 0;
  uint32_t crc32 = 0;
  std::array<std::byte, codec::kDigestSize> digest = {};
};

enum class FailureKind : uint8_t {
  kDamaged = 0,  // not what it must be
  kStore = 1,    // the file could not be written: `error`
};

struct MemberFailure {
  size_t member = 0;
  FailureKind kind = FailureKind::kDamaged;
  int error = 0;
  std::string text;
};

struct UnitTask {
  std::shared_ptr<const Batch> batch;
  uint64_t id = 0;
  uint32_t flags = 0;
  uint64_t start = 0;
  size_t size = 0;
  size_t outputSize = 0;
  int fd = -1;
  uint64_t position = 0;
  uint8_t zranByte = 0;
  int zranBits = 0;
  std::vector<std::byte> dictionary;
  std::vector<Member> members;
  // Filled when it was run; empty: all is well.
  std::vector<MemberFailure> failures;
  // There was no memory for it.
  bool lost = false;
};

// Takes records over, with everything in them checked: what they point to lies
// within the batch's memory and within `extra`.
Result<std::vector<std::unique_ptr<UnitTask>>> parseUnits(
    const std::shared_ptr<const Batch>& batch,
    std::span<const double> records,
    codec::Source extra);

}  // namespace nydus::decode
