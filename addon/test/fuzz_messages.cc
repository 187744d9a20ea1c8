// Fuzzes the control messages of vhost-user: a connection is fed a stream of
// messages with descriptors of several kinds, whole and broken.
//
// Input: records and their payloads.
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <array>
#include <optional>

#include "test/fuzzer.h"
#include "vhost/connection.h"
#include "vhost/inflight.h"

namespace {

using namespace nydus;

constexpr uint64_t kMemory = 1u << 20;
// Stands for the address at which the front-end has its memory.
constexpr uint64_t kUser = uint64_t{1} << 40;

struct Kit : QueueOwner {
  Kit() : memory(::memfd_create("guest", MFD_CLOEXEC)), service(0) {
    ::signal(SIGPIPE, SIG_IGN);
    if (::ftruncate(memory.get(), kMemory) != 0)
      std::abort();
    options.tag = "tag";
    options.event = [](const DeviceEvent&) {};
    options.drainLimit = std::chrono::milliseconds(0);
    host.emplace(Connection::Host{options,
                                  service,
                                  *this,
                                  // Waits for nothing: no other thread is here.
                                  [] { return stopping; },
                                  {}});
    for (uint32_t i = 0; i < 3; i++) {
      host->places.push_back(
          {i, port, service, counters[i], *this, options.event});
    }
  }
  void queueBroken(uint32_t, const std::string&) override {}

  static inline bool stopping = false;
  UniqueFd memory;
  DeviceOptions options;
  FuseService service;
  LanePort port;
  std::array<QueueCounters, 3> counters;
  std::optional<Connection::Host> host;
};

Kit& kit() {
  static Kit kit;
  return kit;
}

// Descriptors that a front-end might attach.
UniqueFd descriptor(uint8_t kind) {
  switch (kind % 4) {
    case 0:
      return UniqueFd(::dup(kit().memory.get()));
    case 1:
      return UniqueFd(::eventfd(0, EFD_CLOEXEC));
    case 2: {
      int ends[2] = {-1, -1};
      if (::pipe2(ends, O_CLOEXEC) != 0)
        std::abort();
      ::close(ends[1]);
      return UniqueFd(ends[0]);
    }
    default:
      return UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  }
}

void send(int socket, const std::vector<uint8_t>& bytes, uint8_t fds) {
  std::vector<UniqueFd> held;
  std::array<int, 8> numbers{};
  const size_t count = fds & 7u;
  for (size_t i = 0; i < count; i++) {
    held.push_back(descriptor(static_cast<uint8_t>((fds >> 3) + i)));
    numbers[i] = held.back().get();
  }
  iovec vector = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof numbers)> control{};
  if (count != 0) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(item), numbers.data(), count * sizeof(int));
  }
  ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void discardReplies(int socket) {
  std::array<std::byte, 8192> bytes;
  while (::recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
  }
}

// One message of an input, its payload behind it.
struct Record {
  uint8_t request;
  // The lower half are the message's flags; the upper one says what is wrong
  // with it.
  uint8_t flags;
  // Lower 3 bits: how many descriptors; the others: of which kinds.
  uint8_t fds;
  uint8_t sizeLow;
  uint8_t sizeHigh;
  [[nodiscard]] size_t size() const { return sizeLow | sizeHigh << 8; }
};
static_assert(sizeof(Record) == 5);
constexpr uint8_t kWrongFlags = 5;
constexpr uint8_t kWrongSize = 7;
constexpr uint8_t kAsking = kFlagVersion | kFlagNeedReply;

void append(test::Input& to,
            uint32_t request,
            const void* payload,
            size_t size,
            uint8_t fds) {
  const Record record = {static_cast<uint8_t>(request), kAsking, fds,
                         static_cast<uint8_t>(size),
                         static_cast<uint8_t>(size >> 8)};
  const auto* head = reinterpret_cast<const uint8_t*>(&record);
  to.insert(to.end(), head, head + sizeof record);
  const auto* bytes = static_cast<const uint8_t*>(payload);
  to.insert(to.end(), bytes, bytes + size);
}
template <typename T>
void append(test::Input& to,
            uint32_t request,
            const T& payload,
            uint8_t fds = 0) {
  append(to, request, &payload, sizeof payload, fds);
}

// Where the records of an input begin.
std::vector<size_t> recordsOf(const test::Input& input) {
  std::vector<size_t> starts;
  size_t at = 0;
  while (at + sizeof(Record) <= input.size()) {
    starts.push_back(at);
    Record record;
    std::memcpy(&record, input.data() + at, sizeof record);
    at += sizeof record + record.size();
  }
  return starts;
}

std::pair<size_t, size_t> recordAt(const test::Input& input, size_t start) {
  Record record;
  std::memcpy(&record, input.data() + start, sizeof record);
  return {start, std::min(start + sizeof record + record.size(), input.size())};
}

// Values that mean something to a back-end.
const std::vector<uint64_t>& dictionary() {
  static const std::vector<uint64_t> values = [] {
    std::vector<uint64_t> all = {0,
                                 1,
                                 2,
                                 3,
                                 0x100,
                                 0x101,
                                 16,
                                 64,
                                 1024,
                                 4096,
                                 kMemory - 4096,
                                 kMemory,
                                 kFeatures,
                                 kFeatures & ~kFeatureProtocol,
                                 kFeatureVersion1,
                                 kProtocolFeatures,
                                 InflightArea::bytesPerQueue(64)};
    for (const uint64_t at : {uint64_t{0}, kMemory / 2, kMemory})
      for (const uint64_t offset :
           {uint64_t{0}, uint64_t{0x1000}, ~uint64_t{15}})
        all.push_back(kUser + at + offset);
    return all;
  }();
  return values;
}

void changeRecords(test::Mutator& mutator,
                   test::Input& input,
                   const test::Input& other) {
  const auto starts = recordsOf(input);
  const auto others = recordsOf(other);
  if (starts.empty() || others.empty())
    return;
  const auto [begin, end] = recordAt(input, mutator.of(starts));
  const auto at = [&](size_t i) {
    return input.begin() + static_cast<ptrdiff_t>(i);
  };
  const size_t payload = begin + sizeof(Record);
  switch (mutator.pick(8)) {
    case 0: {  // A record of the other parent.
      const auto [from, to] = recordAt(other, mutator.of(others));
      const test::Input copy(other.begin() + static_cast<ptrdiff_t>(from),
                             other.begin() + static_cast<ptrdiff_t>(to));
      input.insert(at(begin), copy.begin(), copy.end());
      break;
    }
    case 1:
      input.erase(at(begin), at(end));
      break;
    case 2: {  // Twice.
      const test::Input copy(at(begin), at(end));
      input.insert(at(end), copy.begin(), copy.end());
      break;
    }
    case 3:  // Another request with the same payload.
      input[begin] = static_cast<uint8_t>(
          kRequestRules[mutator.pick(std::size(kRequestRules))].request);
      break;
    case 4:  // Other descriptors.
      input[begin + offsetof(Record, fds)] =
          static_cast<uint8_t>(mutator.number());
      break;
    case 5:
      if (mutator.oneIn(4))
        input[begin + offsetof(Record, flags)] =
            static_cast<uint8_t>(mutator.number());
      break;
    default:
      mutator.putOne(input, payload, end - std::min(payload, end),
                     dictionary());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    std::abort();
  }
  const UniqueFd peer(ends[0]);
  Kit::stopping = false;
  Connection connection(UniqueFd(ends[1]), *kit().host);
  bool open = true;
  while (open && size >= sizeof(Record)) {
    Record record;
    std::memcpy(&record, data, sizeof record);
    data += sizeof record;
    size -= sizeof record;
    const uint8_t wrong = record.flags >> 4;
    const size_t present = std::min(record.size(), size);
    MessageHeader header{
        record.request, record.flags & 0xfu,
        static_cast<uint32_t>(wrong == kWrongSize ? record.size() : present)};
    if (wrong == kWrongFlags)
      header.flags |= 0x100;
    std::vector<uint8_t> bytes(sizeof header + present);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::copy_n(data, present, bytes.begin() + sizeof header);
    data += present;
    size -= present;
    send(peer.get(), bytes, record.fds);
    open = connection.serve();
    discardReplies(peer.get());
  }
  // Nobody waits for threads that do not exist.
  Kit::stopping = true;
  return 0;
}

int main(int argc, char** argv) {
  std::vector<test::Input> seeds;
  // Every request with zeros as payload.
  for (const RequestRule& rule : kRequestRules) {
    const std::vector<uint8_t> zeros(rule.maxSize);
    test::Input input;
    append(input, SET_PROTOCOL_FEATURES, uint64_t{kProtocolFeatures});
    append(input, rule.request, zeros.data(), zeros.size(), 1);
    seeds.push_back(input);
  }
  // A start as QEMU does it.
  test::Input start;
  append(start, SET_PROTOCOL_FEATURES, uint64_t{kProtocolFeatures});
  append(start, SET_FEATURES, uint64_t{kFeatures});
  append(start, ADD_MEM_REG, MemoryRegion{0, {0, kMemory, kUser, 0}}, 1);
  append(start, SET_LOG_BASE, LogDescription{4096, 0}, 1);
  for (uint32_t i = 0; i < 3; i++) {
    const uint64_t at = kUser + i * 0x10000;
    append(start, SET_VRING_NUM, VringState{i, 64});
    append(start, SET_VRING_BASE, VringState{i, 0});
    append(start, SET_VRING_ADDR,
           VringAddress{i, 1, at, at + 0x2000, at + 0x1000, 0});
    append(start, SET_VRING_CALL, uint64_t{i}, 9);
    append(start, SET_VRING_KICK, uint64_t{i}, 9);
    append(start, SET_VRING_ENABLE, VringState{i, 1});
  }
  seeds.push_back(start);
  for (uint32_t i = 0; i < 3; i++)
    append(start, GET_VRING_BASE, VringState{i, 0});
  seeds.push_back(start);
  append(start, REM_MEM_REG, MemoryRegion{0, {0, kMemory, kUser, 0}});
  append(start, SET_STATUS, uint64_t{0});
  seeds.push_back(start);
  // As others do it: a table, and a record of what is in flight.
  test::Input other;
  append(other, SET_PROTOCOL_FEATURES, uint64_t{kProtocolFeatures});
  append(other, SET_FEATURES, uint64_t{kFeatures});
  struct {
    MemoryTable header{2, 0};
    RegionSpec regions[2] = {
        {0, kMemory / 2, kUser, 0},
        {kMemory / 2, kMemory / 2, kUser + kMemory / 2, kMemory / 2}};
  } table;
  append(other, SET_MEM_TABLE, table, 2);
  const InflightDescription inflight{InflightArea::bytesPerQueue(64) * 3, 0, 3,
                                     64, 0};
  append(other, GET_INFLIGHT_FD, inflight);
  append(other, SET_INFLIGHT_FD, inflight, 1);
  append(other, GET_CONFIG, ConfigHeader{0, 0, 0});
  seeds.push_back(other);
  return test::fuzz(argc, argv, seeds, changeRecords);
}
