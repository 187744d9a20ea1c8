// Requests that wait for their data: completed by any thread, once, and never
// in the way of others.
#include <sys/mman.h>

#include <mutex>
#include <optional>
#include <random>
#include <set>

#include "sys/file_registry.h"
#include "test/vm_fixture.h"

namespace nydus {
namespace {

using test::LaneMemory;
using test::Machine;
using test::Vm;

// Defers every READ, and remembers the tickets.
class Yard {
 public:
  Yard() : fd_(::memfd_create("cache", MFD_CLOEXEC)) {
    std::vector<std::byte> bytes(64 << 10);
    for (size_t i = 0; i < bytes.size(); i++) {
      bytes[i] = static_cast<std::byte>(i >> 8);
    }
    CHECK(::write(fd_.get(), bytes.data(), bytes.size()) > 0);
    file = FileRegistry::process().add(fd_.get(), bytes.size());
  }
  ~Yard() { FileRegistry::process().release(file); }

  [[nodiscard]] test::LaneThread::Handler handler() {
    return [this](const LaneMemory& memory, size_t i) {
      if (memory.slot(i).opcode != FUSE_READ) {
        test::answerPlainly(memory, i);
        return;
      }
      memory.answerExtents(
          i, {{file, memory.slot(i).size, memory.slot(i).offset}});
      memory.slot(i).kind = kReplyDeferred;
      const std::lock_guard lock(lock_);
      tickets_.push_back(static_cast<uint64_t>(memory.slot(i).ticket));
    };
  }
  // Those that are here; then they are forgotten.
  std::vector<uint64_t> takeTickets() {
    const std::lock_guard lock(lock_);
    return std::exchange(tickets_, {});
  }

  uint32_t file;

 private:
  UniqueFd fd_;
  std::mutex lock_;
  std::vector<uint64_t> tickets_;
};

// A guest that has mounted, and whose reads wait.
struct Mounted {
  explicit Mounted(const Machine::Options& options = {},
                   const Vm::Options& guest = {})
      : machine(options, yard.handler()) {
    vm.emplace(machine, guest);
    vm->mount();
  }
  // Waits until `count` requests were handed over.
  std::vector<uint64_t> tickets(size_t count) {
    CHECK(test::eventually([&] { return deferred() >= count; }));
    return yard.takeTickets();
  }
  [[nodiscard]] size_t deferred() const {
    return machine.device->service().deferred().size();
  }
  bool complete(uint64_t ticket,
                int32_t status = 0,
                std::vector<Extent> extents = {}) {
    return machine.device->service().completeDeferred(ticket, status, extents);
  }

  Yard yard;
  Machine machine;
  std::optional<Vm> vm;
};

TEST(fuseDeferredRequestsDoNotHoldUpOthers) {
  Mounted m;
  const uint64_t cold = m.vm->read(0x1200, 512);
  const auto tickets = m.tickets(1);
  CHECK_EQ(tickets.size(), 1u);
  for (int i = 0; i < 100; i++)
    CHECK_EQ(m.vm->getattr(), 0);
  CHECK(m.complete(tickets.at(0)));
  const auto done = m.vm->await(cold);
  CHECK(done && done->error == 0 && done->body.size() == 512);
  CHECK(done && done->body[0] == std::byte{0x12} &&
        done->body[511] == std::byte{0x13});
  CHECK_EQ(m.deferred(), 0u);
}

TEST(fuseDeferredRequestsEndOnce) {
  Mounted m;
  const uint64_t a = m.vm->read(0, 100);
  const uint64_t b = m.vm->read(0, 100);
  const uint64_t c = m.vm->read(0, 100);
  const uint64_t d = m.vm->read(0, 100);
  const auto tickets = m.tickets(4);
  CHECK_EQ(tickets.size(), 4u);
  // Other extents than the lane thought, an errno, and a file that is not.
  CHECK(m.complete(tickets.at(3), 0,
                   {{m.yard.file, 50, 0xff00}, {kFileZero, 7, 0}}));
  CHECK(m.complete(tickets.at(1), -ETIMEDOUT));
  CHECK(m.complete(tickets.at(2), 0, {{99999, 1, 0}}));
  CHECK(m.complete(tickets.at(0), 0, {{kFileArena, 1, 0}}));
  for (const uint64_t ticket : tickets)
    CHECK(!m.complete(ticket));
  CHECK(!m.complete(0));
  CHECK(!m.complete(~uint64_t{0}));
  const auto last = m.vm->await(d);
  CHECK(last && last->body.size() == 57 && last->body[49] == std::byte{0xff} &&
        last->body[50] == std::byte{0});
  CHECK_EQ(m.vm->errorOf(b), -ETIMEDOUT);
  CHECK_EQ(m.vm->errorOf(c), -EIO);
  CHECK_EQ(m.vm->errorOf(a), -EIO);
}

TEST(fuseDeferredRequestsFromManyThreads) {
  Mounted m({}, {.size = 256});
  std::mt19937 random(7);
  for (int round = 0; round < 20; round++) {
    std::vector<std::pair<uint64_t, uint64_t>> reads;
    for (int i = 0; i < 60; i++) {
      const uint64_t offset = random() % 60'000;
      reads.emplace_back(m.vm->read(offset, 300), offset);
    }
    auto tickets = m.tickets(60);
    std::shuffle(tickets.begin(), tickets.end(), random);
    std::atomic<size_t> next{0};
    std::atomic<int> completed{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; t++) {
      threads.emplace_back([&] {
        // Every ticket is tried by two threads.
        for (size_t i = next++; i < 2 * tickets.size(); i = next++) {
          completed += m.complete(tickets[i / 2]) ? 1 : 0;
        }
      });
    }
    for (std::thread& thread : threads)
      thread.join();
    CHECK_EQ(completed.load(), 60);
    for (const auto& [unique, offset] : reads) {
      const auto done = m.vm->await(unique);
      CHECK(done && done->body.size() == 300);
      CHECK(done && done->body[0] == static_cast<std::byte>(offset >> 8));
    }
  }
}

TEST(fuseDeferredRequestsEndWithTheirRing) {
  Mounted m({.drainLimit = std::chrono::milliseconds(50)});
  const uint64_t cold = m.vm->read(0, 100);
  const auto tickets = m.tickets(1);
  // The limit passes: EIO, because the guest waits for its buffer.
  CHECK_EQ(m.vm->stopRing(1).value_or(0), 2u);
  CHECK_EQ(m.vm->errorOf(cold), -EIO);
  CHECK_EQ(m.deferred(), 0u);
  CHECK(!m.complete(tickets.at(0)));
  CHECK(m.machine.events.wait("ring-stopped").has_value());
}

TEST(fuseDrainWaitsForDeferredRequests) {
  Mounted m;
  const uint64_t cold = m.vm->read(0, 100);
  const auto tickets = m.tickets(1);
  m.vm->peer.send(GET_VRING_BASE, VringState{1, 0});
  CHECK(m.machine.events.wait("ring-stopping").has_value());
  CHECK(m.complete(tickets.at(0)));
  const auto reply = m.vm->peer.receive();
  CHECK(reply && loadLe<VringState>(reply->payload.data()).num == 2);
  CHECK_EQ(m.vm->errorOf(cold), 0);
}

TEST(fuseDeferredRequestsGoWithTheFrontEnd) {
  Mounted m;
  m.vm->read(0, 100);
  m.vm->read(0, 100);
  const auto tickets = m.tickets(2);
  m.vm.reset();
  CHECK(m.machine.events.wait("disconnected").has_value());
  CHECK_EQ(m.deferred(), 0u);
  for (const uint64_t ticket : tickets)
    CHECK(!m.complete(ticket));
}

TEST(fuseDeviceThatStopsAnswersWhatIsDeferred) {
  Mounted m;
  const uint64_t cold = m.vm->read(0, 100);
  const auto tickets = m.tickets(1);
  m.machine.device->stop();
  CHECK_EQ(m.vm->errorOf(cold), -EIO);
  CHECK(!m.complete(tickets.at(0)));
}

TEST(fuseDeferredTableIsBounded) {
  DeferredTable table;
  for (uint64_t i = 0; i < DeferredTable::kMax; i++) {
    CHECK(table.add(i, Deferred()));
  }
  CHECK(!table.add(DeferredTable::kMax, Deferred()));
  CHECK(table.remove(7).has_value());
  CHECK(!table.remove(7).has_value());
  CHECK(table.add(DeferredTable::kMax, Deferred()));
}

}  // namespace
}  // namespace nydus
