// Requests about memory: the guest's, and the log of what we wrote to it.
#include <thread>
#include <utility>

#include "vhost/connection.h"

namespace nydus {
namespace {

using std::chrono::milliseconds;

// How long a change of the table waits until nobody uses the old one. Longer
// only for requests that wait for the network; their mappings stay valid.
constexpr milliseconds kPinsLimit{2000};
constexpr milliseconds kPinsSlice{1};

}  // namespace

// Rings look their areas up again; requests in flight keep the old table.
void Connection::useMemory(GuestMemory::Table table) {
  context_.memory = std::move(table);
  for (const auto& ring : rings_)
    ring->setMemory(context_.memory);
}

// The acknowledgement says that nobody touches the old regions any more.
void Connection::replaceMemory(GuestMemory::Table table) {
  const std::weak_ptr<const GuestMemory> old = context_.memory;
  useMemory(std::move(table));
  const auto end = std::chrono::steady_clock::now() + kPinsLimit;
  while (!old.expired() && std::chrono::steady_clock::now() < end &&
         !host_.stopping()) {
    std::this_thread::sleep_for(kPinsSlice);
  }
}

Status Connection::setMemoryTable(Message& message) {
  const auto header = message.as<MemoryTable>();
  if (header.count > kMaxTableRegions ||
      message.payload.size() !=
          sizeof header + header.count * sizeof(RegionSpec) ||
      message.fds.size() != header.count) {
    if (message.fds.empty() && header.count > 0)
      reportMissingMemory();
    return Failure{std::to_string(header.count) + " regions in " +
                   std::to_string(message.payload.size()) + " bytes with " +
                   std::to_string(message.fds.size()) + " descriptors"};
  }
  GuestMemory::Regions regions;
  for (uint32_t i = 0; i < header.count; i++) {
    const auto spec = loadLe<RegionSpec>(
        message.payload.data() + sizeof header + i * sizeof(RegionSpec));
    auto region = GuestRegion::map(spec, std::move(message.fds[i]));
    if (!region)
      return region.failure();
    regions.push_back(*region);
  }
  auto table = GuestMemory::make(std::move(regions));
  if (!table)
    return table.failure();
  replaceMemory(*table);
  return Done{};
}

Status Connection::addRegion(Message& message) {
  const auto request = message.as<MemoryRegion>();
  auto region =
      GuestRegion::map(request.region, std::move(message.fds.front()));
  if (!region)
    return region.failure();
  auto table = GuestMemory::with(*context_.memory, *region);
  if (!table)
    return table.failure();
  useMemory(*table);
  return Done{};
}

Status Connection::removeRegion(const Message& message) {
  const auto request = message.as<MemoryRegion>();
  auto table = GuestMemory::without(*context_.memory, request.region);
  if (!table)
    return table.failure();
  replaceMemory(*table);
  return Done{};
}

Status Connection::setLogBase(Message& message) {
  const auto request = message.as<LogDescription>();
  auto log =
      DirtyLog::map(request.size, request.offset,
                    std::move(message.fds.front()), context_.memory->end());
  if (!log) {
    complain("SET_LOG_BASE: " + log.reason());
    return answer64(message, 1);
  }
  log_ = *log;
  updateLog();
  return answer64(message, 0);
}

void Connection::updateLog() {
  const bool on = (context_.features & kFeatureLogAll) != 0;
  context_.log = on ? log_ : nullptr;
  for (const auto& ring : rings_)
    ring->setLog(context_.log);
}

void Connection::reportMissingMemory() {
  host_.options.event(
      {EventLevel::kError, "memory",
       "the front-end shares no guest memory, so that no request can be read; "
       "with QEMU, add `-object memory-backend-memfd,id=mem,size=<RAM "
       "size>,share=on -numa node,memdev=mem` to its command line (the size is "
       "that of -m)"});
}

}  // namespace nydus
