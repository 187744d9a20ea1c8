#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/fd.h"
#include "codec/codec.h"
#include "codec/digest.h"
#include "decode/decode_pool.h"
#include "decode/unit_job.h"
#include "decode/unit_task.h"
#include "test/check.h"

namespace nydus::decode {
namespace {

using Bytes = std::vector<std::byte>;

UniqueFd temporaryFile() {
  return UniqueFd(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

Bytes bytesOf(size_t size, int seed) {
  Bytes out(size);
  for (size_t i = 0; i < size; i++)
    out[i] = std::byte(((i * 31 + static_cast<size_t>(seed)) >> 3) & 0xff);
  return out;
}

Bytes readBack(int fd, size_t size, off_t at) {
  Bytes out(size);
  CHECK_EQ(::pread(fd, out.data(), size, at), static_cast<ssize_t>(size));
  return out;
}

// One batch under construction, as JavaScript writes it.
struct Records {
  std::vector<double> words;
  Bytes extra;

  void add(const UnitRecord& unit) { append(unit); }
  void add(MemberRecord member, codec::Source plain, codec::Digester digester) {
    std::array<std::byte, codec::kDigestSize> digest;
    codec::digest(digester, plain, digest);
    member.digestAt = static_cast<double>(extra.size());
    extra.insert(extra.end(), digest.begin(), digest.end());
    append(member);
  }
  template <typename T>
  void append(const T& record) {
    const auto* from = reinterpret_cast<const double*>(&record);
    words.insert(words.end(), from, from + sizeof(record) / sizeof(double));
  }
};

std::shared_ptr<Batch> batchOf(Compressor compressor, codec::Source stored) {
  auto batch = std::make_shared<Batch>();
  batch->coding.compressor = compressor;
  batch->stored = stored;
  return batch;
}

Bytes packed(codec::Source plain) {
  Bytes out(codec::zstdBound(plain.size()));
  out.resize(codec::zstdCompress(plain, out, 3).size);
  return out;
}

}  // namespace

TEST(decode_unit_writes_good_members_only) {
  const UniqueFd file = temporaryFile();
  const Bytes plain = bytesOf(3000, 1);
  const Bytes stored = packed(plain);
  const auto batch = batchOf(Compressor::kZstd, stored);
  Records records;
  records.add({.id = 5,
               .flags = kCompressed,
               .size = static_cast<double>(stored.size()),
               .outputSize = 3000,
               .fd = static_cast<double>(file.get()),
               .members = 2});
  const codec::Source all(plain);
  records.add({.flags = kStore | kDigest, .size = 1000, .position = 5000},
              all.first(1000), codec::Digester::kBlake3);
  records.add({.flags = kStore | kDigest, .at = 1000, .size = 1000},
              all.first(1000), codec::Digester::kBlake3);
  auto tasks = parseUnits(batch, records.words, records.extra);
  CHECK(tasks);
  CHECK_EQ(tasks->size(), 1U);
  UnitTask& task = *tasks->front();
  UnitJob job;
  job.run(task);
  CHECK_EQ(task.id, 5U);
  CHECK(!task.lost);
  CHECK_EQ(task.failures.size(), 1U);
  CHECK_EQ(task.failures.front().member, 1U);
  CHECK(task.failures.front().kind == FailureKind::kDamaged);
  CHECK(readBack(file.get(), 1000, 5000) ==
        Bytes(plain.begin(), plain.begin() + 1000));
  CHECK(readBack(file.get(), 1000, 0) == Bytes(1000));
}

TEST(decode_unit_of_garbage_is_damaged) {
  std::mt19937 random(7);
  Bytes stored(500);
  for (int round = 0; round < 400; round++) {
    std::ranges::generate(stored, [&] { return std::byte(random() & 0xff); });
    const auto batch =
        batchOf(static_cast<Compressor>(round % kCompressors), stored);
    batch->coding.cipher.emplace();
    Records records;
    records.add({.flags = static_cast<double>(
                     kCompressed | (round % 3 == 0 ? kEncrypted : 0) |
                     (round % 5 == 0 ? kZran : 0)),
                 .start = 100,
                 .size = static_cast<double>(random() % 400),
                 .outputSize = static_cast<double>(random() % 5000),
                 .fd = -1,
                 .members = 1,
                 .zranBits = static_cast<double>(round % 8)});
    records.append(MemberRecord{.flags = kCrc, .crc32 = 1});
    auto tasks = parseUnits(batch, records.words, records.extra);
    CHECK(tasks);
    UnitJob job;
    job.run(*tasks->front());
    CHECK_EQ(tasks->front()->failures.size(), 1U);
  }
}

TEST(decode_records_that_lie_are_refused) {
  const Bytes stored(100);
  const auto batch = batchOf(Compressor::kNone, stored);
  const UnitRecord good{.size = 100, .outputSize = 100, .fd = -1, .members = 1};
  const MemberRecord member{.size = 100};
  const auto parses = [&](const UnitRecord& unit, const MemberRecord& of) {
    Records records;
    records.append(unit);
    records.append(of);
    return static_cast<bool>(parseUnits(batch, records.words, records.extra));
  };
  CHECK(parses(good, member));
  // Every field of both, with what a double can hold at its worst.
  const double worst[] = {-1, NAN, INFINITY, -INFINITY, 1e300, 1e16};
  const auto spoil = [](auto record, size_t field, double value) {
    std::memcpy(reinterpret_cast<std::byte*>(&record) + field * sizeof(double),
                &value, sizeof(value));
    return record;
  };
  for (const double value : worst) {
    for (size_t field = 0; field < sizeof(UnitRecord) / sizeof(double);
         field++) {
      UnitRecord bad = good;
      bad.flags = kZran | kIntoTarget;
      (void)parses(spoil(bad, field, value), member);
      if (value != -1 && field < 9)
        CHECK(!parses(spoil(good, field, value), member));
    }
    for (size_t field = 0; field < 5; field++)
      CHECK(!parses(good, spoil(member, field, value)));
  }
  CHECK(!parses(good, {.flags = kDigest, .size = 100}));
  CHECK(!parses(good, {.at = 1, .size = 100}));
  Records cut;
  cut.append(good);
  CHECK(!parseUnits(batch, cut.words, cut.extra));
  cut.words.pop_back();
  CHECK(!parseUnits(batch, cut.words, cut.extra));
}

TEST(decode_pool_ends_every_unit_once_or_forgets_it) {
  const Bytes stored = bytesOf(4096, 3);
  const auto batch = batchOf(Compressor::kNone, stored);
  constexpr int kUnits = 2000;
  std::array<std::atomic<int>, kUnits> ended = {};
  std::atomic<int> all = 0;
  {
    DecodePool pool(3, [&](std::unique_ptr<UnitTask> task) {
      ended[task->id]++;
      all++;
    });
    for (int i = 0; i < kUnits; i++) {
      Records records;
      records.append(UnitRecord{.id = static_cast<double>(i),
                                .size = 4096,
                                .outputSize = 4096,
                                .fd = -1});
      auto tasks = parseUnits(batch, records.words, records.extra);
      pool.submit(std::move(*tasks), i % 2 == 0);
      if (i % 7 == 0)
        pool.promote(static_cast<uint64_t>(i));
    }
    while (all < kUnits / 2)
      std::this_thread::yield();
    pool.stop();
    Records records;
    records.append(UnitRecord{.size = 1, .outputSize = 1, .fd = -1});
    pool.submit(std::move(*parseUnits(batch, records.words, records.extra)),
                true);
  }
  CHECK(std::ranges::all_of(ended, [](auto& times) { return times <= 1; }));
  CHECK_EQ(batch.use_count(), 1);
}

}  // namespace nydus::decode
