// Fuzzes the ring walker: the input is the guest's memory (rings, tables and
// buffers) and the record of what is in flight, and another thread may go on
// writing to it meanwhile. Whatever is taken is answered; memory errors are
// the sanitizer's.
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <thread>

#include "fuse/abi.h"
#include "test/fuzzer.h"
#include "vhost/queue_run.h"

namespace {

using namespace nydus;

constexpr uint64_t kMemory = 64 << 10;
constexpr uint64_t kUser = uint64_t{1} << 40;
constexpr uint16_t kSize = 16;
// Two regions with a hole between them.
constexpr uint64_t kHole = 0x8000;
constexpr uint64_t kHoleEnd = 0x9000;
// Where things are in guest memory; the input is copied to its start.
constexpr uint64_t kDescriptors = 0;
constexpr uint64_t kAvailable = 0x100;
constexpr uint64_t kUsed = 0x140;
constexpr uint64_t kTable = 0x200;
constexpr uint64_t kBuffers = 0x400;
constexpr uint64_t kImage = 0x600;

// What an input begins with.
struct Mode {
  uint8_t bits;
  uint8_t base;
};
static_assert(sizeof(Mode) == 2);
constexpr uint8_t kEventIndex = 1;
constexpr uint8_t kIndirect = 2;
constexpr uint8_t kLate = 4;
constexpr uint8_t kRacing = 8;
constexpr uint8_t kInflight = 16;
constexpr uint8_t kLog = 32;
constexpr uint8_t kMove = 64;
constexpr uint8_t kBase = 128;
// Behind the image: the part of the queue in the record of what is in flight.
const size_t kInflightBytes = InflightArea::bytesPerQueue(kSize);

GuestMemory::Table tableOf(int file, bool whole) {
  GuestMemory::Regions regions = {
      *GuestRegion::map({0, kHole, kUser, 0}, UniqueFd(::dup(file)))};
  if (whole) {
    regions.push_back(*GuestRegion::map(
        {kHoleEnd, kMemory - kHoleEnd, kUser + kHoleEnd, kHoleEnd},
        UniqueFd(::dup(file))));
  }
  return *GuestMemory::make(std::move(regions));
}

UniqueFd fileOf(uint64_t bytes) {
  UniqueFd file(::memfd_create("fuzz", MFD_CLOEXEC));
  test::demand(::ftruncate(file.get(), static_cast<off_t>(bytes)) == 0,
               "a file can be made");
  return file;
}

struct Guest : QueueOwner {
  Guest()
      : file(fileOf(kMemory)),
        memory(tableOf(file.get(), true)),
        lessMemory(tableOf(file.get(), false)),
        base(memory->regions()[0]->host()),
        inflight(*InflightArea::create(1, kSize, inflightFile)),
        log(*DirtyLog::map(4096, 0, fileOf(4096), kMemory)),
        writer([this] { scribble(); }) {}
  ~Guest() override {
    stop = true;
    race(true);
    writer.join();
  }
  void queueBroken(uint32_t, const std::string&) override {}
  void race(bool wanted) {
    racing = wanted;
    racing.notify_all();
  }
  // What a guest does that wants us to check one thing and use another.
  void scribble() {
    std::mt19937 random(1);
    while (!stop) {
      racing.wait(false);
      const size_t at = random() % kImage;
      __atomic_store_n(reinterpret_cast<uint8_t*>(base + at),
                       static_cast<uint8_t>(random()), __ATOMIC_RELAXED);
    }
  }

  UniqueFd file;
  GuestMemory::Table memory;
  GuestMemory::Table lessMemory;
  std::byte* base;
  UniqueFd inflightFile;
  std::shared_ptr<InflightArea> inflight;
  std::shared_ptr<const DirtyLog> log;
  QueueCounters counters;
  std::atomic<bool> stop{false};
  std::atomic<bool> racing{false};
  std::thread writer;
};

Guest& guest() {
  static Guest guest;
  return guest;
}

void answer(QueueRun& run, const Taken& taken) {
  const uint32_t index = taken.index;
  std::array<std::byte, 64> more;
  if (run.claim({&index, 1}) == 0)
    return;
  run.readMore(index, 30, more);
  static const std::vector<std::byte> body(5000, std::byte{0x42});
  Piece piece;
  piece.data = body.data();
  // Sometimes more than there is room for.
  piece.length =
      static_cast<uint32_t>(std::min<uint64_t>(taken.writable, body.size()));
  if (taken.writable >= kOutHeaderSize && (index & 4) == 0)
    piece.length =
        std::min<uint32_t>(piece.length, taken.writable - kOutHeaderSize);
  run.write(index, (index & 3) == 3 ? -EIO : 0, {&piece, 1});
  run.finish({&index, 1});
}

QueueSetup setupOf(Guest& g, Mode mode) {
  QueueSetup setup;
  setup.size = kSize;
  setup.eventIndex = (mode.bits & kEventIndex) != 0;
  setup.indirect = (mode.bits & kIndirect) != 0;
  setup.enabled = true;
  setup.addresses = {kUser + kDescriptors, kUser + kUsed, kUser + kAvailable,
                     kMemory - 4096, (mode.bits & kLog) != 0};
  setup.memory = g.memory;
  setup.counters = &g.counters;
  setup.owner = &g;
  if ((mode.bits & kBase) != 0)
    setup.base = static_cast<uint16_t>(mode.base << 8 | mode.base);
  if ((mode.bits & kInflight) != 0)
    setup.inflight = g.inflight;
  if ((mode.bits & kLog) != 0)
    setup.log = g.log;
  return setup;
}

const std::vector<uint64_t>& dictionary() {
  static const std::vector<uint64_t> values = {
      0,
      1,
      2,
      3,
      4,
      15,
      16,
      17,
      32,
      40,
      48,
      56,
      kDescriptors + 32,
      kAvailable,
      kUsed,
      kTable,
      kTable + 16,
      kBuffers,
      kBuffers + 40,
      kHole - 16,
      kHole,
      kHoleEnd,
      kHoleEnd - 8,
      kMemory - 1,
      kMemory,
      kUser,
      FUSE_READ,
      FUSE_FORGET,
      FUSE_BATCH_FORGET,
      kDescriptorNext,
      kDescriptorWrite,
      kDescriptorIndirect,
      kDescriptorNext | kDescriptorWrite};
  return values;
}

// Changes a descriptor, an index of a ring, a header or the record.
void changeMemory(test::Mutator& mutator,
                  test::Input& input,
                  const test::Input&) {
  if (input.size() < sizeof(Mode) + kImage)
    input.resize(sizeof(Mode) + kImage + kInflightBytes);
  const auto at = [](uint64_t place) { return sizeof(Mode) + place; };
  switch (mutator.pick(8)) {
    case 0:
      input[offsetof(Mode, bits)] = static_cast<uint8_t>(mutator.number());
      input[offsetof(Mode, base)] = static_cast<uint8_t>(mutator.number());
      break;
    case 1:
    case 2:
      mutator.putOne(
          input, at(kDescriptors + mutator.pick(kSize) * sizeof(Descriptor)),
          sizeof(Descriptor), dictionary());
      break;
    case 3:
    case 4:
      mutator.putOne(input, at(kTable + mutator.pick(8) * sizeof(Descriptor)),
                     sizeof(Descriptor), dictionary());
      break;
    case 5:
      mutator.putOne(input, at(kAvailable), kTable - kAvailable, dictionary());
      break;
    case 6:
      mutator.putOne(input, at(kBuffers), sizeof(InHeader), dictionary());
      break;
    default:
      mutator.putOne(input, at(kImage), input.size() - at(kImage),
                     dictionary());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Mode mode;
  if (size < sizeof mode)
    return 0;
  std::memcpy(&mode, data, sizeof mode);
  data += sizeof mode;
  size -= sizeof mode;
  Guest& g = guest();
  std::memset(g.base, 0, kHole);
  std::memcpy(g.base, data, std::min<size_t>(size, kImage));
  if ((mode.bits & kInflight) != 0 && size > kImage) {
    std::memcpy(g.inflight->part(0), data + kImage,
                std::min(size - kImage, kInflightBytes));
  }
  auto started = QueueRun::start(setupOf(g, mode));
  test::demand(static_cast<bool>(started), "a ring within memory starts");
  QueueRun& run = **started;
  g.race((mode.bits & kRacing) != 0);
  std::array<Taken, 8> taken;
  std::vector<Taken> held;
  for (int round = 0; round < 6; round++) {
    const size_t n = run.take(taken);
    for (size_t i = 0; i < n; i++) {
      test::demand(taken[i].index < kSize, "a request names its head");
      test::demand(
          taken[i].copied <= kRawSize && taken[i].copied <= taken[i].readable,
          "no more is copied than there is");
      if ((mode.bits & kLate) != 0 && i % 2 == 0) {
        held.push_back(taken[i]);
      } else {
        answer(run, taken[i]);
      }
    }
    if ((mode.bits & kMove) != 0)
      run.setMemory(round % 2 == 0 ? g.lessMemory : g.memory);
    if (!run.arm() && n == 0)
      break;
    run.disarm();
  }
  for (const Taken& late : held)
    answer(run, late);
  run.failOpen();
  test::demand(run.waitIdle(std::chrono::milliseconds(0)),
               "everything that was taken is handed back");
  run.close();
  g.race(false);
  return 0;
}

int main(int argc, char** argv) {
  const auto put = [](test::Input& to, uint64_t at, const auto& value) {
    std::memcpy(to.data() + sizeof(Mode) + at, &value, sizeof value);
  };
  std::vector<test::Input> seeds;
  for (uint32_t mode = 0; mode < 256; mode++) {
    test::Input input(sizeof(Mode) + kImage + kInflightBytes);
    input[offsetof(Mode, bits)] = static_cast<uint8_t>(mode);
    InHeader header{};
    header.len = 56;
    header.opcode = FUSE_GETATTR;
    header.unique = 2;
    put(input, kBuffers, header);
    // Chains of two at 0 and 2, an indirect one at 4.
    for (const uint16_t head : {uint16_t{0}, uint16_t{2}}) {
      put(input, kDescriptors + head * sizeof(Descriptor),
          Descriptor{kBuffers, 56, kDescriptorNext,
                     static_cast<uint16_t>(head + 1)});
      put(input, kDescriptors + (head + 1u) * sizeof(Descriptor),
          Descriptor{kHole - 120, 120, kDescriptorWrite, 0});
    }
    put(input, kDescriptors + 3 * sizeof(Descriptor),
        Descriptor{kHoleEnd, 4096, kDescriptorWrite, 0});
    put(input, kDescriptors + 4 * sizeof(Descriptor),
        Descriptor{kTable, 48, kDescriptorIndirect, 0});
    put(input, kTable, Descriptor{kBuffers, 40, kDescriptorNext, 1});
    put(input, kTable + sizeof(Descriptor),
        Descriptor{kBuffers + 40, 16, kDescriptorNext, 2});
    put(input, kTable + 2 * sizeof(Descriptor),
        Descriptor{kHoleEnd + 4096, 300, kDescriptorWrite, 0});
    put(input, kAvailable + 2, uint16_t{3});
    put(input, kAvailable + 4, std::array<uint16_t, 3>{0, 2, 4});
    // Version 1, 16 entries; heads 2 and 4 are in flight.
    put(input, kImage + 8, std::array<uint16_t, 2>{1, kSize});
    put(input, kImage + 16 + 2 * 16, uint8_t{1});
    put(input, kImage + 16 + 4 * 16, uint8_t{1});
    seeds.push_back(input);
  }
  return test::fuzz(argc, argv, seeds, changeMemory);
}
