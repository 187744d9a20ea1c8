// One job of the image builder and its results, in memory that JavaScript and
// a thread of the pool hold in turns: JavaScript fills `parts` and `input` and
// submits the slot; when it is done, it reads `results` and `data`.
// lib/build/slot.ts sees the same through field tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/mmap.h"
#include "codec/digest.h"

namespace nydus::build {

// What is to be read: whole chunks of a file, or its rest. Doubles, because
// JavaScript keeps sizes and times as such. Places are within `input`.
struct Part {
  double folderAt;  // path of the folder; neighbours in one folder share it
  double folderLength;
  double nameAt;  // within the folder
  double nameLength;
  double offset;  // within the file
  double length;
  // Of the whole file when it was found; others are a failure.
  double fileSize;
  double mtime;
  double mtimeNs;
};
static_assert(sizeof(Part) == 72);

struct ChunkResult {
  std::byte digest[codec::kDigestSize];
  uint32_t crc32;  // CRC-32C of the plain bytes
  uint32_t plainSize;
  uint32_t storedSize;  // in `data`, behind the bytes of the chunk before
  uint32_t flags;       // kCompressed, kSmall
};
static_assert(sizeof(ChunkResult) == 48);

constexpr uint32_t kCompressed = 1;
constexpr uint32_t kSmall = 2;  // left as it is, to go into a batch

enum class JobKind : uint8_t {
  kFiles = 0,  // parts name files
  kBytes = 1,  // contents lie in `input`, one part behind the other
  kBatch = 2,  // the same with one part, which is compressed only
};
constexpr int kJobKinds = 3;

enum class Problem : uint8_t {
  kNone = 0,
  kUnreadable = 1,  // `call` failed with `error`
  kChanged = 2,     // the file is not the one that was found
};

struct Outcome {
  size_t chunks = 0;
  Problem problem = Problem::kNone;
  size_t part = 0;  // the one with the problem
  int error = 0;
  const char* call = "";
  double foundSize = 0;  // kChanged: bytes of the file as it is now
};

// The most that a slot takes.
struct SlotLimits {
  size_t parts;
  size_t chunks;
  size_t bytes;  // plain
  size_t paths;  // bytes of all folders and names
  size_t spare;  // by which all bytes, as one chunk, may grow when compressed
};

class Slot {
 public:
  // Throws std::bad_alloc.
  explicit Slot(const SlotLimits& limits);

  [[nodiscard]] const std::span<Part>& parts() const { return parts_; }
  [[nodiscard]] const std::span<std::byte>& input() const { return input_; }
  [[nodiscard]] const std::span<ChunkResult>& results() const {
    return results_;
  }
  [[nodiscard]] const std::span<std::byte>& data() const { return data_; }

  // Takes the first `count` parts over as they are now. Returns what is wrong
  // with a job that would not stay within the slot, or null.
  const char* take(JobKind kind, size_t count, size_t chunkSize);
  [[nodiscard]] JobKind kind() const { return kind_; }
  [[nodiscard]] const std::vector<Part>& taken() const { return taken_; }

  Outcome outcome;

 private:
  [[nodiscard]] bool isInside(const Part& part) const;

  SlotLimits limits_;
  Mmap memory_;
  std::span<Part> parts_;
  std::span<std::byte> input_;
  std::span<ChunkResult> results_;
  std::span<std::byte> data_;
  JobKind kind_ = JobKind::kFiles;
  std::vector<Part> taken_;
};

}  // namespace nydus::build
