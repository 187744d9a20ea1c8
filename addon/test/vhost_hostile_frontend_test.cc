// Front-ends that do what no VMM does (vhost-user-fs.md §7): an error for
// them, or the end of their connection; rings that run go on.
#include "test/vm_fixture.h"

namespace nydus {
namespace {

using test::Machine;
using test::openDescriptors;
using test::Peer;
using test::TestGuest;
using test::Vm;

TEST(vhostHalfAMessageHoldsUpNoRing) {
  Machine machine(
      Machine::Options{.messageLimit = std::chrono::milliseconds(300)});
  Vm vm(machine);
  vm.mount();
  vm.peer.sendRaw(SET_FEATURES, kFlagVersion, 8, {});
  for (int i = 0; i < 50; i++)
    CHECK_EQ(vm.getattr(), 0);
  CHECK(vm.peer.closed());
}

TEST(vhostDescriptorsOfAThousandMessagesAreGone) {
  Machine machine;
  Vm vm(machine);
  vm.mount();
  const EventFd event;
  const size_t before = openDescriptors();
  const int fds[] = {event.get(), vm.guest.space.fileFd(0)};
  for (int i = 0; i < 1000; i++) {
    // Kept until the next one …
    for (const uint32_t request : {SET_VRING_CALL, SET_VRING_ERR})
      vm.peer.send(request, uint64_t{1}, {fds[0]});
    vm.peer.sendBytes(SET_BACKEND_REQ_FD, {}, {fds[0]});
    vm.peer.sendBytes(SET_LOG_FD, {}, {fds[0]});
    // … or not at all: surplus, unknown, refused.
    vm.peer.send(SET_VRING_ENABLE, VringState{1, 1}, {fds[0], fds[1]});
    vm.peer.send(4711, uint64_t{1}, {fds[0], fds[1]});
    CHECK_EQ(vm.peer
                 .acked(ADD_MEM_REG, MemoryRegion{0, vm.guest.region(0, 4096)},
                        {fds[1]})
                 .value_or(9),
             1u);
    CHECK_EQ(vm.peer.acked(SET_VRING_CALL, uint64_t{99}, {fds[0]}).value_or(9),
             1u);
  }
  CHECK(vm.peer.alive());
  // One that is kept of each kind; those of the ring were there before.
  CHECK(openDescriptors() <= before + 2);
  CHECK(vm.peer.acked(SET_VRING_CALL, uint64_t{1}, {vm.queues[1]->callFd()}) ==
        0u);
  CHECK_EQ(vm.getattr(), 0);
}

TEST(vhostRingsThatRunAreNotRebuilt) {
  Machine machine;
  Vm vm(machine);
  vm.mount();
  const auto refused = [&](uint32_t request, const auto& payload) {
    return vm.peer.acked(request, payload).value_or(9) == 1;
  };
  CHECK(refused(SET_VRING_NUM, VringState{1, 32}));
  CHECK(refused(SET_VRING_BASE, VringState{1, 7}));
  for (const size_t field : {0u, 1u, 2u}) {
    VringAddress other = vm.addresses(1);
    (field == 0   ? other.descriptors
     : field == 1 ? other.used
                  : other.available) += 64;
    CHECK(refused(SET_VRING_ADDR, other));
  }
  // The same again is what a migration does, to switch the log.
  CHECK(vm.peer.acked(SET_VRING_ADDR, vm.addresses(1)) == 0u);
  CHECK_EQ(vm.getattr(), 0);
}

TEST(vhostLogsThatDoNotCoverTheGuest) {
  Machine machine;
  Vm vm(machine);
  vm.mount();
  const auto logAt = [&](uint64_t size, uint64_t offset) {
    vm.peer.send(SET_LOG_BASE, LogDescription{size, offset},
                 {vm.guest.space.fileFd(0)});
    return vm.peer.receive64().value_or(9);
  };
  // One bit for each of 1024 pages.
  const uint64_t needed = TestGuest::kSize / 4096 / 8;
  CHECK_EQ(logAt(needed, 0), 0u);
  CHECK_EQ(logAt(needed - 1, 0), 1u);
  CHECK_EQ(logAt(0, 0), 1u);
  CHECK_EQ(logAt(needed, TestGuest::kSize), 1u);
  CHECK_EQ(logAt(~uint64_t{0}, 4096), 1u);
  CHECK_EQ(logAt(4096, ~uint64_t{0}), 1u);
  CHECK_EQ(vm.getattr(), 0);
}

TEST(vhostTruncatedMemoryCostsItsGuestOnly) {
  Machine machine;
  {
    Vm vm(machine);
    vm.mount();
    CHECK(::ftruncate(vm.guest.space.fileFd(0), 0) == 0);
    vm.queues[1]->kick();
    vm.queues[0]->kick();
    // The control thread is not impressed.
    CHECK(vm.peer.alive());
    CHECK(vm.stopRing(1).has_value());
  }
  CHECK(machine.events.wait("disconnected").has_value());
  Vm next(machine);
  next.mount();
  CHECK_EQ(next.getattr(), 0);
}

TEST(vhostFrontEndThatLeavesMuchUnread) {
  // More than is served in a row, behind a wait: the end comes late.
  Machine machine;
  for (int i = 0; i < 5; i++) {
    {
      Vm vm(machine);
      vm.mount();
      for (int n = 0; n < 500; n++)
        vm.peer.send(SET_VRING_ENABLE, VringState{1, 1});
    }
    // It does not wait for the back-end to notice.
    Vm next(machine);
    next.mount();
  }
  CHECK_EQ(machine.total("refused"), 0u);
}

TEST(vhostFrontEndThatReadsNoReplies) {
  Machine machine;
  Vm vm(machine);
  vm.mount();
  bool closed = false;
  for (int i = 0; i < 200'000 && !closed; i++) {
    try {
      vm.peer.sendBytes(GET_FEATURES, {});
    } catch (const std::exception&) {
      closed = true;
    }
  }
  CHECK(closed);
  CHECK(machine.events.wait("disconnected").has_value());
  Vm next(machine);
  CHECK(next.peer.alive());
}

TEST(vhostDeviceStateIsNotOffered) {
  Machine machine;
  Peer peer(machine.folder.socket());
  peer.negotiate();
  const EventFd event;
  // SET_DEVICE_STATE_FD and CHECK_DEVICE_STATE.
  CHECK(peer.acked(42, uint64_t{0}, {event.get()}) == 1u);
  CHECK(peer.acked(43, uint64_t{0}) == 1u);
  CHECK(peer.alive());
}

}  // namespace
}  // namespace nydus
