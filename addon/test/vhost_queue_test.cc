#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "test/queue_fixture.h"

namespace nydus {
namespace {

using std::chrono::milliseconds;
using test::QueueFixture;

TEST(vhostQueueCarriesARequestAndItsReply) {
  QueueFixture q({});
  const auto sent = q.send(16 + 100);
  q.publish();
  const auto taken = q.take();
  CHECK_EQ(taken.size(), 1u);
  CHECK_EQ(q.last.readable, 56u);
  CHECK_EQ(q.last.writable, 116u);
  CHECK_EQ(loadLe<InHeader>(q.last.raw).unique, sent.unique);
  CHECK(q.answer(taken[0], 100));
  const auto used = q.used();
  CHECK(used.has_value());
  CHECK_EQ(used->id, sent.head);
  CHECK_EQ(used->length, 116u);
  CHECK_EQ(q.replyOf(sent).len, 116u);
  CHECK_EQ(q.replyOf(sent).error, 0);
  CHECK_EQ(q.replyOf(sent).unique, sent.unique);
  CHECK(*q.guest.space.host(sent.reply + 115) == std::byte{0xab});
  CHECK(!q.used().has_value());
}

TEST(vhostQueueNeverWritesMoreThanThereIsRoom) {
  QueueFixture q({});
  const auto sent = q.send(16 + 10);
  const auto after = *q.guest.space.host(sent.reply + 26);
  q.publish();
  const uint32_t index = q.take().at(0);
  CHECK(!q.answer(index, 11));
  CHECK_EQ(q.used()->length, 16u);
  CHECK_EQ(q.replyOf(sent).len, 16u);
  CHECK_EQ(q.replyOf(sent).error, -EIO);
  CHECK(*q.guest.space.host(sent.reply + 26) == after);
}

TEST(vhostQueueAnswersOutOfOrderAndOnce) {
  QueueFixture q({});
  const auto [sent, taken] = q.sendAndTake(2);
  CHECK(q.answer(taken[1], 8));
  CHECK(!q.answer(taken[1], 8));
  CHECK_EQ(q.used()->id, sent[1].head);
  CHECK(!q.used().has_value());
  CHECK(q.answer(taken[0], 8));
  CHECK_EQ(q.used()->id, sent[0].head);
}

TEST(vhostQueueWrapsAt65535) {
  for (const bool eventIndex : {true, false}) {
    QueueFixture q({.size = 4, .eventIndex = eventIndex});
    uint32_t wrong = 0;
    for (int i = 0; i < 70'000; i++) {
      const auto sent = q.send(24);
      q.publish();
      const auto taken = q.take();
      if (taken.size() != 1 || !q.answer(taken[0], 8))
        wrong++;
      const auto used = q.used();
      if (!used || used->id != sent.head || used->length != 24)
        wrong++;
      if (q.replyOf(sent).unique != sent.unique)
        wrong++;
      q.driver.free(sent.head);
      q.guest.space.release(sent.request, 56);
      q.guest.space.release(sent.reply, 24);
    }
    CHECK_EQ(wrong, 0u);
    CHECK_EQ(q.brokenBecause.size(), 0u);
  }
}

TEST(vhostQueueStartsAtItsBase) {
  // The next is entry 3; the driver put four more in front of it.
  QueueFixture q({.size = 8, .base = 3});
  CHECK(q.run->resumed());
  std::vector<QueueFixture::Sent> sent;
  for (int i = 0; i < 4; i++)
    sent.push_back(q.send());
  q.publish();
  const auto taken = q.take();
  CHECK_EQ(taken.size(), 1u);
  CHECK_EQ(taken.at(0), sent[3].head);
  CHECK(q.answer(taken[0], 8));
  CHECK_EQ(q.run->close(), 4);
}

TEST(vhostQueueSignalsAsTheGuestWishesByEventIndex) {
  QueueFixture q({.eventIndex = true});
  CHECK(q.driver.enableInterrupts());
  const auto taken = q.sendAndTake(4).taken;
  // The first after a start always signals: what the guest heard before is
  // not known.
  CHECK(q.answer(taken[0], 8));
  CHECK_EQ(QueueFixture::count(q.call), 1u);
  // It did not ask again.
  CHECK(q.answer(taken[1], 8));
  CHECK_EQ(QueueFixture::count(q.call), 0u);
  q.used();
  q.used();
  CHECK(q.driver.enableInterrupts());
  CHECK(q.answer(taken[2], 8));
  CHECK_EQ(QueueFixture::count(q.call), 1u);
  q.used();
  // It looks for itself now.
  CHECK(q.driver.enableInterrupts());
  q.driver.disableInterrupts();
  CHECK(q.answer(taken[3], 8));
  CHECK_EQ(QueueFixture::count(q.call), 0u);
}

TEST(vhostQueueSignalsOncePerBatch) {
  QueueFixture q({.eventIndex = true});
  const auto taken = q.takeAndRefuse(4);
  q.run->finish(taken);
  CHECK_EQ(QueueFixture::count(q.call), 1u);
  CHECK_EQ(q.counters.interrupts.get(), 1u);
}

// What is given back is there for a guest that looks; one that sleeps hears of
// it when its lane says so.
TEST(vhostQueueTellsWhenItIsToldTo) {
  QueueFixture q({.eventIndex = true});
  const auto taken = q.takeAndRefuse(4);
  q.run->publish(std::span(taken).first(1));
  q.run->publish(std::span(taken).subspan(1, 2));
  CHECK_EQ(QueueFixture::count(q.call), 0u);
  for (int i = 0; i < 3; i++)
    CHECK(q.used().has_value());
  CHECK(q.driver.enableInterrupts());
  q.run->publish(std::span(taken).subspan(3));
  q.run->tell();
  CHECK_EQ(QueueFixture::count(q.call), 1u);
  q.run->tell();
  CHECK_EQ(q.counters.interrupts.get(), 1u);
}

TEST(vhostQueueSaysHowManyRequestsWait) {
  QueueFixture q({.size = 128});
  for (int i = 0; i < 20; i++)
    q.send();
  q.publish();
  const auto taken = q.take();
  CHECK_EQ(taken.size(), 8u);
  CHECK_EQ(q.run->claim(taken), 255u);
  CHECK_EQ(q.run->publish(taken), 12u);
  q.run->beginStop();
  CHECK_EQ(q.run->publish({}), 0u);
}

// A guest may hear of a batch later: when the lane has nothing to do at the
// latest.
TEST(vhostQueueTellsOfBatchesBeforeItsLaneRests) {
  const std::vector<std::function<void(QueueRun&)>> rests = {
      [](QueueRun& run) { run.beginPoll(); },
      [](QueueRun& run) { CHECK(!run.arm()); },
      [](QueueRun& run) { run.setEnabled(false); },
      [](QueueRun& run) { run.beginStop(); },
      [](QueueRun& run) { run.close(); },
  };
  for (const auto& rest : rests) {
    QueueFixture q({.eventIndex = true});
    const auto taken = q.takeAndRefuse(4);
    q.run->publish(taken);
    CHECK_EQ(QueueFixture::count(q.call), 0u);
    rest(*q.run);
    CHECK_EQ(QueueFixture::count(q.call), 1u);
    for (size_t i = 0; i < taken.size(); i++)
      CHECK(q.used().has_value());
    // Not twice of the same.
    CHECK(q.driver.enableInterrupts());
    q.run->beginPoll();
    q.run->endPoll();
    CHECK_EQ(QueueFixture::count(q.call), 0u);
  }
}

TEST(vhostQueueSignalsAsTheGuestWishesByFlags) {
  QueueFixture q({.eventIndex = false});
  q.driver.disableInterrupts();
  const auto taken = q.sendAndTake(2).taken;
  CHECK(q.answer(taken[0], 8));
  CHECK_EQ(QueueFixture::count(q.call), 0u);
  q.used();
  CHECK(q.driver.enableInterrupts());
  CHECK(q.answer(taken[1], 8));
  CHECK_EQ(QueueFixture::count(q.call), 1u);
}

TEST(vhostQueueAsksForKicksOnlyBeforeItSleeps) {
  for (const bool eventIndex : {true, false}) {
    QueueFixture q({.eventIndex = eventIndex});
    CHECK(!q.run->arm());
    q.send();
    CHECK(q.publish());
    // Something came in the meantime: do not sleep.
    CHECK(q.run->arm());
    q.run->disarm();
    CHECK_EQ(q.take().size(), 1u);
    q.send();
    CHECK(!q.publish());
    CHECK_EQ(q.take().size(), 1u);
    CHECK(!q.run->arm());
    q.send();
    CHECK(q.publish());
  }
}

TEST(vhostQueuePollSeesNewRequests) {
  QueueFixture q({});
  q.run->beginPoll();
  CHECK(!q.run->pollReady());
  q.send();
  q.publish();
  CHECK(q.run->pollReady());
  q.run->endPoll();
  CHECK(!q.run->pollReady());
  q.run->setEnabled(false);
  q.run->beginPoll();
  CHECK(!q.run->pollReady());
  CHECK_EQ(q.take().size(), 0u);
  q.run->setEnabled(true);
  CHECK_EQ(q.take().size(), 1u);
}

TEST(vhostQueueDrains) {
  QueueFixture q({});
  q.send();
  q.send();
  q.publish();
  const auto taken = q.take(1);
  q.run->beginStop();
  CHECK_EQ(q.take().size(), 0u);
  CHECK(!q.run->waitIdle(milliseconds(1)));
  std::thread answerer([&] { q.answer(taken[0], 8); });
  CHECK(q.run->waitIdle(test::kPatience));
  answerer.join();
  // The second was never taken: it is next.
  CHECK_EQ(q.run->close(), 1);
  CHECK(!q.answer(taken[0], 8));
}

TEST(vhostQueueFailsWhatIsOpen) {
  QueueFixture q({});
  const auto [sent, taken] = q.sendAndTake(2);
  const uint32_t second = taken[1];
  CHECK_EQ(q.run->claim({&second, 1}), 1u);
  q.run->beginStop();
  // The claimed one belongs to the thread that answers it.
  CHECK_EQ(q.run->failOpen(), 1u);
  // The guest is told.
  CHECK_EQ(QueueFixture::count(q.call), 1u);
  CHECK_EQ(q.used()->id, sent[0].head);
  CHECK_EQ(q.replyOf(sent[0]).error, -EIO);
  CHECK_EQ(q.replyOf(sent[0]).unique, sent[0].unique);
  CHECK(!q.used().has_value());
  q.run->write(second, 0, {});
  q.run->finish({&second, 1});
  CHECK_EQ(q.used()->id, sent[1].head);
  CHECK(q.run->waitIdle(milliseconds(0)));
}

TEST(vhostQueueDropsAnswersAfterItsEnd) {
  QueueFixture q({});
  const auto [sent, taken] = q.sendAndTake(2);
  const uint32_t first = taken[0];
  CHECK_EQ(q.run->claim({&first, 1}), 1u);
  q.run->close();
  // It was being answered: its memory is still there, the guest hears nothing.
  CHECK(q.run->write(first, 0, {}));
  q.run->finish({&first, 1});
  CHECK(!q.answer(taken[1], 8));
  CHECK(!q.used().has_value());
  CHECK_EQ(q.replyOf(sent[1]).unique, 0u);
  CHECK_EQ(q.replyOf(sent[0]).unique, sent[0].unique);
}

TEST(vhostQueueLogsWhatItWrites) {
  QueueFixture q({});
  const UniqueFd file(::memfd_create("log", MFD_CLOEXEC));
  CHECK(::ftruncate(file.get(), 4096) == 0);
  const auto log = DirtyLog::map(4096, 0, UniqueFd(::dup(file.get())), 0);
  q.run->setLog(*log);
  q.run->setUsedLog(true, q.driver.used());
  const auto sent = q.send(16 + 8192);
  q.publish();
  CHECK(q.answer(q.take().at(0), 4096));
  const auto dirty = [&](uint64_t gpa) {
    uint8_t byte = 0;
    CHECK(::pread(file.get(), &byte, 1, static_cast<off_t>(gpa >> 15)) == 1);
    return (byte >> ((gpa >> 12) & 7) & 1) != 0;
  };
  CHECK(dirty(sent.reply));
  CHECK(dirty(sent.reply + 16 + 4095));
  // What was not written is not dirty.
  CHECK(!dirty(sent.reply + 2 * 4096 + 16));
  CHECK(dirty(q.driver.used()));
}

TEST(vhostQueueMovesToAnotherTable) {
  QueueFixture q({});
  const auto [sent, taken] = q.sendAndTake(1);
  // The same regions, mapped again.
  GuestMemory::Regions regions;
  for (const auto& old : q.memory->regions()) {
    regions.push_back(*GuestRegion::map(
        old->spec(), UniqueFd(::dup(q.guest.space.fileFd(0)))));
  }
  const std::weak_ptr<const GuestMemory> before = q.memory;
  q.run->setMemory(*GuestMemory::make(std::move(regions)));
  q.memory.reset();
  q.setup.memory.reset();
  // The request in flight holds the old one.
  CHECK(!before.expired());
  CHECK(q.answer(taken[0], 8));
  CHECK_EQ(q.used()->id, sent[0].head);
  CHECK(before.expired());
  CHECK(q.answer(q.sendAndTake(1).taken.at(0), 8));
}

TEST(vhostQueueBreaksWhenItsMemoryGoes) {
  QueueFixture q({});
  const auto taken = q.sendAndTake(1).taken;
  q.run->setMemory(std::make_shared<GuestMemory>());
  CHECK(q.run->broken());
  CHECK_EQ(q.brokenBecause.size(), 1u);
  CHECK_EQ(QueueFixture::count(q.error), 1u);
  CHECK_EQ(q.take().size(), 0u);
  // The used ring is gone: the answer goes nowhere, and hurts nobody.
  CHECK(q.answer(taken[0], 8));
  CHECK(q.run->waitIdle(milliseconds(0)));
}

}  // namespace
}  // namespace nydus
