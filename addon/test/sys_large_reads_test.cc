#include "sys/large_reads.h"

#include "test/check.h"

namespace nydus {
namespace {

using Way = LargeReads::Way;

constexpr uint64_t kMib = 1 << 20;
constexpr uint64_t kUs = 1000;

// Large reads of so many bytes in all; each way takes so many µs for 1 MiB.
// Returns how much of it went by a mapping.
uint64_t read(LargeReads& reads,
              uint64_t bytes,
              uint64_t mappedUs,
              uint64_t readUs) {
  uint64_t mapped = 0;
  for (uint64_t done = 0; done < bytes; done += kMib) {
    const Way way = reads.way();
    if (way == Way::kMapped)
      mapped += kMib;
    reads.took(way, kMib, (way == Way::kMapped ? mappedUs : readUs) * kUs);
  }
  return mapped;
}

TEST(sysLargeReadsTakeTheFasterWay) {
  LargeReads reads;
  read(reads, 64 * kMib, 100, 40);
  CHECK(reads.way() == Way::kRead);
  LargeReads others;
  read(others, 64 * kMib, 40, 100);
  CHECK(others.way() == Way::kMapped);
}

TEST(sysLargeReadsCountWhatWindowsCost) {
  LargeReads reads;
  while (reads.way() == Way::kMapped) {
    reads.took(Way::kMapped, 0, 50 * kUs);
    reads.took(Way::kMapped, kMib, 30 * kUs);
  }
  read(reads, 64 * kMib, 30, 40);
  CHECK(reads.way() == Way::kRead);
}

TEST(sysLargeReadsTryAgainNowAndThen) {
  LargeReads reads;
  const uint64_t total = 4096 * kMib;
  const uint64_t mapped = read(reads, total, 100, 40);
  // The slower way has a trial in each half of a GiB.
  CHECK(mapped > total / 128);
  CHECK(mapped < total / 32);
  // What was slower is faster now: another machine, after a live migration.
  read(reads, 1024 * kMib, 40, 100);
  CHECK(reads.way() == Way::kMapped);
}

TEST(sysLargeReadsIgnoreWhatWasNoCopying) {
  LargeReads reads;
  // A disk, or a thread that lost its processor.
  for (int i = 0; i < 1000; i++)
    reads.took(Way::kMapped, kMib, 50'000 * kUs);
  CHECK(reads.way() == Way::kMapped);
  read(reads, 64 * kMib, 40, 100);
  CHECK(reads.way() == Way::kMapped);
}

}  // namespace
}  // namespace nydus
