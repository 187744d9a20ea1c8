// Requests that wait for their data: completed by any thread, once, and never
// in the way of others.
#include <sys/mman.h>

#include <mutex>
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
  // Waits until `count` requests were handed over.
  std::vector<uint64_t> tickets(Machine& machine, size_t count) {
    CHECK(test::eventually(
        [&] { return machine.device->service().deferred().size() >= count; }));
    const std::lock_guard lock(lock_);
    return std::exchange(tickets_, {});
  }

  uint32_t file;

 private:
  UniqueFd fd_;
  std::mutex lock_;
  std::vector<uint64_t> tickets_;
};

bool complete(Machine& machine,
              uint64_t ticket,
              int32_t status = 0,
              std::vector<Extent> extents = {}) {
  return machine.device->service().completeDeferred(ticket, status, extents);
}

TEST(fuseDeferredRequestsDoNotHoldUpOthers) {
  Yard yard;
  Machine machine(yard.handler());
  Vm vm(machine);
  vm.startRings();
  CHECK_EQ(vm.init(), 0);
  const uint64_t cold = vm.read(0x1200, 512);
  const auto tickets = yard.tickets(machine, 1);
  CHECK_EQ(tickets.size(), 1u);
  for (int i = 0; i < 100; i++)
    CHECK_EQ(vm.getattr(), 0);
  CHECK(complete(machine, tickets.at(0)));
  const auto done = vm.await(cold);
  CHECK(done && done->error == 0 && done->body.size() == 512);
  CHECK(done && done->body[0] == std::byte{0x12} &&
        done->body[511] == std::byte{0x13});
  CHECK_EQ(machine.device->service().deferred().size(), 0u);
}

TEST(fuseDeferredRequestsEndOnce) {
  Yard yard;
  Machine machine(yard.handler());
  Vm vm(machine);
  vm.startRings();
  CHECK_EQ(vm.init(), 0);
  const uint64_t a = vm.read(0, 100);
  const uint64_t b = vm.read(0, 100);
  const uint64_t c = vm.read(0, 100);
  const uint64_t d = vm.read(0, 100);
  const auto tickets = yard.tickets(machine, 4);
  CHECK_EQ(tickets.size(), 4u);
  // Other extents than the lane thought, an errno, and a file that is not.
  CHECK(complete(machine, tickets.at(3), 0,
                 {{yard.file, 50, 0xff00}, {kFileZero, 7, 0}}));
  CHECK(complete(machine, tickets.at(1), -ETIMEDOUT));
  CHECK(complete(machine, tickets.at(2), 0, {{99999, 1, 0}}));
  CHECK(complete(machine, tickets.at(0), 0, {{kFileArena, 1, 0}}));
  for (const uint64_t ticket : tickets)
    CHECK(!complete(machine, ticket));
  CHECK(!complete(machine, 0));
  CHECK(!complete(machine, ~uint64_t{0}));
  const auto last = vm.await(d);
  CHECK(last && last->body.size() == 57 && last->body[49] == std::byte{0xff} &&
        last->body[50] == std::byte{0});
  CHECK_EQ(vm.errorOf(b), -ETIMEDOUT);
  CHECK_EQ(vm.errorOf(c), -EIO);
  CHECK_EQ(vm.errorOf(a), -EIO);
}

TEST(fuseDeferredRequestsFromManyThreads) {
  Yard yard;
  Machine machine(yard.handler());
  Vm vm(machine, Vm::Options{.size = 256});
  vm.startRings();
  CHECK_EQ(vm.init(), 0);
  std::mt19937 random(7);
  for (int round = 0; round < 20; round++) {
    std::vector<std::pair<uint64_t, uint64_t>> reads;
    for (int i = 0; i < 60; i++) {
      const uint64_t offset = random() % 60'000;
      reads.emplace_back(vm.read(offset, 300), offset);
    }
    auto tickets = yard.tickets(machine, 60);
    std::shuffle(tickets.begin(), tickets.end(), random);
    std::atomic<size_t> next{0};
    std::atomic<int> completed{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; t++) {
      threads.emplace_back([&] {
        // Every ticket is tried by two threads.
        for (size_t i = next++; i < 2 * tickets.size(); i = next++) {
          completed += complete(machine, tickets[i / 2]) ? 1 : 0;
        }
      });
    }
    for (std::thread& thread : threads)
      thread.join();
    CHECK_EQ(completed.load(), 60);
    for (const auto& [unique, offset] : reads) {
      const auto done = vm.await(unique);
      CHECK(done && done->body.size() == 300);
      CHECK(done && done->body[0] == static_cast<std::byte>(offset >> 8));
    }
  }
}

TEST(fuseDeferredRequestsEndWithTheirRing) {
  Yard yard;
  Machine machine(Machine::Options{.drainLimit = std::chrono::milliseconds(50)},
                  yard.handler());
  Vm vm(machine);
  vm.startRings();
  CHECK_EQ(vm.init(), 0);
  const uint64_t cold = vm.read(0, 100);
  const auto tickets = yard.tickets(machine, 1);
  // The limit passes: EIO, because the guest waits for its buffer.
  CHECK_EQ(vm.stopRing(1).value_or(0), 2u);
  CHECK_EQ(vm.errorOf(cold), -EIO);
  CHECK_EQ(machine.device->service().deferred().size(), 0u);
  CHECK(!complete(machine, tickets.at(0)));
  CHECK(machine.events.wait("ring-stopped").has_value());
}

TEST(fuseDrainWaitsForDeferredRequests) {
  Yard yard;
  Machine machine(yard.handler());
  Vm vm(machine);
  vm.startRings();
  CHECK_EQ(vm.init(), 0);
  const uint64_t cold = vm.read(0, 100);
  const auto tickets = yard.tickets(machine, 1);
  vm.peer.send(GET_VRING_BASE, VringState{1, 0});
  CHECK(machine.events.wait("ring-stopping").has_value());
  CHECK(complete(machine, tickets.at(0)));
  const auto reply = vm.peer.receive();
  CHECK(reply && loadLe<VringState>(reply->payload.data()).num == 2);
  CHECK_EQ(vm.errorOf(cold), 0);
}

TEST(fuseDeferredRequestsGoWithTheFrontEnd) {
  Yard yard;
  Machine machine(yard.handler());
  std::vector<uint64_t> tickets;
  {
    Vm vm(machine);
    vm.startRings();
    CHECK_EQ(vm.init(), 0);
    vm.read(0, 100);
    vm.read(0, 100);
    tickets = yard.tickets(machine, 2);
  }
  CHECK(machine.events.wait("disconnected").has_value());
  CHECK_EQ(machine.device->service().deferred().size(), 0u);
  for (const uint64_t ticket : tickets)
    CHECK(!complete(machine, ticket));
}

TEST(fuseDeviceThatStopsAnswersWhatIsDeferred) {
  Yard yard;
  Machine machine(yard.handler());
  Vm vm(machine);
  vm.startRings();
  CHECK_EQ(vm.init(), 0);
  const uint64_t cold = vm.read(0, 100);
  const auto tickets = yard.tickets(machine, 1);
  machine.device->stop();
  CHECK_EQ(vm.errorOf(cold), -EIO);
  CHECK(!complete(machine, tickets.at(0)));
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
