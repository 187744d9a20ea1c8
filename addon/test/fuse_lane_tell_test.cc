// When a lane tells of what it gave back: never later than it rests.
#include <cstring>
#include <functional>

#include "base/bytes.h"
#include "fuse/abi.h"
#include "test/check.h"
#include "test/lane_thread.h"

namespace nydus {
namespace {

// A guest that always has more to ask, INIT first.
class BusyQueue final : public RequestQueue {
 public:
  size_t take(std::span<Taken> out) override {
    size_t count = 0;
    while (count < out.size() && open_) {
      Taken& taken = out[count++];
      const bool first = nextIndex_ == 0;
      InHeader header = {};
      header.opcode = first ? FUSE_INIT : FUSE_GETATTR;
      header.len = kInHeaderSize + (first ? 64 : 16);
      header.unique = 2 * (nextIndex_ + 1);
      header.nodeid = 1;
      taken.index = static_cast<uint32_t>(nextIndex_++);
      taken.readable = taken.copied = header.len;
      taken.writable = 4096;
      std::memset(taken.raw, 0, sizeof taken.raw);
      storeLe(taken.raw, header);
      storeLe(taken.raw + kInHeaderSize, first ? uint32_t{7} : uint32_t{0});
      storeLe(taken.raw + kInHeaderSize + 4, first ? uint32_t{41} : 0u);
      if (first)
        break;
    }
    return count;
  }
  uint64_t claim(std::span<const uint32_t> indices) override {
    return (uint64_t{1} << indices.size()) - 1;
  }
  size_t readMore(uint32_t, size_t, std::span<std::byte>) override { return 0; }
  bool write(uint32_t,
             int32_t,
             std::span<const Piece>,
             Assistant* /*assistant*/) override {
    return true;
  }
  size_t publish(std::span<const uint32_t> indices) override {
    owed_ += indices.size();
    return open_ ? 1'000'000 : 0;
  }
  void tell() override { owed_ = 0; }
  void finish(std::span<const uint32_t> /*indices*/) override { owed_ = 0; }
  void beginPoll() override {}
  bool pollReady() override { return false; }
  void endPoll() override {}
  bool arm() override {
    onRest();
    return false;
  }
  void disarm() override {}
  bool acknowledgeKick() override { return true; }
  bool mustPoll() override { return false; }

  // The lane wants to sleep.
  std::function<void()> onRest = [] {};
  void close() { open_ = false; }
  // Given back, and not told of.
  [[nodiscard]] size_t owed() const { return owed_; }

 private:
  bool open_ = true;
  size_t nextIndex_ = 0;
  size_t owed_ = 0;
};

// A lane with such a guest, and replies that are held back.
struct Holding {
  Holding() {
    CHECK(port.attach());
    port.setQueue(1, queue);
    lane = std::make_unique<Lane>(service, port, memory.bytes());
    for (int turns = 0; turns < 1000 && queue->owed() == 0; turns++)
      turn();
    CHECK(queue->owed() != 0);
  }
  void turn() {
    open = lane->turn(static_cast<uint32_t>(open));
    for (int i = 0; i < open; i++)
      test::answerPlainly(memory, static_cast<size_t>(i));
  }

  FuseService service{0};
  LanePort port;
  test::LaneMemory memory;
  std::shared_ptr<BusyQueue> queue = std::make_shared<BusyQueue>();
  std::unique_ptr<Lane> lane;
  int open = 0;
};

TEST(fuseLaneTellsBeforeItReadsItsMail) {
  Holding it;
  it.port.ring();
  it.turn();
  CHECK_EQ(it.open, 0);
  CHECK_EQ(it.queue->owed(), 0u);
}

TEST(fuseLaneTellsBeforeItEnds) {
  Holding it;
  it.port.stop();
  it.turn();
  CHECK_EQ(it.open, -1);
  CHECK_EQ(it.queue->owed(), 0u);
}

TEST(fuseLaneThatDiesTellsOfAllRequests) {
  Holding it;
  it.lane.reset();
  CHECK_EQ(it.queue->owed(), 0u);
}

TEST(fuseLaneTellsWhenItsQueuesChange) {
  Holding it;
  it.port.setQueue(1, nullptr);
  it.port.ring();
  it.turn();
  CHECK_EQ(it.queue->owed(), 0u);
}

TEST(fuseLaneTellsBeforeItSleeps) {
  Holding it;
  size_t owed = SIZE_MAX;
  it.queue->onRest = [&] {
    owed = it.queue->owed();
    it.port.ring();
  };
  it.queue->close();
  it.turn();
  CHECK_EQ(it.open, 0);
  CHECK_EQ(owed, 0u);
}

}  // namespace
}  // namespace nydus
