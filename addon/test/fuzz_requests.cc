// Fuzzes a lane from both sides: any bytes as FUSE requests, any bytes as what
// TypeScript leaves in their slots. What reaches a slot must be what lanes
// rely on; what is answered must be answered once, within its buffers.
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <optional>

#include "base/bytes.h"
#include "fuse/lane.h"
#include "sys/file_registry.h"
#include "test/fuzzer.h"
#include "test/lane_thread.h"

namespace {

using namespace nydus;
using test::demand;

constexpr uint64_t kFileBytes = 64 << 10;
// What happens, by the first byte of an input.
constexpr uint8_t kMounted = 1;
constexpr uint8_t kLaneDies = 2;

// One request of an input; its bytes and those of its slot follow.
struct Record {
  uint16_t writable;
  uint16_t requestLength;
  uint16_t replyLength;
  // Longer than what is copied of it, by so many KiB.
  uint8_t more;
  // Forgotten by its queue, as at a reset.
  uint8_t gone;
};
static_assert(sizeof(Record) == 8);
// Where a slot's reply begins; its extents come behind.
constexpr size_t kReplyAt = offsetof(Slot, status);
constexpr size_t kReplyBytes = offsetof(Slot, body) - kReplyAt + 64;

class Requests final : public RequestQueue {
 public:
  Requests(std::span<const uint8_t> bytes, LanePort& port) : port_(port) {
    while (bytes.size() >= sizeof(Record) && all_.size() < kBatch) {
      One one;
      std::memcpy(&one.record, bytes.data(), sizeof(Record));
      bytes = bytes.subspan(sizeof(Record));
      one.request = cut(bytes, one.record.requestLength);
      one.reply = cut(bytes, one.record.replyLength);
      all_.push_back(one);
    }
  }

  size_t take(std::span<Taken> out) override {
    size_t count = 0;
    while (next_ < all_.size() && count < out.size()) {
      One& one = all_[next_];
      Taken& taken = out[count++];
      taken.index = static_cast<uint32_t>(next_++);
      taken.readable =
          static_cast<uint32_t>(one.request.size()) + one.record.more * 1024u;
      taken.copied = std::min<uint32_t>(taken.readable, kRawSize);
      taken.writable = one.record.writable;
      std::memset(taken.raw, 0x55, sizeof taken.raw);
      std::memcpy(taken.raw, one.request.data(),
                  std::min<size_t>(one.request.size(), taken.copied));
      one.state = State::kOpen;
    }
    // Do not sleep, there is mail.
    if (next_ == all_.size())
      port_.ring();
    return count;
  }
  uint64_t claim(std::span<const uint32_t> indices) override {
    demand(indices.size() <= kBatch, "a batch is claimed at most");
    uint64_t mask = 0;
    for (size_t i = 0; i < indices.size(); i++) {
      One& one = at(indices[i]);
      if (one.record.gone == 1)
        one.state = State::kDone;
      if (one.state != State::kOpen)
        continue;
      one.state = State::kClaimed;
      mask |= uint64_t{1} << i;
    }
    return mask;
  }
  size_t readMore(uint32_t index,
                  size_t offset,
                  std::span<std::byte> to) override {
    const One& one = at(index);
    demand(one.state == State::kClaimed, "only who claimed it reads on");
    const size_t length = one.request.size() + one.record.more * 1024u;
    const size_t n = std::min(to.size(), length - std::min(offset, length));
    std::memset(to.data(), 0x7f, n);
    return n;
  }
  bool write(uint32_t index,
             int32_t error,
             std::span<const Piece> body,
             Assistant* /*assistant*/) override {
    One& one = at(index);
    demand(one.state == State::kClaimed && !one.written,
           "only who claimed it answers, once");
    one.written = true;
    demand(one.record.writable >= kOutHeaderSize,
           "nothing is answered that has no room for it");
    demand(error <= 0 && error >= kLowestError, "an error is an errno");
    uint64_t total = kOutHeaderSize;
    for (const Piece& piece : body) {
      total += piece.length;
      for (uint32_t i = 0; piece.data != nullptr && i < piece.length; i += 512)
        sum_ = sum_ + static_cast<uint8_t>(piece.data[i]);
    }
    return error != 0 || total <= one.record.writable;
  }
  size_t publish(std::span<const uint32_t> indices) override {
    for (const uint32_t index : indices) {
      demand(at(index).state == State::kClaimed,
             "what was claimed is finished");
      at(index).state = State::kDone;
    }
    return all_.size() - next_;
  }
  void tell() override {}
  void finish(std::span<const uint32_t> indices) override { publish(indices); }
  void beginPoll() override {}
  bool pollReady() override { return true; }
  void endPoll() override {}
  bool arm() override { return true; }
  void disarm() override {}
  bool acknowledgeKick() override { return true; }
  bool mustPoll() override { return true; }

  [[nodiscard]] std::span<const uint8_t> replyOf(size_t i) const {
    return all_[i].reply;
  }
  [[nodiscard]] size_t size() const { return all_.size(); }
  [[nodiscard]] uint32_t writable(size_t i) const {
    return all_[i].record.writable;
  }
  [[nodiscard]] bool allDone() const {
    return std::all_of(all_.begin(), all_.end(), [](const One& one) {
      return one.state == State::kDone;
    });
  }

 private:
  enum class State { kThere, kOpen, kClaimed, kDone };
  struct One {
    Record record;
    std::span<const uint8_t> request;
    std::span<const uint8_t> reply;
    State state = State::kThere;
    bool written = false;
  };
  static std::span<const uint8_t> cut(std::span<const uint8_t>& bytes,
                                      size_t length) {
    const auto part = bytes.first(std::min(length, bytes.size()));
    bytes = bytes.subspan(part.size());
    return part;
  }
  One& at(uint32_t index) {
    demand(index < all_.size(), "it is a request of this queue");
    return all_[index];
  }

  LanePort& port_;
  std::vector<One> all_;
  size_t next_ = 0;
  volatile uint8_t sum_ = 0;
};

struct Kit {
  Kit() : service(0), fd(::memfd_create("file", MFD_CLOEXEC)) {
    demand(::ftruncate(fd.get(), kFileBytes) == 0, "a file can be made");
    file = FileRegistry::process().add(fd.get(), kFileBytes / 2);
  }
  FuseService service;
  test::LaneMemory memory;
  UniqueFd fd;
  uint32_t file = 0;
};

Kit& kit() {
  static Kit kit;
  return kit;
}

// What lanes rely on (lib/fuse/ring.ts).
void lookAt(const Slot& slot) {
  const OpcodeRule rule = ruleOf(slot.opcode);
  demand(rule.handling == Handling::kLane, "lanes know the opcode");
  demand(slot.argLength >= rule.minArguments, "all arguments are there");
  demand(slot.argLength + kInHeaderSize <= kRawSize, "arguments fit");
  for (const double number : {slot.nodeid, slot.offset, slot.fh})
    demand(number >= -1 && number <= double{kMaxExact}, "numbers are exact");
  if (slot.nameOffset == 0)
    return;
  demand(slot.nameLength > 0 && slot.nameLength <= 255, "a name has a length");
  demand(slot.nameOffset + slot.nameLength < kRawSize, "a name is whole");
  demand(slot.raw[slot.nameOffset + slot.nameLength] == std::byte{0},
         "a name ends");
}

// Leaves in a slot what the input says; returns its ticket.
uint64_t reply(size_t i, std::span<const uint8_t> bytes) {
  const test::LaneMemory& memory = kit().memory;
  const auto ticket = static_cast<uint64_t>(memory.slot(i).ticket);
  memory.answerError(i, 0);
  auto* slot = reinterpret_cast<std::byte*>(&memory.slot(i));
  const size_t inSlot = std::min(bytes.size(), kReplyBytes);
  std::memcpy(slot + kReplyAt, bytes.data(), inSlot);
  std::memcpy(memory.extents(i), bytes.data() + inSlot,
              std::min<size_t>(bytes.size() - inSlot, kExtentsStride));
  return ticket;
}

// Fields of requests and replies.
const std::vector<uint64_t>& dictionary() {
  static const std::vector<uint64_t> values = [] {
    std::vector<uint64_t> all = {1,
                                 2,
                                 3,
                                 8,
                                 56,
                                 104,
                                 128,
                                 4096,
                                 kFileBytes,
                                 kFileBytes - 1,
                                 kRawSize,
                                 kInlineSize,
                                 kMaxExtents,
                                 kArenaSize,
                                 kFileArena,
                                 kit().file,
                                 kReplyInline,
                                 kReplyExtents,
                                 kReplyDeferred,
                                 uint64_t{5} << kInodeBits,
                                 static_cast<uint32_t>(-EIO)};
    for (uint32_t op = 0; op < 64; op++)
      all.push_back(op);
    return all;
  }();
  return values;
}

std::vector<size_t> recordsOf(const test::Input& input) {
  std::vector<size_t> starts;
  for (size_t at = 1; at + sizeof(Record) <= input.size();) {
    starts.push_back(at);
    Record record;
    std::memcpy(&record, input.data() + at, sizeof record);
    at += sizeof record + record.requestLength + record.replyLength;
  }
  return starts;
}

void changeRequests(test::Mutator& mutator,
                    test::Input& input,
                    const test::Input& other) {
  const auto starts = recordsOf(input);
  const auto others = recordsOf(other);
  if (starts.empty() || others.empty())
    return;
  const size_t begin = mutator.of(starts);
  Record record;
  std::memcpy(&record, input.data() + begin, sizeof record);
  const size_t request = begin + sizeof record;
  switch (mutator.pick(7)) {
    case 0: {  // All from one of the other parent's on.
      const size_t from = mutator.of(others);
      const test::Input copy(other.begin() + static_cast<ptrdiff_t>(from),
                             other.end());
      input.insert(input.begin() + static_cast<ptrdiff_t>(begin), copy.begin(),
                   copy.end());
      break;
    }
    case 1:  // Nothing from here on.
      input.resize(begin);
      break;
    case 2:  // Buffers of other lengths.
      mutator.putOne(input, begin, offsetof(Record, requestLength),
                     dictionary());
      if (mutator.oneIn(4))
        input[begin + offsetof(Record, more)] =
            static_cast<uint8_t>(mutator.pick(80));
      break;
    case 3:
    case 4:
      mutator.putOne(input, request, record.requestLength, dictionary());
      break;
    default:
      mutator.putOne(input, request + record.requestLength, record.replyLength,
                     dictionary());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1)
    return 0;
  Kit& k = kit();
  if ((data[0] & kMounted) != 0)
    k.service.session().resume();
  LanePort port;
  const auto queue =
      std::make_shared<Requests>(std::span(data + 1, size - 1), port);
  port.setQueue(1, queue);
  demand(port.attach(), "a port takes a lane");
  std::vector<uint64_t> tickets;
  {
    Lane lane(k.service, port, k.memory.bytes());
    const int n = lane.turn(0);
    demand(n >= 0 && static_cast<size_t>(n) <= queue->size(),
           "no more slots than requests");
    for (int i = 0; i < n; i++) {
      const auto slot = static_cast<size_t>(i);
      lookAt(k.memory.slot(slot));
      tickets.push_back(reply(slot, queue->replyOf(slot)));
    }
    // Some lanes die in the middle of a batch.
    const auto done =
        static_cast<uint32_t>(n - (data[0] & kLaneDies ? n / 2 : 0));
    demand(lane.turn(done) == 0, "nothing else is there");
  }
  for (const uint64_t ticket : tickets)
    k.service.completeDeferred(ticket, 0, {});
  demand(queue->allDone(), "nobody waits for an answer");
  demand(k.service.deferred().size() == 0, "nothing waits for ever");
  k.service.session().end();
  return 0;
}

int main(int argc, char** argv) {
  std::vector<test::Input> seeds;
  // Every opcode; each is answered with bytes, then with extents.
  for (uint32_t op = 0; op < 64; op++) {
    const OpcodeRule rule = ruleOf(op);
    test::Input input(1, kMounted);
    for (const uint32_t kind : {kReplyInline, kReplyExtents, kReplyDeferred}) {
      InHeader header{};
      header.len = sizeof header + rule.minArguments + 4u;
      header.opcode = op;
      header.unique = 2;
      header.nodeid = 1;
      Record record{4096, static_cast<uint16_t>(header.len),
                    kReplyBytes + 2 * sizeof(Extent), 0, 0};
      const auto append = [&](const void* from, size_t length) {
        const auto* bytes = static_cast<const uint8_t*>(from);
        input.insert(input.end(), bytes, bytes + length);
      };
      append(&record, sizeof record);
      append(&header, sizeof header);
      test::Input arguments(rule.minArguments + 4u, 'a');
      arguments.back() = 0;
      append(arguments.data(), arguments.size());
      Slot slot{};
      slot.kind = kind;
      slot.length = 104;
      slot.extentCount = 2;
      append(reinterpret_cast<const uint8_t*>(&slot) + kReplyAt, kReplyBytes);
      const Extent extents[] = {{kit().file, 1000, 17}, {kFileArena, 100, 5}};
      append(extents, sizeof extents);
    }
    seeds.push_back(input);
  }
  return test::fuzz(argc, argv, seeds, changeRequests);
}
