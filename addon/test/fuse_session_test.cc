#include <atomic>
#include <thread>
#include <vector>

#include "fuse/session.h"
#include "test/check.h"

namespace nydus {
namespace {

constexpr uint64_t kSlot3 = uint64_t{3} << kInodeBits;

TEST(fuseSessionAcceptsBetweenInitAndDestroy) {
  Session session;
  CHECK(!session.accepts());
  const Session::Epoch first = session.begin();
  CHECK(!session.accepts());
  session.ready(first);
  CHECK(session.accepts());
  session.end();
  CHECK(!session.accepts());
  // The answer to an INIT that something else overtook.
  const Session::Epoch old = session.begin();
  const Session::Epoch fresh = session.begin();
  session.ready(old);
  CHECK(!session.accepts());
  session.ready(fresh);
  CHECK(session.accepts());
}

TEST(fuseSessionCountsReferencesPerMount) {
  Session session;
  const Session::Epoch epoch = session.begin();
  session.ready(epoch);
  session.addLookups(epoch, 3, 5);
  session.addLookups(epoch, 0, 1);
  session.addLookups(epoch, kMountSlots, 1);
  CHECK_EQ(session.lookups(3), 5u);
  CHECK_EQ(session.lookups(0), 1u);
  CHECK_EQ(session.forget(kSlot3 + 17, 2), 0u);
  CHECK_EQ(session.lookups(3), 3u);
  // More than were given: it stays at 0.
  CHECK_EQ(session.forget(kSlot3 + 18, ~uint64_t{0}), ~uint64_t{0} - 3);
  CHECK_EQ(session.lookups(3), 0u);
  // The root is forgotten by guests that never looked it up.
  CHECK_EQ(session.forget(kRootNode, 1), 0u);
  CHECK_EQ(session.lookups(0), 1u);
  CHECK_EQ(session.forget(kMaxExact + 1, 1), 0u);
  CHECK_EQ(session.forget(~uint64_t{0}, 1), 0u);
  CHECK_EQ(session.lookups(kMountSlots), 0u);
}

TEST(fuseSessionDropsReferencesAtInit) {
  Session session;
  const Session::Epoch first = session.begin();
  session.ready(first);
  session.addLookups(first, 7, 100);
  const Session::Epoch second = session.begin();
  CHECK_EQ(session.lookups(7), 0u);
  // A reply of the old session comes late.
  session.addLookups(first, 7, 1);
  CHECK_EQ(session.lookups(7), 0u);
  session.addLookups(second, 7, 1);
  CHECK_EQ(session.lookups(7), 1u);
  session.end();
  CHECK_EQ(session.lookups(7), 0u);
}

TEST(fuseSessionResumesOnlyWithoutOne) {
  Session session;
  session.resume();
  CHECK(session.accepts());
  const Session::Epoch epoch = session.begin();
  session.resume();
  CHECK(!session.accepts());
  session.ready(epoch);
  CHECK(session.accepts());
}

TEST(fuseSessionCountsFromManyThreads) {
  Session session;
  const Session::Epoch epoch = session.begin();
  session.ready(epoch);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; i++) {
        session.addLookups(epoch, 3, 3);
        session.forget(kSlot3, 2);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  CHECK_EQ(session.lookups(3), 80'000u);
}

}  // namespace
}  // namespace nydus
