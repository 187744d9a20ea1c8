#include <sys/mman.h>

#include <cstring>

#include "test/queue_fixture.h"

namespace nydus {
namespace {

using test::QueueFixture;

struct Area {
  explicit Area(uint16_t size) { area = *InflightArea::create(2, size, fd); }
  // The file again, as another back-end maps it.
  [[nodiscard]] std::shared_ptr<InflightArea> again() const {
    return *InflightArea::map(area->size(), 0, area->queues(),
                              area->queueSize(), fd.duplicate());
  }
  UniqueFd fd;
  std::shared_ptr<InflightArea> area;
};

TEST(vhostInflightHasTheSizeOfTheSpecification) {
  // 16 bytes of header and 16 for each descriptor, rounded up to 64.
  CHECK_EQ(InflightArea::bytesPerQueue(1), 64u);
  CHECK_EQ(InflightArea::bytesPerQueue(128), 2112u);
  Area made(128);
  CHECK_EQ(made.area->size(), 2 * 2112u);
  CHECK(made.area->part(1) == made.area->part(0) + 2112);
  CHECK(made.area->part(2) == nullptr);
}

TEST(vhostInflightResubmitsWhatACrashLeft) {
  Area area(8);
  QueueFixture q({.inflight = area.area});
  const auto a = q.send();
  const auto b = q.send();
  const auto c = q.send();
  q.publish();
  const auto taken = q.take();
  CHECK_EQ(taken.size(), 3u);
  // Out of order: the second is done, the others are not.
  CHECK(q.answer(taken[1], 8));
  CHECK_EQ(q.used()->id, b.head);
  // The back-end dies; another one gets the area and starts anywhere.
  q.setup.inflight = area.again();
  q.setup.base = 1;
  q.start();
  CHECK(q.run->resumed());
  CHECK(q.run->arm());
  const auto again = q.take();
  CHECK_EQ(again.size(), 2u);
  CHECK_EQ(again.at(0), a.head);
  CHECK_EQ(again.at(1), c.head);
  CHECK(q.answer(a.head, 8));
  CHECK(q.answer(c.head, 8));
  // What comes next is the fourth, not one of the old ones.
  const auto d = q.send();
  q.publish();
  CHECK_EQ(q.take().at(0), d.head);
}

TEST(vhostInflightFinishesABatchThatWasPublished) {
  Area area(8);
  QueueFixture q({.inflight = area.area});
  q.send();
  q.send();
  q.publish();
  const auto taken = q.take();
  CHECK(q.answer(taken[0], 8));
  CHECK(q.answer(taken[1], 8));
  // As if it had died before it cleared the last batch: the entry is in flight
  // and used_idx is one behind.
  std::byte* part = area.area->part(1);
  part[16 + 16 * taken[1]] = std::byte{1};
  storeLe<uint16_t>(part + 14, 1);
  q.setup.inflight = area.again();
  q.start();
  CHECK(q.take().empty());
  CHECK(part[16 + 16 * taken[1]] == std::byte{0});
}

TEST(vhostInflightDoesNotBelieveGarbage) {
  for (const uint8_t fill : {0x00, 0x01, 0x55, 0xff}) {
    Area area(8);
    std::byte* part = area.area->part(1);
    std::memset(part, fill, InflightArea::bytesPerQueue(8));
    // Also with a header that looks right.
    if (fill != 0) {
      storeLe<uint16_t>(part + 8, 1);
      storeLe<uint16_t>(part + 10, 8);
      storeLe<uint16_t>(part + 12, 0xfff0);
      storeLe<uint16_t>(part + 14, 0x1234);
    }
    QueueFixture q({.inflight = area.area});
    q.take();
    // It says that all eight are in flight, though their descriptors are
    // empty: they are handed back or break the ring, no more.
    CHECK(q.run->waitIdle(std::chrono::milliseconds(0)));
  }
}

TEST(vhostInflightRefusesAreasThatAreTooSmall) {
  Area area(8);
  const auto map = [&](uint64_t size, uint64_t offset, uint16_t queues,
                       uint16_t queueSize) {
    return static_cast<bool>(InflightArea::map(size, offset, queues, queueSize,
                                               area.fd.duplicate()));
  };
  CHECK(map(2 * 192, 0, 2, 8));
  CHECK(!map(2 * 192 - 1, 0, 2, 8));
  CHECK(!map(2 * 192, 1, 2, 8));
  CHECK(!map(2 * 192, 0, 3, 8));
  CHECK(!map(2 * 192, 0, 2, 1024));
  CHECK(!map(2 * 192, 0, 0, 8));
  CHECK(!map(2 * 192, 0, 2, 0));
  CHECK(!map(~uint64_t{0}, 64, 2, 8));
}

}  // namespace
}  // namespace nydus
