// The life of a VM: front-ends that come and go, reboots, memory that changes,
// rings that break, orders of messages that nobody expected.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdio>

#include "test/vm_fixture.h"

namespace nydus {
namespace {

using test::Machine;
using test::openDescriptors;
using test::Peer;
using test::TestGuest;
using test::Vm;

TEST(vhostSocketIsPrivateAndGoesAway) {
  std::string path;
  {
    Machine machine;
    path = machine.folder.socket();
    struct stat info = {};
    CHECK(::lstat(path.c_str(), &info) == 0);
    CHECK_EQ(info.st_mode & 07777, 0600u);
    machine.device->stop();
    CHECK(::lstat(path.c_str(), &info) != 0);
    machine.device->stop();
  }
}

TEST(vhostSocketPathThatCannotBe) {
  const auto fails = [](const std::string& path, int error) {
    DeviceOptions options;
    options.path = path;
    try {
      Device device(std::move(options));
    } catch (const SystemError& e) {
      return e.error() == error;
    }
    return false;
  };
  const test::TemporaryFolder folder;
  CHECK(fails("/nowhere/at/all", ENOENT));
  CHECK(fails("/tmp/" + std::string(108, 'x'), ENAMETOOLONG));
  DeviceOptions options;
  options.path = folder.socket();
  Device device(std::move(options));
  CHECK(fails(folder.socket(), EADDRINUSE));
  // The failed one did not take the file away.
  Peer peer(folder.socket());
  CHECK(peer.alive());
}

TEST(vhostTakesOverAListeningSocket) {
  const test::TemporaryFolder folder;
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s",
                folder.socket().c_str());
  CHECK(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address),
               sizeof address) == 0);
  {
    DeviceOptions options;
    options.listener = UniqueFd(::dup(socket.get()));
    bool refused = false;
    try {
      Device device(std::move(options));
    } catch (const SystemError&) {
      refused = true;
    }
    CHECK(refused);  // it does not listen yet
  }
  CHECK(::listen(socket.get(), 1) == 0);
  DeviceOptions options;
  options.listener = std::move(socket);
  Device device(std::move(options));
  Peer peer(folder.socket());
  CHECK(peer.alive());
}

TEST(vhostSecondFrontEndIsRefused) {
  Machine machine;
  Vm vm(machine);
  vm.mount();
  for (int i = 0; i < 3; i++) {
    Peer second(machine.folder.socket());
    CHECK(second.closed());
    CHECK(machine.events.wait("refused").has_value());
  }
  CHECK_EQ(vm.getattr(), 0);
}

TEST(vhostServesOneFrontEndAfterTheOther) {
  Machine machine;
  size_t descriptors = 0;
  for (int i = 0; i < 100; i++) {
    {
      Vm vm(machine);
      vm.startRings();
      // Nothing is left of the session before.
      CHECK_EQ(vm.getattr(), -EIO);
      CHECK_EQ(vm.init(), 0);
      CHECK_EQ(vm.getattr(), 0);
      if (i % 2 == 0)
        vm.post(FUSE_GETATTR, std::vector<std::byte>(16), 104);
    }
    CHECK(machine.events.wait("disconnected").has_value());
    if (i == 2)
      descriptors = openDescriptors();
  }
  // The lane lets go of the last ring when it has noticed.
  CHECK(test::eventually([&] { return openDescriptors() <= descriptors; }));
}

TEST(vhostLateKicksOfOneFrontEndAreNotThoseOfTheNext) {
  // The lane hears of the kick of a ring that has just been replaced.
  Machine machine;
  for (int i = 0; i < 300; i++) {
    Vm vm(machine);
    vm.mount();
    CHECK_EQ(vm.getattr(), 0);
    vm.forget(1, 1);
    for (const auto& queue : vm.queues)
      queue->kick();
    if (test::failures != 0)
      return;
  }
}

TEST(vhostRebootsTheGuest) {
  Machine machine;
  Vm vm(machine);
  for (int i = 0; i < 20; i++) {
    vm.mount();
    CHECK_EQ(vm.getattr(), 0);
    // As QEMU 7.2: no DESTROY, no reset, just this.
    for (uint32_t q = 0; q < 2; q++) {
      vm.peer.send(SET_VRING_ENABLE, VringState{q, 0});
    }
    CHECK_EQ(vm.stopRing(0).value_or(99), 0u);
    CHECK_EQ(vm.stopRing(1).value_or(99), 2u);
    for (const auto& queue : vm.queues)
      queue->reset();
  }
}

TEST(vhostPausesAndGoesOn) {
  Machine machine;
  Vm vm(machine);
  vm.mount();
  for (int i = 0; i < 5; i++) {
    CHECK_EQ(vm.getattr(), 0);
    const uint32_t next = vm.stopRing(1).value_or(0);
    CHECK_EQ(next, 2u + static_cast<uint32_t>(i));
    vm.startRing(1, static_cast<uint16_t>(next));
  }
  CHECK_EQ(vm.getattr(), 0);
}

TEST(vhostGoesOnWithAGuestThatMountedBefore) {
  Machine machine;
  {
    Vm vm(machine);
    vm.mount();
  }
  CHECK(machine.events.wait("disconnected").has_value());
  Vm vm(machine);
  // Its driver has had 3 requests answered; the base says so.
  storeLe<uint16_t>(vm.guest.space.host(vm.queues[1]->ring().avail()) + 2, 3);
  vm.startRing(1, 3);
  CHECK(machine.events.wait("session-resumed").has_value());
  CHECK(machine.device->service().session().accepts());
}

TEST(vhostTakesMessagesInAnyOrder) {
  // Everything that belongs to a ring, permuted: it starts when all is there.
  std::vector<int> order = {0, 1, 2, 3};
  Machine machine;
  do {
    Vm vm(machine);
    frontend::FuseQueue& q = *vm.queues[1];
    // ADDR is checked against the size; without one, it is when that comes.
    for (const int step : order) {
      switch (step) {
        case 0:
          CHECK(vm.peer.acked(SET_VRING_ENABLE, VringState{1, 1}) == 0u);
          break;
        case 1:
          CHECK(vm.peer.acked(SET_VRING_KICK, uint64_t{1}, {q.kickFd()}) == 0u);
          break;
        case 2:
          CHECK(vm.peer.acked(SET_VRING_NUM, VringState{1, 64}) == 0u);
          break;
        default:
          CHECK(vm.peer.acked(SET_VRING_ADDR, vm.addresses(1)) == 0u);
      }
    }
    CHECK(vm.peer.acked(SET_VRING_CALL, uint64_t{1}, {q.callFd()}) == 0u);
    CHECK_EQ(vm.init(), 0);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(vhostDoesNotWaitForQueuesThatNobodyUses) {
  Machine machine(Machine::Options{.queues = 64, .lanes = 3});
  Vm vm(machine, Vm::Options{.queues = 4});
  for (uint32_t i = 0; i < 65; i++) {
    CHECK(vm.peer.acked(SET_VRING_ENABLE, VringState{i, 1}) == 0u);
  }
  for (const uint32_t i : {0u, 1u, 4u})
    vm.startRing(i);
  CHECK_EQ(vm.init(4), 0);
  CHECK_EQ(vm.getattr(1), 0);
  CHECK_EQ(vm.getattr(4), 0);
}

TEST(vhostWorksWithQueuesOfEverySizeAndFeature) {
  Machine machine;
  for (uint32_t size = 2; size <= 1024; size *= 2) {
    for (const bool eventIdx : {false, true}) {
      Vm vm(machine, Vm::Options{.size = static_cast<uint16_t>(size),
                                 .eventIdx = eventIdx,
                                 .indirect = true});
      vm.mount();
      for (int i = 0; i < 10; i++)
        CHECK_EQ(vm.getattr(), 0);
    }
  }
}

TEST(vhostStartsAllRingsWithoutProtocolFeatures) {
  Machine machine;
  Vm vm(machine);
  CHECK(
      vm.peer.acked(SET_FEATURES, uint64_t{kFeatureVersion1 | kFeatureIndirect |
                                           kFeatureEventIndex}) == 0u);
  frontend::FuseQueue& q = *vm.queues[1];
  vm.peer.acked(SET_VRING_NUM, VringState{1, 64});
  vm.peer.acked(SET_VRING_ADDR, vm.addresses(1));
  vm.peer.acked(SET_VRING_CALL, uint64_t{1}, {q.callFd()});
  vm.peer.acked(SET_VRING_KICK, uint64_t{1}, {q.kickFd()});
  CHECK_EQ(vm.init(), 0);
}

TEST(vhostRefusesDriversOfOldVirtio) {
  Machine machine;
  Vm vm(machine);
  vm.peer.acked(SET_FEATURES, uint64_t{kFeatureProtocol});
  vm.peer.acked(SET_VRING_NUM, VringState{1, 64});
  vm.peer.acked(SET_VRING_ADDR, vm.addresses(1));
  CHECK(vm.peer.acked(SET_VRING_KICK, uint64_t{1}, {vm.queues[1]->kickFd()}) ==
        1u);
  CHECK(vm.peer.alive());
}

TEST(vhostPollsRingsWithoutAKick) {
  Machine machine;
  Vm vm(machine);
  frontend::FuseQueue& q = *vm.queues[1];
  vm.peer.acked(SET_VRING_NUM, VringState{1, 64});
  vm.peer.acked(SET_VRING_ADDR, vm.addresses(1));
  vm.peer.acked(SET_VRING_CALL, uint64_t{1}, {q.callFd()});
  CHECK(vm.peer.acked(SET_VRING_KICK, uint64_t{0x101}) == 0u);
  vm.peer.acked(SET_VRING_ENABLE, VringState{1, 1});
  CHECK_EQ(vm.init(), 0);
  CHECK_EQ(vm.getattr(), 0);
}

TEST(vhostChangesMemoryUnderRunningRings) {
  Machine machine;
  Vm vm(machine);
  vm.mount();
  // Hot-plug: one region more.
  const size_t file = vm.guest.space.addFile(1 << 20);
  const RegionSpec extra{uint64_t{1} << 40, 1 << 20, uint64_t{1} << 50, 0};
  CHECK(vm.peer.acked(ADD_MEM_REG, MemoryRegion{0, extra},
                      {vm.guest.space.fileFd(file)}) == 0u);
  CHECK_EQ(vm.getattr(), 0);
  CHECK(vm.peer.acked(REM_MEM_REG, MemoryRegion{0, extra}) == 0u);
  CHECK_EQ(vm.getattr(), 0);
  // The whole table at once, the same memory.
  struct {
    MemoryTable header{2, 0};
    RegionSpec regions[2];
  } table;
  table.regions[0] = vm.guest.region(0, TestGuest::kLowEnd);
  table.regions[1] = vm.guest.region(TestGuest::kHighStart,
                                     TestGuest::kSize - TestGuest::kHighStart);
  const int fd = vm.guest.space.fileFd(0);
  CHECK(vm.peer.acked(SET_MEM_TABLE, table, {fd, fd}) == 0u);
  CHECK_EQ(vm.getattr(), 0);
}

TEST(vhostFencesARingAndRecoversAtReset) {
  for (const int way : {0, 1, 2}) {
    Machine machine(Machine::Options{.queues = 2});
    Vm vm(machine, Vm::Options{.queues = 2});
    vm.mount();
    // The available index jumps.
    std::byte* available = vm.guest.space.host(vm.queues[1]->ring().avail());
    storeLe<uint16_t>(available + 2, 30000);
    vm.queues[1]->kick();
    CHECK(machine.events.wait("ring-broken").has_value());
    CHECK_EQ(vm.queues[1]->errors(), 1u);
    CHECK_EQ(vm.peer.ask64(GET_STATUS).value_or(0) & kStatusNeedsReset,
             uint64_t{kStatusNeedsReset});
    // The other ring does not mind.
    CHECK_EQ(vm.getattr(2), 0);
    if (way == 0) {
      CHECK(vm.stopRing(1).has_value());
    } else if (way == 1) {
      CHECK(vm.peer.acked(SET_STATUS, uint64_t{0}) == 0u);
    } else {
      vm.peer.sendBytes(RESET_DEVICE, {}, {}, true);
      CHECK(vm.peer.receive64() == 0u);
    }
    CHECK_EQ(vm.peer.ask64(GET_STATUS).value_or(1), 0u);
    for (const auto& queue : vm.queues)
      queue->reset();
    if (way == 0) {
      vm.startRing(1);
    } else {
      vm.startRings();
      CHECK_EQ(vm.getattr(1), -EIO);
      CHECK_EQ(vm.init(1), 0);
    }
    CHECK_EQ(vm.getattr(1), 0);
  }
}

TEST(vhostStormsOfKicksCostNothingButTime) {
  Machine machine;
  Vm vm(machine);
  vm.mount();
  std::atomic<bool> done{false};
  std::thread storm([&] {
    while (!done) {
      for (int i = 0; i < 100; i++) {
        vm.queues[1]->kick();
        vm.queues[0]->kick();
      }
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 100; i++)
    CHECK_EQ(vm.getattr(), 0);
  vm.forget(1, 1);
  CHECK(vm.peer.alive());
  done = true;
  storm.join();
}

TEST(vhostKicksThatAreNoEventfds) {
  Machine machine;
  Vm vm(machine);
  vm.mount();
  // A pipe whose writer is gone is readable for ever: it is not waited for.
  int ends[2] = {};
  CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  CHECK(vm.peer.acked(SET_VRING_KICK, uint64_t{1}, {ends[0]}) == 0u);
  ::close(ends[1]);
  ::close(ends[0]);
  CHECK(test::eventually([&] { return machine.total("sleeps") > 3; }));
  uint64_t before = 0;
  CHECK(test::eventually([&] {
    const uint64_t now = machine.total("sleeps");
    const bool still = now == before;
    before = now;
    if (!still)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return still;
  }));
  // An honest one again.
  CHECK(vm.peer.acked(SET_VRING_KICK, uint64_t{1}, {vm.queues[1]->kickFd()}) ==
        0u);
  CHECK_EQ(vm.getattr(), 0);
}

TEST(vhostSaysHowToShareMemory) {
  Machine machine;
  Vm vm(machine);
  Peer& peer = vm.peer;
  for (const RegionSpec& spec :
       {vm.guest.region(0, TestGuest::kLowEnd),
        vm.guest.region(TestGuest::kHighStart,
                        TestGuest::kSize - TestGuest::kHighStart)}) {
    CHECK(peer.acked(REM_MEM_REG, MemoryRegion{0, spec}) == 0u);
  }
  peer.acked(SET_VRING_NUM, VringState{1, 64});
  CHECK(peer.acked(SET_VRING_ADDR, vm.addresses(1)) == 1u);
  const auto event = machine.events.wait("memory");
  CHECK(event && event->level == EventLevel::kError);
  CHECK(event &&
        event->message.find("memory-backend-memfd") != std::string::npos);
  CHECK(event && event->message.find("share=on") != std::string::npos);
}

TEST(vhostGivesUpOnHalfAMessage) {
  Machine machine(
      Machine::Options{.messageLimit = std::chrono::milliseconds(50)});
  Peer peer(machine.folder.socket());
  peer.sendRaw(SET_FEATURES, kFlagVersion, 8, {});
  CHECK(peer.closed());
  Peer next(machine.folder.socket());
  CHECK(next.alive());
}

TEST(vhostGarbageClosesTheConnectionOnly) {
  Machine machine;
  for (const uint32_t size : {4097u, 0x7fffffffu, 0xffffffffu}) {
    Peer peer(machine.folder.socket());
    peer.sendRaw(GET_FEATURES, kFlagVersion, size, {});
    CHECK(peer.closed());
    CHECK(machine.events.wait("disconnected").has_value());
  }
  Vm vm(machine);
  vm.mount();
}

}  // namespace
}  // namespace nydus
