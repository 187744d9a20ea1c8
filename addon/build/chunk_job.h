// Runs jobs of the image builder on one thread: reads, cuts into chunks,
// digests, compresses. Knows no image: where a chunk goes is decided by whoever
// reads the results.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "build/slot.h"
#include "codec/codec.h"
#include "codec/digest.h"

namespace nydus::build {

enum class Compressor : uint8_t { kNone = 0, kLz4Block = 1, kZstd = 2 };
constexpr int kCompressors = 3;

struct JobSettings {
  Compressor compressor;
  int level;  // of zstd
  codec::Digester digester;
  size_t chunkSize;
  // Files of one chunk and less than this are left as they are; 0 = none.
  size_t batchLimit;
  // Only digests are wanted: nothing is stored.
  bool discard;
};

class ChunkJob {
 public:
  explicit ChunkJob(const JobSettings& settings) : settings_(settings) {}

  // Runs what the slot has taken and fills its results, data and outcome.
  void run(Slot& slot) noexcept;

 private:
  void runParts();
  void readFile(const Part& part);
  bool openFolder(const Part& part);
  // Where a chunk that is read is put: not in between when it stays as it is.
  codec::Target roomFor(const Part& part, size_t size);
  void addChunk(codec::Source plain, const Part& part);
  void store(ChunkResult& result, codec::Source plain, bool compress);
  void fail(const char* call, int error);
  [[nodiscard]] bool isSmall(const Part& part) const;
  [[nodiscard]] bool isCompressed(const Part& part) const;

  const JobSettings settings_;
  Slot* slot_ = nullptr;
  size_t stored_ = 0;  // bytes of the slot's data that are used
  UniqueFd folder_;
  double folderAt_ = -1;  // which of the slot's folders is open
  std::string path_;
  std::vector<std::byte> scratch_;
};

}  // namespace nydus::build
