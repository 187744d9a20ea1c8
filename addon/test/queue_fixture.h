// A running virtqueue without a device around it: the test is the guest, the
// lane and the control thread.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuse/abi.h"
#include "test/check.h"
#include "test/frontend/driver_ring.h"
#include "test/vhost_peer.h"
#include "vhost/queue_run.h"

namespace nydus::test {

class QueueFixture : public QueueOwner {
 public:
  struct Options {
    uint16_t size = 8;
    uint16_t base = 0;
    bool eventIndex = true;
    bool indirect = true;
    std::shared_ptr<InflightArea> inflight;
  };

  explicit QueueFixture(const Options& options)
      : driver(guest.space, options.size, options.eventIndex) {
    GuestMemory::Regions regions;
    for (const RegionSpec& spec :
         {guest.region(0, TestGuest::kLowEnd),
          guest.region(TestGuest::kHighStart,
                       TestGuest::kSize - TestGuest::kHighStart)}) {
      auto region =
          GuestRegion::map(spec, UniqueFd(::dup(guest.space.fileFd(0))));
      regions.push_back(*region);
    }
    memory = *GuestMemory::make(std::move(regions));
    setup.queue = 1;
    setup.size = options.size;
    setup.base = options.base;
    setup.eventIndex = options.eventIndex;
    setup.indirect = options.indirect;
    setup.enabled = true;
    setup.addresses = {guest.user(driver.descriptors()),
                       guest.user(driver.used()), guest.user(driver.avail()), 0,
                       false};
    setup.memory = memory;
    setup.kick = signalOf(kick);
    setup.call = signalOf(call);
    setup.error = signalOf(error);
    setup.inflight = options.inflight;
    setup.counters = &counters;
    setup.owner = this;
    start();
  }

  void start() {
    auto started = QueueRun::start(setup);
    CHECK(static_cast<bool>(started));
    run = *started;
  }

  void queueBroken(uint32_t, const std::string& reason) override {
    brokenBecause.push_back(reason);
  }

  static PeerSignal::Ptr signalOf(const EventFd& fd) {
    return *PeerSignal::accept(UniqueFd(::dup(fd.get())));
  }
  // Signals since the last look.
  static uint64_t count(const EventFd& fd) {
    uint64_t value = 0;
    return ::read(fd.get(), &value, sizeof value) < 0 ? 0 : value;
  }

  // A GETATTR-like request: header in one buffer, a reply of `reply` bytes.
  struct Sent {
    uint16_t head;
    uint64_t request;
    uint64_t reply;
    uint64_t unique;
  };
  Sent send(uint32_t replyBytes = 120, uint32_t opcode = FUSE_GETATTR) {
    Sent sent{};
    sent.unique = nextUnique += 2;
    sent.request = *guest.space.allocate(56, 8);
    sent.reply = *guest.space.allocate(std::max(replyBytes, 8u), 8);
    InHeader header{};
    header.len = 56;
    header.opcode = opcode;
    header.unique = sent.unique;
    header.nodeid = 1;
    std::memcpy(guest.space.host(sent.request), &header, sizeof header);
    const frontend::Buffer readable{sent.request, 56};
    const frontend::Buffer writable{sent.reply, replyBytes};
    const auto head = driver.add({&readable, 1}, {&writable, 1});
    CHECK(head.has_value());
    sent.head = head.value_or(0);
    driver.expose(sent.head);
    return sent;
  }
  // Returns whether the device wants a kick.
  bool publish() { return driver.publish(); }

  // Takes what is there.
  std::vector<uint32_t> take(size_t max = kBatch) {
    std::vector<Taken> out(max);
    const size_t n = run->take(out);
    std::vector<uint32_t> indices;
    for (size_t i = 0; i < n; i++)
      indices.push_back(out[i].index);
    if (n != 0)
      last = out[n - 1];
    return indices;
  }
  // Requests that the guest sent, and the lane took.
  struct Batch {
    std::vector<Sent> sent;
    std::vector<uint32_t> taken;
  };
  Batch sendAndTake(size_t count) {
    Batch batch;
    for (size_t i = 0; i < count; i++)
      batch.sent.push_back(send());
    publish();
    batch.taken = take();
    CHECK_EQ(batch.taken.size(), count);
    return batch;
  }
  // The same, answered with EIO, but not handed over yet.
  std::vector<uint32_t> takeAndRefuse(size_t count) {
    auto taken = sendAndTake(count).taken;
    CHECK_EQ(run->claim(taken), (1u << count) - 1);
    for (const uint32_t index : taken)
      run->write(index, -EIO, {});
    return taken;
  }
  // Answers with a body of `bytes` bytes of the value `fill`.
  bool answer(uint32_t index, uint32_t bytes, uint8_t fill = 0xab) {
    if (run->claim({&index, 1}) == 0)
      return false;
    const std::vector<std::byte> body(bytes, std::byte{fill});
    Piece piece;
    piece.data = body.data();
    piece.length = bytes;
    const bool ok = run->write(index, 0, {&piece, bytes == 0 ? 0u : 1u});
    run->finish({&index, 1});
    return ok;
  }
  [[nodiscard]] OutHeader replyOf(const Sent& sent) const {
    return loadLe<OutHeader>(guest.space.host(sent.reply));
  }
  std::optional<frontend::UsedElement> used() { return driver.pop(); }

  TestGuest guest;
  frontend::DriverRing driver;
  GuestMemory::Table memory;
  QueueCounters counters;
  EventFd kick;
  EventFd call;
  EventFd error;
  QueueSetup setup;
  std::shared_ptr<QueueRun> run;
  std::vector<std::string> brokenBecause;
  uint64_t nextUnique = 0;
  Taken last{};
};

}  // namespace nydus::test
