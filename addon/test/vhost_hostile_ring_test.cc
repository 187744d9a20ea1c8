// Rings that no honest driver makes (vhost-user-fs.md §7, rows of the guest):
// each breaks its ring, or costs the guest one answer, and nothing else.
#include <sys/mman.h>

#include <random>

#include "test/queue_fixture.h"

namespace nydus {
namespace {

using test::QueueFixture;
using test::TestGuest;

constexpr uint16_t kNext = 1;
constexpr uint16_t kWrite = 2;
constexpr uint16_t kIndirect = 4;

// Writes descriptors and the available ring by hand.
class Forger {
 public:
  explicit Forger(QueueFixture& q) : q_(q) {
    InHeader header{};
    header.len = sizeof header;
    header.opcode = FUSE_STATFS;
    header.unique = 77;
    request = *q.guest.space.allocate(sizeof header, 8);
    reply = *q.guest.space.allocate(4096, 8);
    table = *q.guest.space.allocate(65536, 16);
    std::memcpy(q.guest.space.host(request), &header, sizeof header);
  }

  void descriptor(uint16_t index, Descriptor d) {
    put(q_.driver.descriptors() + index * 16u, d);
  }
  void entry(uint16_t index, Descriptor d) { put(table + index * 16u, d); }
  // A chain of request and reply at 0 and 1.
  void honest() {
    descriptor(0, {request, 40, kNext, 1});
    descriptor(1, {reply, 96, kWrite, 0});
  }
  void expose(uint16_t head) {
    put(q_.driver.avail() + 4 + 2u * (index_ & (q_.driver.size() - 1)), head);
    index_++;
    put(q_.driver.avail() + 2, index_);
  }
  void availableIndex(uint16_t index) { put(q_.driver.avail() + 2, index); }

  // The chain at 0 breaks the ring, which stands still from then on.
  void breaks(const char* what) {
    expose(0);
    const bool taken = !q_.take().empty();
    if (taken || !q_.run->broken() || q_.brokenBecause.size() != 1 ||
        QueueFixture::count(q_.error) != 1 || q_.driver.pop().has_value()) {
      test::fail(__FILE__, __LINE__, what);
    }
    honest();
    expose(0);
    CHECK(q_.take().empty());
    CHECK_EQ(q_.brokenBecause.size(), 1u);
  }
  // The chain at 0 is handed back with `length` bytes, without anybody seeing
  // it; the next one is served.
  void costsItself(const char* what, uint32_t length) {
    expose(0);
    const bool taken = !q_.take().empty();
    const auto used = q_.driver.pop();
    if (taken || q_.run->broken() || !used || used->length != length) {
      test::fail(__FILE__, __LINE__, what);
    }
    honest();
    expose(0);
    CHECK_EQ(q_.take().size(), 1u);
  }

  uint64_t request;
  uint64_t reply;
  uint64_t table;

 private:
  template <typename T>
  void put(uint64_t gpa, const T& value) {
    std::memcpy(q_.guest.space.host(gpa), &value, sizeof value);
  }
  QueueFixture& q_;
  uint16_t index_ = 0;
};

TEST(vhostHostileChainThatLoops) {
  {
    QueueFixture q({});
    Forger f(q);
    f.descriptor(0, {f.request, 40, kNext, 1});
    f.descriptor(1, {f.request, 1, kNext, 0});
    f.breaks("two descriptors");
  }
  {
    QueueFixture q({});
    Forger f(q);
    f.descriptor(0, {f.request, 0, kNext, 0});
    f.breaks("one empty descriptor");
  }
  {
    QueueFixture q({});
    Forger f(q);
    f.entry(0, {f.request, 40, kNext, 1});
    f.entry(1, {f.request, 0, kNext, 1});
    f.descriptor(0, {f.table, 32, kIndirect, 0});
    f.breaks("indirect");
  }
}

TEST(vhostHostileIndexes) {
  for (const uint16_t next : {uint16_t{8}, uint16_t{9}, uint16_t{0xffff}}) {
    QueueFixture q({});
    Forger f(q);
    f.descriptor(0, {f.request, 40, kNext, next});
    f.breaks("next outside of the table");
  }
  for (const uint16_t next : {uint16_t{2}, uint16_t{0xffff}}) {
    QueueFixture q({});
    Forger f(q);
    f.entry(0, {f.request, 40, kNext, next});
    f.descriptor(0, {f.table, 32, kIndirect, 0});
    f.breaks("next outside of the indirect table");
  }
  for (const uint16_t head : {uint16_t{8}, uint16_t{0xffff}}) {
    QueueFixture q({});
    Forger f(q);
    f.honest();
    f.expose(head);
    CHECK(q.take().empty());
    CHECK(q.run->broken());
  }
  for (const uint16_t jump :
       {uint16_t{9}, uint16_t{0x8000}, uint16_t{0xffff}}) {
    QueueFixture q({});
    Forger f(q);
    f.honest();
    f.availableIndex(jump);
    CHECK(q.take().empty());
    CHECK(q.run->broken());
  }
}

TEST(vhostHostileHeadThatIsInFlight) {
  QueueFixture q({});
  Forger f(q);
  f.honest();
  f.expose(0);
  const auto taken = q.take();
  CHECK_EQ(taken.size(), 1u);
  f.expose(0);
  CHECK(q.take().empty());
  CHECK(q.run->broken());
  // The first is still answered.
  CHECK(q.answer(taken[0], 80));
  CHECK_EQ(q.used()->length, 96u);
}

TEST(vhostHostileIndirectTables) {
  const auto broken = [](const char* what, auto forge, bool negotiated = true) {
    QueueFixture q({.indirect = negotiated});
    Forger f(q);
    f.entry(0, {f.request, 40, kNext, 1});
    f.entry(1, {f.reply, 96, kWrite, 0});
    forge(f);
    f.breaks(what);
  };
  broken("empty", [](Forger& f) {
    f.descriptor(0, {f.table, 0, kIndirect, 0});
  });
  broken("not a multiple of 16", [](Forger& f) {
    f.descriptor(0, {f.table, 33, kIndirect, 0});
  });
  broken("huge", [](Forger& f) {
    f.descriptor(0, {f.table, 0xfffffff0, kIndirect, 0});
  });
  broken("too long", [](Forger& f) {
    f.descriptor(0, {f.table, (1024 + 9) * 16, kIndirect, 0});
  });
  broken("with a next", [](Forger& f) {
    f.descriptor(0, {f.table, 32, kIndirect | kNext, 1});
  });
  broken("nested", [](Forger& f) {
    f.entry(0, {f.table, 32, kIndirect, 0});
    f.descriptor(0, {f.table, 32, kIndirect, 0});
  });
  broken("outside of memory", [](Forger& f) {
    f.descriptor(0, {TestGuest::kSize, 32, kIndirect, 0});
  });
  broken("across a hole", [](Forger& f) {
    f.descriptor(0, {TestGuest::kLowEnd - 16, 32, kIndirect, 0});
  });
  broken("wrapping", [](Forger& f) {
    f.descriptor(0, {~uint64_t{0} - 15, 32, kIndirect, 0});
  });
  broken(
      "not negotiated",
      [](Forger& f) {
        f.descriptor(0, {f.table, 32, kIndirect, 0});
      },
      false);
  broken("readable after writable", [](Forger& f) {
    f.entry(0, {f.reply, 96, kWrite | kNext, 1});
    f.entry(1, {f.request, 40, 0, 0});
    f.descriptor(0, {f.table, 32, kIndirect, 0});
  });
}

TEST(vhostHostileChainsThatAreTooLongOrMixed) {
  {
    QueueFixture q({});
    Forger f(q);
    f.descriptor(0, {f.reply, 96, kWrite | kNext, 1});
    f.descriptor(1, {f.request, 40, 0, 0});
    f.breaks("readable after writable");
  }
  {
    QueueFixture q({});
    Forger f(q);
    // 3 MiB of real memory, 22 times.
    for (uint16_t i = 0; i < 22; i++) {
      f.entry(i, {TestGuest::kHighStart, 3u << 20,
                  static_cast<uint16_t>(i == 21 ? 0 : kNext),
                  static_cast<uint16_t>(i + 1)});
    }
    f.descriptor(0, {f.table, 22 * 16, kIndirect, 0});
    f.breaks("66 MiB");
  }
}

TEST(vhostHostileBuffersOutsideOfMemory) {
  for (const uint64_t gpa : {TestGuest::kSize, TestGuest::kLowEnd,
                             uint64_t{1} << 40, ~uint64_t{0} - 7}) {
    {
      QueueFixture q({});
      Forger f(q);
      f.honest();
      f.descriptor(0, {gpa, 40, kNext, 1});
      f.costsItself("the header", 0);
    }
    {
      QueueFixture q({});
      Forger f(q);
      f.descriptor(0, {f.request, 40, kNext, 1});
      f.descriptor(1, {gpa, 96, kWrite, 0});
      f.costsItself("the reply", 0);
    }
    {
      QueueFixture q({});
      Forger f(q);
      f.descriptor(0, {f.request, 40, kNext, 1});
      f.descriptor(1, {gpa, 8, kNext, 2});
      f.descriptor(2, {f.reply, 96, kWrite, 0});
      f.costsItself("the arguments", 16);
      CHECK_EQ(loadLe<OutHeader>(q.guest.space.host(f.reply)).error, -EIO);
      CHECK_EQ(loadLe<OutHeader>(q.guest.space.host(f.reply)).unique, 77u);
    }
    {
      QueueFixture q({});
      Forger f(q);
      f.descriptor(0, {f.request, 40, kNext, 1});
      f.descriptor(1, {f.reply, 16, kWrite | kNext, 2});
      f.descriptor(2, {gpa, 4096, kWrite, 0});
      f.costsItself("the body", 16);
      CHECK_EQ(loadLe<OutHeader>(q.guest.space.host(f.reply)).error, -EIO);
    }
  }
}

TEST(vhostHostileRequestsWithoutAHeader) {
  {
    QueueFixture q({});
    Forger f(q);
    f.descriptor(0, {f.request, 39, kNext, 1});
    f.descriptor(1, {f.reply, 96, kWrite, 0});
    f.costsItself("39 bytes", 0);
  }
  {
    QueueFixture q({});
    Forger f(q);
    f.descriptor(0, {f.reply, 96, kWrite, 0});
    f.costsItself("no readable bytes", 0);
  }
  {
    QueueFixture q({});
    Forger f(q);
    f.descriptor(0, {f.request, 0, 0, 0});
    f.costsItself("nothing at all", 0);
  }
}

TEST(vhostStraddlingBuffersAreOneForUs) {
  QueueFixture q({});
  Forger f(q);
  // Header in three pieces, the reply in two regions: not adjacent, so the
  // guest gives two descriptors.
  f.entry(0, {f.request, 7, kNext, 1});
  f.entry(1, {f.request + 7, 0, kNext, 2});
  f.entry(2, {f.request + 7, 33, kNext, 3});
  f.entry(3, {TestGuest::kLowEnd - 10, 10, kWrite | kNext, 4});
  f.entry(4, {TestGuest::kHighStart, 90, kWrite, 0});
  f.descriptor(0, {f.table, 5 * 16, kIndirect, 0});
  f.expose(0);
  CHECK_EQ(q.take().size(), 1u);
  CHECK_EQ(loadLe<InHeader>(q.last.raw).unique, 77u);
  CHECK_EQ(q.last.writable, 100u);
  CHECK(q.answer(0, 84, 0x5a));
  CHECK_EQ(q.used()->length, 100u);
  CHECK(*q.guest.space.host(TestGuest::kHighStart + 6) == std::byte{0x5a});
  CHECK(*q.guest.space.host(TestGuest::kHighStart + 89) == std::byte{0x5a});
}

// Every chain of random descriptors is either taken with the lengths that a
// simple model computes, or refused; memory errors are the sanitizer's.
TEST(vhostRandomChainsAgreeWithAModel) {
  std::mt19937 random(1);
  uint64_t accepted = 0;
  for (int round = 0; round < 3000; round++) {
    QueueFixture q({.size = 16});
    Forger f(q);
    const auto pick = [&](uint32_t n) { return random() % n; };
    const uint32_t count = 1 + pick(12);
    const bool indirect = pick(2) == 0;
    uint64_t readable = 0;
    uint64_t writable = 0;
    for (uint32_t i = 0; i < count; i++) {
      const bool write = i > 0 && (writable != 0 || pick(2) == 0);
      const uint32_t length = i == 0         ? 40
                              : pick(4) == 0 ? 0
                                             : 1 + pick(write ? 3000 : 200);
      Descriptor d{write ? f.reply : f.request, length,
                   static_cast<uint16_t>(write ? kWrite : 0),
                   static_cast<uint16_t>(i + 1)};
      if (!write && i > 0)
        d.address = f.table + 32768;
      if (i + 1 < count)
        d.flags |= kNext;
      (write ? writable : readable) += length;
      if (indirect) {
        f.entry(static_cast<uint16_t>(i), d);
      } else {
        f.descriptor(static_cast<uint16_t>(i), d);
      }
    }
    if (indirect)
      f.descriptor(0, {f.table, count * 16, kIndirect, 0});
    f.expose(0);
    const auto taken = q.take();
    CHECK_EQ(taken.size(), 1u);
    if (taken.empty())
      continue;
    accepted++;
    CHECK_EQ(q.last.readable, readable);
    CHECK_EQ(q.last.writable, writable);
    CHECK_EQ(q.last.copied, std::min<uint64_t>(readable, kRawSize));
  }
  CHECK_EQ(accepted, 3000u);
}

TEST(vhostTruncatedGuestMemoryBreaksTheRingNotTheProcess) {
  QueueFixture q({});
  const auto sent = q.send(16 + 4096);
  q.publish();
  const auto taken = q.take();
  CHECK_EQ(taken.size(), 1u);
  CHECK(::ftruncate(q.guest.space.fileFd(0), 0) == 0);
  CHECK(!q.answer(taken[0], 4096));
  q.take();
  CHECK(q.run->broken());
  CHECK_EQ(q.brokenBecause.size(), 1u);
  (void)sent;
}

}  // namespace
}  // namespace nydus
