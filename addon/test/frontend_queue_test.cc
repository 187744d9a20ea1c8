// The test front-end against a device made by hand: what it sends, what it
// believes, and what it notices.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "fuse/abi.h"
#include "test/check.h"
#include "test/frontend/bench.h"
#include "test/frontend/fuse_queue.h"
#include "test/frontend/latency.h"
#include "test/frontend/reaper.h"

namespace nydus::frontend {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// Two regions that touch, of two files, and one far away.
struct Guest {
  explicit Guest(QueueOptions options)
      : space(16 * kMiB), completions([this] { notified++; }) {
    const size_t low = space.addFile(kMiB);
    const size_t high = space.addFile(4 * kMiB);
    space.addRegion(low, 0, kMiB, 0);
    space.addRegion(high, kMiB, kMiB, 3 * kMiB);
    space.addRegion(high, 8 * kMiB, kMiB, 0);
    queue = std::make_unique<FuseQueue>(space, options, completions);
  }

  uint16_t load16(uint64_t gpa) const {
    uint16_t value;
    std::memcpy(&value, space.host(gpa), sizeof value);
    return value;
  }
  void store16(uint64_t gpa, uint16_t value) {
    std::memcpy(space.host(gpa), &value, sizeof value);
  }
  RingDescriptor descriptor(uint64_t table, uint16_t index) const {
    RingDescriptor out;
    std::memcpy(&out, space.host(table + sizeof out * index), sizeof out);
    return out;
  }

  // Requests that the driver has made available and the device not taken.
  uint16_t offered() const {
    return static_cast<uint16_t>(load16(queue->ring().avail() + 2) - taken);
  }
  // The next chain's head and descriptors, as a device sees them.
  uint16_t take(std::vector<RingDescriptor>& chain) {
    const DriverRing& ring = queue->ring();
    const uint16_t head =
        load16(ring.avail() + 4 + 2 * (taken++ % ring.size()));
    RingDescriptor at = descriptor(ring.descriptors(), head);
    uint64_t table = ring.descriptors();
    if (at.flags == kDescriptorIndirect) {
      table = at.address;
      at = descriptor(table, 0);
    }
    chain = {at};
    while ((at.flags & kDescriptorNext) != 0) {
      at = descriptor(table, at.next);
      chain.push_back(at);
    }
    return head;
  }
  void give(uint32_t head, uint32_t length) {
    const DriverRing& ring = queue->ring();
    const UsedElement element = {head, length};
    const uint16_t index = load16(ring.used() + 2);
    std::memcpy(space.host(ring.used() + 4 + 8 * (index % ring.size())),
                &element, sizeof element);
    store16(ring.used() + 2, static_cast<uint16_t>(index + 1));
  }
  // Answers the next request with this header and a body of `body` bytes 'x'.
  void answer(OutHeader header, uint32_t body, uint32_t used) {
    std::vector<RingDescriptor> chain;
    const uint16_t head = take(chain);
    size_t at = 0;
    while ((chain[at].flags & kDescriptorWrite) == 0) {
      at++;
    }
    InHeader in;
    std::memcpy(&in, space.host(chain[0].address), sizeof in);
    header.unique += in.unique;
    std::memcpy(space.host(chain[at].address), &header, sizeof header);
    for (at++; at < chain.size() && body > 0; at++) {
      const uint32_t n = std::min(body, chain[at].length);
      std::memset(space.host(chain[at].address), 'x', n);
      body -= n;
    }
    give(head, used);
  }

  GuestSpace space;
  int notified = 0;
  Completions completions;
  std::unique_ptr<FuseQueue> queue;
  uint16_t taken = 0;
};

Request request(uint64_t unique, uint32_t capacity, bool pages = false) {
  Request out;
  out.unique = unique;
  out.nodeid = 7;
  out.opcode = FUSE_READ;
  out.arguments = {std::vector<std::byte>(40), std::vector<std::byte>(5)};
  out.replyCapacity = capacity;
  out.pages = pages;
  return out;
}

TEST(frontend_makes_chains_as_linux_does) {
  Guest guest({});
  CHECK(guest.queue->submit(request(2, 10000, true)));
  CHECK_EQ(guest.offered(), 1);
  std::vector<RingDescriptor> chain;
  guest.take(chain);
  CHECK_EQ(chain.size(), 7u);
  const uint32_t lengths[] = {40, 40, 5, 16, 4096, 4096, 1808};
  for (size_t i = 0; i < chain.size(); i++) {
    CHECK_EQ(chain[i].length, lengths[i]);
    CHECK_EQ((chain[i].flags & kDescriptorWrite) != 0, i >= 3);
  }
  for (size_t i = 5; i < 7; i++) {
    CHECK(chain[i].address != chain[i - 1].address + chain[i - 1].length);
  }
  InHeader header;
  std::memcpy(&header, guest.space.host(chain[0].address), sizeof header);
  CHECK_EQ(header.len, 85u);
  CHECK_EQ(header.nodeid, 7u);

  Request forget = request(4, 0);
  forget.replies = false;
  CHECK(guest.queue->submit(forget));
  const uint16_t head = guest.take(chain);
  CHECK_EQ(chain.size(), 1u);
  CHECK_EQ(chain[0].length, 85u);
  CHECK_EQ(chain[0].flags, 0);
  guest.give(head, 0);
  guest.queue->reap();
  CHECK_EQ(guest.completions.take().size(), 1u);
}

TEST(frontend_believes_good_replies_only) {
  struct Row {
    OutHeader header;
    uint32_t body;
    uint32_t used;
    const char* problem;
  };
  // `unique` is added to the right one.
  const Row rows[] = {
      {{26, 0, 0}, 10, 26, ""},
      {{16, 0, 0}, 0, 16, ""},
      {{16, -2, 0}, 0, 16, ""},
      {{26, 0, 0}, 10, 0, "the request was dropped: used.len is 0"},
      {{26, 0, 0}, 10, 27, "used.len is 27, the reply's length 26"},
      {{26, 0, 0},
       10,
       5017,
       "used.len 5017 is more than the 5016 bytes that were writable"},
      {{26, 0, 2}, 10, 26, "the reply is for unique 4, the request was 2"},
      {{5017, 0, 0},
       10,
       5016,
       "the reply's length 5017 is not between 16 and 5016"},
      {{8, 0, 0}, 0, 16, "the reply's length 8 is not between 16 and 5016"},
      {{16, 5, 0}, 0, 16, "the reply's error 5 is no -errno"},
      {{16, -512, 0}, 0, 16, "the reply's error -512 is no -errno"},
      {{26, -5, 0}, 10, 26, "an error reply has a body"},
  };
  for (const Row& row : rows) {
    Guest guest({});
    CHECK(guest.queue->submit(request(2, 5000, true)));
    guest.answer(row.header, row.body, row.used);
    guest.queue->reap();
    const auto done = guest.completions.take();
    CHECK_EQ(done.size(), 1u);
    if (done.size() != 1) {
      continue;
    }
    CHECK_EQ(done[0].unique, 2u);
    if (done[0].problem != row.problem) {
      test::fail(__FILE__, __LINE__, done[0].problem);
    }
    if (done[0].problem.empty()) {
      CHECK_EQ(done[0].error, row.header.error);
      CHECK_EQ(done[0].body.size(), row.body);
      for (const std::byte byte : done[0].body) {
        CHECK(byte == std::byte{'x'});
      }
    }
  }
}

TEST(frontend_goes_on_for_ever) {
  for (const bool indirect : {true, false}) {
    QueueOptions options;
    options.size = 16;
    options.indirect = indirect;
    Guest guest(options);
    // More than the 16-bit indexes hold; two in flight, answered out of order.
    uint64_t unique = 0;
    for (int round = 0; round < 35000; round++) {
      CHECK(guest.queue->submit(request(unique += 2, 10)));
      CHECK(guest.queue->submit(request(unique += 2, 10)));
      std::vector<RingDescriptor> one;
      std::vector<RingDescriptor> two;
      const uint16_t first = guest.take(one);
      const uint16_t second = guest.take(two);
      for (const auto* chain : {&two, &one}) {
        InHeader in;
        std::memcpy(&in, guest.space.host((*chain)[0].address), sizeof in);
        const OutHeader out = {16, 0, in.unique};
        std::memcpy(guest.space.host((*chain)[3].address), &out, sizeof out);
        guest.give(chain == &two ? second : first, 16);
      }
      guest.queue->reap();
      const auto done = guest.completions.take();
      CHECK_EQ(done.size(), 2u);
      CHECK(done.size() == 2 && done[0].unique == unique &&
            done[1].unique == unique - 2 && done[1].problem.empty());
      if (test::failures > 0) {
        return;
      }
    }
    CHECK_EQ(guest.queue->inFlight(), 0u);
  }
}

TEST(frontend_says_when_the_ring_or_the_memory_is_full) {
  QueueOptions options;
  options.size = 2;
  Guest guest(options);
  CHECK(guest.queue->submit(request(2, 10)));
  CHECK(guest.queue->submit(request(4, 10)));
  CHECK(!guest.queue->submit(request(6, 10)));
  guest.answer({16, 0, 0}, 0, 16);
  guest.queue->reap();
  CHECK(guest.queue->submit(request(6, 10)));

  Guest small({});
  CHECK(!small.queue->submit(request(2, 4 * kMiB, true)));
  // What the failed one had taken is free again.
  CHECK(small.queue->submit(request(4, 2 * kMiB, true)));
}

TEST(frontend_memory_straddles_regions_that_touch) {
  Guest guest({});
  CHECK(guest.space.covers(kMiB - 10, 20));
  CHECK(!guest.space.covers(2 * kMiB - 10, 20));
  CHECK(!guest.space.covers(~uint64_t{0}, 2));
  CHECK(!guest.space.covers(0, ~uint64_t{0}));
  const auto area = guest.space.allocate(kMiB + kMiB / 2, 4096);
  CHECK(area && *area < kMiB);
  CHECK(!guest.space.allocate(kMiB + kMiB / 2, 4096));
  guest.space.release(*area, kMiB + kMiB / 2);
  CHECK(guest.space.allocate(kMiB + kMiB / 2, 4096) == area);
}

TEST(frontend_keeps_used_elements_that_nobody_asked_for) {
  Guest guest({});
  guest.give(5, 100);
  guest.give(70000, 3);
  guest.queue->reap();
  const auto strays = guest.queue->takeStrays();
  CHECK_EQ(strays.size(), 2u);
  CHECK_EQ(strays[0].id, 5u);
  CHECK_EQ(strays[1].length, 3u);
  CHECK_EQ(guest.queue->takeStrays().size(), 0u);
}

TEST(frontend_kicks_when_the_device_wants_it) {
  QueueOptions options;
  options.eventIdx = false;
  Guest plain(options);
  CHECK(plain.queue->submit(request(2, 10)));
  CHECK_EQ(plain.queue->kicks(), 1u);
  plain.store16(plain.queue->ring().used(), 1);  // VRING_USED_F_NO_NOTIFY
  CHECK(plain.queue->submit(request(4, 10)));
  CHECK_EQ(plain.queue->kicks(), 1u);

  Guest event({});
  DriverRing& ring = event.queue->ring();
  const uint64_t availEvent = ring.used() + 4 + 8 * uint64_t{ring.size()};
  CHECK(event.queue->submit(request(2, 10)));  // index 0: the event is there
  CHECK(event.queue->submit(request(4, 10)));
  CHECK_EQ(event.queue->kicks(), 1u);
  event.store16(availEvent, 3);
  CHECK(event.queue->submit(request(6, 10)));
  CHECK_EQ(event.queue->kicks(), 1u);
  CHECK(event.queue->submit(request(8, 10)));
  CHECK_EQ(event.queue->kicks(), 2u);
}

TEST(frontend_asks_for_interrupts_and_sees_what_came_before) {
  Guest guest({});
  DriverRing& ring = guest.queue->ring();
  CHECK(ring.enableInterrupts());
  guest.give(1, 0);
  CHECK(!ring.enableInterrupts());
  CHECK(ring.pop().has_value());
  CHECK(ring.enableInterrupts());
  // used_event: the index whose element shall interrupt.
  CHECK_EQ(guest.load16(ring.avail() + 4 + 2 * uint64_t{ring.size()}), 1);
}

TEST(frontend_waits_for_one_answer_on_this_thread) {
  Guest guest({});
  const Reaper reaper({guest.queue.get()});
  guest.completions.expect(2);
  CHECK(guest.queue->submit(request(2, 10)));
  CHECK(!guest.completions.wait(2, std::chrono::milliseconds(1)));
  guest.completions.expect(4);
  CHECK(guest.queue->submit(request(4, 10)));
  guest.answer({16, 0, 0}, 0, 16);
  guest.answer({16, -5, 0}, 0, 16);
  const uint64_t one = 1;
  CHECK(::write(guest.queue->callFd(), &one, sizeof one) == sizeof one);
  const auto got = guest.completions.wait(4, std::chrono::seconds(10));
  CHECK(got && got->error == -5);
  // The one that was waited for in vain goes the other way.
  CHECK_EQ(guest.completions.take().size(), 1u);
  CHECK_EQ(guest.notified, 1);
  CHECK_EQ(guest.queue->interrupts(), 1u);
}

TEST(frontend_load_notices_a_device_that_fails) {
  Guest guest({});
  BenchOptions options;
  options.kind = BenchKind::kGetattr;
  options.depth = 4;
  options.poll = true;
  options.maxOps = 1000;
  options.seconds = 60;
  options.targets = {{1, 0, 0, ""}};
  std::jthread device([&](const std::stop_token& stop) {
    uint32_t n = 0;
    while (!stop.stop_requested()) {
      if (std::atomic_thread_fence(std::memory_order_seq_cst);
          guest.offered() == 0) {
        std::this_thread::yield();
        continue;
      }
      n++;
      // Every 10th is an error, every 100th has a wrong used.len.
      guest.answer({n % 10 == 0 ? 16u : 120u, n % 10 == 0 ? -5 : 0, 0}, 104,
                   n % 10 == 0    ? 16
                   : n % 100 == 1 ? 119
                                  : 120);
    }
  });
  const BenchResult result =
      runBench(guest.space, {guest.queue.get()}, options);
  CHECK(result.problem.empty());
  CHECK(result.ops >= 1000 && result.ops < 1010);
  CHECK_EQ(result.errors, result.ops / 10);
  CHECK(result.wrongUsedLengths >= 10 && result.wrongUsedLengths <= 11);
  CHECK_EQ(guest.queue->ring().freeDescriptors(), 128);
}

TEST(frontend_histogram_is_3_percent_exact) {
  LatencyHistogram histogram;
  for (uint64_t i = 1; i <= 100000; i++) {
    histogram.add(i * 10);
  }
  for (const double fraction : {0.5, 0.9, 0.99, 0.999}) {
    const double exact = fraction * 1e6;
    const auto got = static_cast<double>(histogram.quantile(fraction));
    CHECK(got > exact * 0.96 && got <= exact * 1.01);
  }
  CHECK_EQ(LatencyHistogram().quantile(0.5), 0u);
}

}  // namespace
}  // namespace nydus::frontend
