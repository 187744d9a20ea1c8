// Lanes as a guest sees them: replies of every kind, right and wrong.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "sys/file_registry.h"
#include "test/vm_fixture.h"

namespace nydus {
namespace {

using test::LaneMemory;
using test::LaneThread;
using test::Machine;
using test::Vm;

// A registered file whose byte i is i * 7 % 251.
struct PatternFile {
  explicit PatternFile(uint64_t size, uint64_t mapped)
      : fd(::memfd_create("file", MFD_CLOEXEC)) {
    std::vector<uint8_t> bytes(size);
    for (size_t i = 0; i < size; i++)
      bytes[i] = at(i);
    CHECK(::write(fd.get(), bytes.data(), size) == static_cast<ssize_t>(size));
    id = FileRegistry::process().add(fd.get(), mapped);
  }
  ~PatternFile() { FileRegistry::process().release(id); }
  static uint8_t at(uint64_t i) { return static_cast<uint8_t>(i * 7 % 251); }
  static bool holds(const std::vector<std::byte>& body,
                    size_t from,
                    uint64_t offset,
                    size_t length) {
    if (body.size() < from + length)
      return false;
    for (size_t i = 0; i < length; i++) {
      if (body[from + i] != std::byte{at(offset + i)})
        return false;
    }
    return true;
  }
  UniqueFd fd;
  uint32_t id;
};

// Answers READs by `reply`, everything else plainly.
LaneThread::Handler answering(LaneThread::Handler reply) {
  return [reply](const LaneMemory& memory, size_t slot) {
    if (memory.slot(slot).opcode == FUSE_READ) {
      reply(memory, slot);
    } else {
      test::answerPlainly(memory, slot);
    }
  };
}

TEST(fuseLaneSendsBytesOfFilesZerosAndArena) {
  const PatternFile file(100'000, 60'000);
  Machine machine(answering([&](const LaneMemory& memory, size_t i) {
    std::memset(memory.arena() + 5, 0x77, 100);
    memory.answerExtents(i, {{file.id, 1000, 17},        // mapped
                             {kFileZero, 500, 1e300},    // a hole
                             {file.id, 3000, 59'000},    // across the end
                             {kFileArena, 100, 5},       //
                             {file.id, 0, 0},            // nothing
                             {file.id, 2000, 90'000}});  // by pread
  }));
  Vm vm(machine);
  vm.mount();
  const auto done = vm.await(vm.read(0, 8192));
  CHECK(done && done->error == 0);
  if (!done)
    return;
  CHECK_EQ(done->body.size(), 6600u);
  CHECK(PatternFile::holds(done->body, 0, 17, 1000));
  CHECK(std::all_of(done->body.begin() + 1000, done->body.begin() + 1500,
                    [](std::byte b) { return b == std::byte{0}; }));
  CHECK(PatternFile::holds(done->body, 1500, 59'000, 3000));
  CHECK(std::all_of(done->body.begin() + 4500, done->body.begin() + 4600,
                    [](std::byte b) { return b == std::byte{0x77}; }));
  CHECK(PatternFile::holds(done->body, 4600, 90'000, 2000));
}

TEST(fuseLaneAnswersEioForRepliesThatCannotBe) {
  const PatternFile file(10'000, 10'000);
  struct Wrong {
    const char* what;
    std::function<void(const LaneMemory&, size_t)> reply;
  };
  const auto extent = [](Extent e) {
    return [e](const LaneMemory& m, size_t i) { m.answerExtents(i, {e}); };
  };
  const Wrong wrongs[] = {
      {"no such file", extent({12345, 10, 0})},
      {"a negative offset", extent({file.id, 10, -1})},
      {"a broken offset", extent({file.id, 10, 0.5})},
      {"no number", extent({file.id, 10, NAN})},
      {"an endless offset", extent({file.id, 10, INFINITY})},
      {"far behind the file's end", extent({file.id, 10, 9007199254740991.0})},
      {"across the file's end", extent({file.id, 10, 9'991})},
      {"outside of the arena", extent({kFileArena, 10, kArenaSize - 9})},
      {"more than was asked for", extent({kFileZero, 4097, 0})},
      {"more than 4 GiB together",
       [](const LaneMemory& m, size_t i) {
         m.answerExtents(i, {{kFileZero, 0xffffffff, 0},
                             {kFileZero, 0xffffffff, 0},
                             {kFileZero, 4098, 0}});
       }},
      {"too many extents",
       [](const LaneMemory& m, size_t i) {
         m.answerExtents(i, {{kFileZero, 1, 0}});
         m.slot(i).extentCount = kMaxExtents + 1;
       }},
      {"an unknown kind",
       [](const LaneMemory& m, size_t i) {
         m.answerExtents(i, {});
         m.slot(i).kind = 99;
       }},
      {"an inline body that is too long",
       [](const LaneMemory& m, size_t i) {
         m.answerBytes(i, "", 1);
         m.slot(i).length = kInlineSize + 1;
       }},
      {"a positive status",
       [](const LaneMemory& m, size_t i) { m.answerError(i, 5); }},
      {"a status that no errno has",
       [](const LaneMemory& m, size_t i) { m.answerError(i, -512); }},
  };
  size_t at = 0;
  Machine machine(answering([&](const LaneMemory& memory, size_t i) {
    wrongs[at].reply(memory, i);
  }));
  Vm vm(machine);
  vm.mount();
  for (at = 0; at < std::size(wrongs); at++) {
    const int error = vm.errorOf(vm.read(0, 4096));
    if (error != -EIO)
      test::fail(__FILE__, __LINE__, wrongs[at].what);
  }
  CHECK_EQ(vm.getattr(), 0);
}

TEST(fuseLaneAnswersEioWhereAFileShrankAndNothingElse) {
  PatternFile file(256 << 10, 256 << 10);
  Machine machine(answering([&](const LaneMemory& memory, size_t i) {
    memory.answerExtents(
        i, {{file.id, memory.slot(i).size, memory.slot(i).offset}});
  }));
  Vm vm(machine);
  vm.mount();
  CHECK_EQ(vm.errorOf(vm.read(200 << 10, 4096)), 0);
  CHECK(::ftruncate(file.fd.get(), 128 << 10) == 0);
  CHECK_EQ(vm.errorOf(vm.read(200 << 10, 4096)), -EIO);
  const auto done = vm.await(vm.read(4096, 4096));
  CHECK(done && PatternFile::holds(done->body, 0, 4096, 4096));
  CHECK(machine.total("readErrors") >= 1);
}

TEST(fuseLaneSaysErangeForXattrsOnly) {
  Machine machine([&](const LaneMemory& memory, size_t i) {
    if (memory.slot(i).opcode == FUSE_GETXATTR) {
      memory.answerBytes(i, "0123456789", 10);
    } else {
      test::answerPlainly(memory, i);
    }
  });
  Vm vm(machine);
  vm.mount();
  std::vector<std::byte> arguments(8 + 7);
  storeLe<uint32_t>(arguments.data(), 9);
  std::memcpy(arguments.data() + 8, "user.x", 7);
  CHECK_EQ(vm.errorOf(vm.post(FUSE_GETXATTR, arguments, 9)), -ERANGE);
  CHECK_EQ(vm.errorOf(vm.post(FUSE_GETXATTR, arguments, 10)), 0);
}

TEST(fuseLaneKeepsTheSession) {
  Machine machine;
  Vm vm(machine);
  vm.startRings();
  CHECK_EQ(vm.getattr(), -EIO);
  CHECK_EQ(vm.init(), 0);
  CHECK_EQ(vm.getattr(), 0);
  CHECK_EQ(vm.errorOf(vm.post(FUSE_DESTROY, {}, 0)), 0);
  CHECK_EQ(vm.getattr(), -EIO);
  CHECK_EQ(vm.errorOf(vm.post(FUSE_DESTROY, {}, 0)), -EIO);
  CHECK_EQ(vm.init(), 0);
  CHECK_EQ(vm.getattr(), 0);
  CHECK_EQ(vm.errorOf(vm.post(FUSE_WRITE, std::vector<std::byte>(40), 8)),
           -EROFS);
  CHECK_EQ(vm.errorOf(vm.post(4096, {}, 8)), -ENOSYS);
}

TEST(fuseLaneThatRefusesInitHasNoSession) {
  std::atomic<bool> refuse{true};
  Machine machine([&](const LaneMemory& memory, size_t i) {
    if (memory.slot(i).opcode == FUSE_INIT && refuse) {
      memory.answerError(i, -EPROTO);
    } else {
      test::answerPlainly(memory, i);
    }
  });
  Vm vm(machine);
  vm.startRings();
  CHECK_EQ(vm.init(), -EPROTO);
  CHECK_EQ(vm.getattr(), -EIO);
  refuse = false;
  CHECK_EQ(vm.init(), 0);
  CHECK_EQ(vm.getattr(), 0);
}

TEST(fuseLaneCountsReferencesUntilTheyAreForgotten) {
  std::atomic<uint32_t> lookups{0};
  Machine machine([&](const LaneMemory& memory, size_t i) {
    test::answerPlainly(memory, i);
    if (memory.slot(i).opcode == FUSE_LOOKUP) {
      const std::byte entry[128] = {};
      memory.answerBytes(i, entry, sizeof entry);
      memory.slot(i).lookups = lookups;
      memory.slot(i).lookupSlot = 5;
    }
  });
  Vm vm(machine);
  vm.mount();
  const Session& session = machine.device->service().session();
  const uint64_t node = (uint64_t{5} << kInodeBits) + 3;
  const std::vector<std::byte> name = {std::byte{'a'}, std::byte{0}};
  lookups = 1;
  CHECK_EQ(vm.errorOf(vm.post(FUSE_LOOKUP, name, 128)), 0);
  CHECK_EQ(session.lookups(5), 1u);
  lookups = 40;
  CHECK_EQ(vm.errorOf(vm.post(FUSE_LOOKUP, name, 128)), 0);
  CHECK_EQ(session.lookups(5), 41u);
  // A reply that the guest could not be given holds nothing.
  CHECK_EQ(vm.errorOf(vm.post(FUSE_LOOKUP, name, 100)), -EIO);
  CHECK_EQ(session.lookups(5), 41u);
  vm.forget(node, 40);
  CHECK_EQ(session.lookups(5), 1u);
  // 100 records: more than are copied at once.
  std::vector<std::byte> batch(8 + 100 * 16);
  storeLe<uint32_t>(batch.data(), 100);
  for (int i = 0; i < 100; i++) {
    storeLe<uint64_t>(batch.data() + 8 + i * 16, i < 99 ? 1 : node);
    storeLe<uint64_t>(batch.data() + 16 + i * 16, 1);
  }
  vm.post(FUSE_BATCH_FORGET, batch, 0, 0, 0, false);
  CHECK(test::eventually([&] {
    vm.reap();
    return session.lookups(5) == 0 && vm.queues[0]->inFlight() == 0;
  }));
  CHECK_EQ(machine.total("forgets"), 101u);
  // FORGET is as good on a request queue.
  CHECK_EQ(vm.errorOf(vm.post(FUSE_LOOKUP, name, 128)), 0);
  std::vector<std::byte> one(8);
  storeLe<uint64_t>(one.data(), 1000);
  vm.post(FUSE_FORGET, one, 0, 1, node, false);
  CHECK(test::eventually([&] {
    vm.reap();
    return session.lookups(5) == 0 && vm.queues[1]->inFlight() == 0;
  }));
  CHECK_EQ(machine.total("forgetsTooMany"), 960u);
}

TEST(fuseHiprioQueueIsServedWhenTheLaneIsStuck) {
  std::atomic<bool> stuck{false};
  std::atomic<bool> release{false};
  Machine machine([&](const LaneMemory& memory, size_t i) {
    if (memory.slot(i).opcode == FUSE_STATFS) {
      stuck = true;
      while (!release)
        std::this_thread::yield();
    }
    test::answerPlainly(memory, i);
  });
  Vm vm(machine);
  vm.mount();
  const uint64_t waiting = vm.post(FUSE_STATFS, {}, 80);
  CHECK(test::eventually([&] { return stuck.load(); }));
  vm.forget(1, 1);
  // Nothing else is answered there.
  CHECK_EQ(
      vm.errorOf(vm.post(FUSE_GETATTR, std::vector<std::byte>(16), 104, 0)),
      -EIO);
  release = true;
  CHECK_EQ(vm.errorOf(waiting), -ENOENT);
}

// A device whose only lane the test turns by hand.
struct HandTurned {
  HandTurned() {
    DeviceOptions options;
    options.path = folder.socket();
    device = std::make_unique<Device>(std::move(options));
    CHECK(device->lanePort(0)->attach());
    lane = std::make_unique<Lane>(device->service(), *device->lanePort(0),
                                  memory.bytes());
  }
  test::TemporaryFolder folder;
  LaneMemory memory;
  std::unique_ptr<Device> device;
  std::unique_ptr<Lane> lane;
};

TEST(fuseLaneThatDiesLosesNoRequest) {
  HandTurned hand;
  Vm vm(hand.folder.socket());
  vm.startRings();
  const uint64_t lost = vm.post(FUSE_INIT, std::vector<std::byte>(64), 64);
  CHECK_EQ(hand.lane->turn(0), 1);
  // Nobody else gets its place while it lives.
  CHECK(!LaneThread(*hand.device, 0, test::answerPlainly).attached());
  CHECK(!LaneThread(*hand.device, 1, test::answerPlainly).attached());
  hand.lane.reset();
  CHECK_EQ(vm.errorOf(lost), -EIO);
  const LaneThread next(*hand.device, 0, test::answerPlainly);
  CHECK(next.attached());
  CHECK_EQ(vm.init(), 0);
  CHECK_EQ(vm.getattr(), 0);
  hand.device->stop();
}

TEST(fuseLaneAnswersEioForSlotsThatItDidNotReach) {
  HandTurned hand;
  Vm vm(hand.folder.socket());
  vm.startRings();
  const uint64_t init = vm.post(FUSE_INIT, std::vector<std::byte>(64), 64);
  CHECK_EQ(hand.lane->turn(0), 1);
  test::answerPlainly(hand.memory, 0);
  std::thread guest([&] {
    CHECK_EQ(vm.errorOf(init), 0);
    vm.post(FUSE_GETATTR, std::vector<std::byte>(16), 104);
  });
  CHECK_EQ(hand.lane->turn(1), 1);
  guest.join();
  // It says that it has answered none of them.
  hand.device->ringLanes();
  CHECK_EQ(hand.lane->turn(0), 0);
  CHECK_EQ(vm.errorOf(init + 2), -EIO);
}

TEST(fuseLaneLooksIntoItsMailbox) {
  test::TemporaryFolder folder;
  DeviceOptions options;
  options.path = folder.socket();
  options.lanes = 2;
  options.requestQueues = 2;
  Device device(std::move(options));
  const LaneMemory memory;
  CHECK(device.lanePort(1)->attach());
  Lane lane(device.service(), *device.lanePort(1), memory.bytes());
  device.ringLanes();
  device.ringLanes();
  CHECK_EQ(lane.turn(0), 0);
  std::thread waker([&] { device.ringLanes(); });
  CHECK_EQ(lane.turn(0), 0);
  waker.join();
  std::thread stopper([&] { device.stop(); });
  CHECK_EQ(lane.turn(0), -1);
  CHECK_EQ(lane.turn(0), -1);
  stopper.join();
}

TEST(fuseIdleLaneSleeps) {
  Machine machine(Machine::Options{.pollUs = 50});
  Vm vm(machine);
  vm.mount();
  for (int i = 0; i < 50; i++)
    CHECK_EQ(vm.getattr(), 0);
  // No CPU: the number of looks and sleeps stands still.
  uint64_t before = 0;
  CHECK(test::eventually([&] {
    const uint64_t now = machine.total("polls") + machine.total("sleeps") +
                         machine.total("turns");
    const bool still = now == before;
    before = now;
    if (!still)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return still;
  }));
}

}  // namespace
}  // namespace nydus
