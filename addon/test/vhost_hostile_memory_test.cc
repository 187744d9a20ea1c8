// Guests that change memory under our hands, or let buffers lie where others
// do (vhost-user-fs.md §7): only what they were given to answer changes.
#include "test/queue_fixture.h"

namespace nydus {
namespace {

using test::QueueFixture;
using test::TestGuest;

constexpr uint16_t kNext = 1;
constexpr uint16_t kWrite = 2;

template <typename T>
void put(QueueFixture& q, uint64_t gpa, const T& value) {
  std::memcpy(q.guest.space.host(gpa), &value, sizeof value);
}

// A chain of a request of 56 bytes at `request` and a reply at `reply`.
void exposeChain(QueueFixture& q,
                 uint16_t index,
                 uint64_t request,
                 uint64_t reply,
                 uint32_t replyBytes,
                 uint64_t unique) {
  InHeader header{};
  header.len = 56;
  header.opcode = FUSE_GETATTR;
  header.unique = unique;
  put(q, request, header);
  const auto head = static_cast<uint16_t>(2 * index % q.driver.size());
  put(q, q.driver.descriptors() + head * 16u,
      Descriptor{request, 56, kNext, static_cast<uint16_t>(head + 1)});
  put(q, q.driver.descriptors() + (head + 1u) * 16u,
      Descriptor{reply, replyBytes, kWrite, 0});
  put(q, q.driver.avail() + 4 + 2u * (index % q.driver.size()), head);
  put(q, q.driver.avail() + 2, static_cast<uint16_t>(index + 1));
}

TEST(vhostRequestsChangedAfterTheyWereTaken) {
  QueueFixture q({});
  const auto sent = q.send(120);
  q.publish();
  const auto taken = q.take();
  CHECK_EQ(taken.size(), 1u);
  // Everything that was checked becomes something else.
  InHeader forged{};
  forged.len = 0xffffffff;
  forged.opcode = FUSE_INIT;
  forged.unique = 666;
  put(q, sent.request, forged);
  for (uint16_t i = 0; i < q.driver.size(); i++) {
    put(q, q.driver.descriptors() + i * 16u,
        Descriptor{~uint64_t{0}, 0xffffffff, 7, 0xffff});
  }
  CHECK_EQ(loadLe<InHeader>(q.last.raw).opcode, uint32_t{FUSE_GETATTR});
  CHECK(q.answer(taken[0], 104, 0x11));
  const auto used = q.used();
  CHECK(used && used->id == sent.head && used->length == 120);
  CHECK_EQ(q.replyOf(sent).unique, sent.unique);
  CHECK_EQ(q.replyOf(sent).len, 120u);
  CHECK(*q.guest.space.host(sent.reply + 119) == std::byte{0x11});
}

TEST(vhostReplyInThePlaceOfItsRequest) {
  QueueFixture q({});
  const uint64_t place = *q.guest.space.allocate(4096, 8);
  exposeChain(q, 0, place, place, 120, 42);
  const auto taken = q.take();
  CHECK_EQ(taken.size(), 1u);
  CHECK(q.answer(taken[0], 104));
  const auto reply = loadLe<OutHeader>(q.guest.space.host(place));
  CHECK_EQ(reply.unique, 42u);
  CHECK_EQ(reply.len, 120u);
  // A longer request, of which the rest is read when it is overwritten, does
  // no harm either: the answer is made of what was copied.
  CHECK_EQ(q.used()->length, 120u);
}

TEST(vhostRepliesOverTheRingsThemselves) {
  // Where a reply goes, and whether the guest can still find anything out.
  const auto over = [](auto place) {
    QueueFixture q({});
    const uint64_t request = *q.guest.space.allocate(64, 8);
    const uint64_t reply = *q.guest.space.allocate(256, 8);
    exposeChain(q, 0, request, place(q), 120, 2);
    const auto first = q.take();
    CHECK_EQ(first.size(), 1u);
    CHECK(q.answer(first[0], 104, 0xff));
    // Our own indexes are ours: what the guest sees next is where it belongs.
    CHECK_EQ(loadLe<uint16_t>(q.guest.space.host(q.driver.used()) + 2), 1u);
    q.driver.reset();
    exposeChain(q, 1, request, reply, 120, 4);
    const auto second = q.take();
    CHECK_EQ(second.size(), 1u);
    if (second.empty())
      return;
    CHECK(q.answer(second[0], 104, 0x22));
    CHECK_EQ(loadLe<OutHeader>(q.guest.space.host(reply)).unique, 4u);
    CHECK_EQ(loadLe<uint16_t>(q.guest.space.host(q.driver.used()) + 2), 2u);
    // The second used element: its head, its length.
    const std::byte* element = q.guest.space.host(q.driver.used()) + 4 + 8;
    CHECK_EQ(loadLe<uint32_t>(element), 2u);
    CHECK_EQ(loadLe<uint32_t>(element + 4), 120u);
  };
  over([](QueueFixture& q) { return q.driver.descriptors(); });
  over([](QueueFixture& q) { return q.driver.avail(); });
  over([](QueueFixture& q) { return q.driver.used(); });
}

TEST(vhostRepliesOverEachOther) {
  QueueFixture q({});
  const uint64_t request = *q.guest.space.allocate(64, 8);
  const uint64_t other = *q.guest.space.allocate(64, 8);
  const uint64_t reply = *q.guest.space.allocate(256, 8);
  exposeChain(q, 0, request, reply, 120, 2);
  exposeChain(q, 1, other, reply + 8, 120, 4);
  const auto taken = q.take();
  CHECK_EQ(taken.size(), 2u);
  for (const uint32_t index : taken)
    CHECK(q.answer(index, 104));
  CHECK_EQ(q.used()->length, 120u);
  CHECK_EQ(q.used()->length, 120u);
  CHECK_EQ(loadLe<OutHeader>(q.guest.space.host(reply + 8)).unique, 4u);
  CHECK(!q.run->broken());
}

TEST(vhostUsedEventGarbageCostsInterruptsOnly) {
  QueueFixture q({});
  const uint64_t usedEvent = q.driver.avail() + 4 + 2u * q.driver.size();
  uint64_t answered = 0;
  for (int i = 0; i < 1000; i++) {
    put(q, usedEvent, static_cast<uint16_t>(i * 7919));
    put(q, q.driver.avail(), static_cast<uint16_t>(i));
    const auto sent = q.send(120);
    q.publish();
    for (const uint32_t index : q.take()) {
      CHECK(q.answer(index, 104));
      answered++;
    }
    const auto used = q.used();
    CHECK(used && used->id == sent.head && used->length == 120);
    q.driver.free(sent.head);
    q.guest.space.release(sent.request, 56);
    q.guest.space.release(sent.reply, 120);
  }
  CHECK_EQ(answered, 1000u);
  CHECK(!q.run->broken());
}

TEST(vhostBaseThatTheGuestDoesNotKnow) {
  // The driver has made nothing available, and is said to be far.
  QueueFixture q({.base = 100});
  CHECK(q.take().empty());
  CHECK(q.run->broken());
  CHECK_EQ(q.brokenBecause.size(), 1u);
}

}  // namespace
}  // namespace nydus
