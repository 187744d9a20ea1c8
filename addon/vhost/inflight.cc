#include "vhost/inflight.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/bytes.h"

namespace nydus {
namespace {

constexpr uint16_t kVersion = 1;
constexpr uint64_t kPartAlign = 64;

template <typename T>
T load(const T* from) {
  return __atomic_load_n(from, __ATOMIC_RELAXED);
}
// In program order: whoever reads the area after our death sees a prefix.
template <typename T>
void store(T* to, T value) {
  __atomic_store_n(to, value, __ATOMIC_RELEASE);
}

}  // namespace

uint64_t InflightArea::bytesPerQueue(uint16_t queueSize) noexcept {
  const uint64_t bytes = sizeof(InflightQueue::Header) +
                         uint64_t{queueSize} * sizeof(InflightQueue::Entry);
  return (bytes + kPartAlign - 1) / kPartAlign * kPartAlign;
}

Result<std::shared_ptr<InflightArea>> InflightArea::create(uint16_t queues,
                                                           uint16_t queueSize,
                                                           UniqueFd& fd) {
  const uint64_t size = bytesPerQueue(queueSize) * queues;
  fd = UniqueFd(
      ::memfd_create("nydus-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return Failure{std::string("inflight area: memfd: ") +
                   std::strerror(errno)};
  }
  return map(size, 0, queues, queueSize, fd.duplicate());
}

Result<std::shared_ptr<InflightArea>> InflightArea::map(uint64_t size,
                                                        uint64_t offset,
                                                        uint16_t queues,
                                                        uint16_t queueSize,
                                                        UniqueFd fd) {
  struct stat info = {};
  if (queues == 0 || queueSize == 0 ||
      size < bytesPerQueue(queueSize) * queues || wraps(offset, size) ||
      ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) ||
      !fits(offset, size, static_cast<uint64_t>(info.st_size))) {
    return Failure{"inflight area: " + std::to_string(size) +
                   " bytes do not hold " + std::to_string(queues) +
                   " queues of " + std::to_string(queueSize)};
  }
  const size_t lead = offset % static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  if (lead % alignof(uint64_t) != 0) {
    return Failure{"inflight area: its offset is not aligned"};
  }
  Mmap map = Mmap::map(lead + size, PROT_READ | PROT_WRITE, MAP_SHARED,
                       fd.get(), static_cast<off_t>(offset - lead));
  if (!map) {
    return Failure{std::string("inflight area: mmap: ") + std::strerror(errno)};
  }
  struct Public : InflightArea {
    Public(Mmap map, size_t lead, uint64_t size, uint16_t queues, uint16_t n)
        : InflightArea(std::move(map), lead, size, queues, n) {}
  };
  return std::shared_ptr<InflightArea>(
      std::make_shared<Public>(std::move(map), lead, size, queues, queueSize));
}

InflightArea::InflightArea(Mmap map,
                           size_t lead,
                           uint64_t size,
                           uint16_t queues,
                           uint16_t queueSize)
    : map_(std::move(map)),
      base_(map_.data() + lead),
      size_(size),
      queues_(queues),
      queueSize_(queueSize),
      guard_(FaultGuard::add(map_.data(), map_.size())) {}

InflightArea::~InflightArea() {
  FaultGuard::remove(guard_);
}

std::byte* InflightArea::part(uint32_t queue) const noexcept {
  return queue < queues_ ? base_ + bytesPerQueue(queueSize_) * queue : nullptr;
}

InflightQueue::InflightQueue(std::shared_ptr<InflightArea> area,
                             uint32_t queue,
                             uint16_t queueSize)
    : area_(std::move(area)), size_(queueSize) {
  if (area_ != nullptr && queueSize <= area_->queueSize()) {
    part_ = area_->part(queue);
  }
}

InflightQueue::Header* InflightQueue::header() const noexcept {
  return reinterpret_cast<Header*>(part_);
}

InflightQueue::Entry* InflightQueue::entry(uint16_t head) const noexcept {
  return reinterpret_cast<Entry*>(part_ + sizeof(Header)) + head;
}

InflightQueue::Recovered InflightQueue::recover(uint16_t usedIndex) {
  Recovered out;
  if (part_ == nullptr)
    return out;
  out.resumed = load(&header()->version) == kVersion &&
                load(&header()->descriptors) >= size_ &&
                load(&header()->descriptors) <= area_->queueSize();
  if (!out.resumed) {
    std::memset(part_, 0, InflightArea::bytesPerQueue(area_->queueSize()));
    store(&header()->descriptors, area_->queueSize());
    store(&header()->usedIndex, usedIndex);
    store(&header()->version, kVersion);
    return out;
  }
  // A batch whose used index was published, but whose entries were not cleared.
  const auto batch =
      static_cast<uint16_t>(usedIndex - load(&header()->usedIndex));
  uint16_t head = load(&header()->lastBatchHead);
  for (uint16_t i = 0; i < batch && i < size_ && head < size_; i++) {
    store(&entry(head)->inflight, uint8_t{0});
    head = load(&entry(head)->next);
  }
  store(&header()->usedIndex, usedIndex);

  std::vector<std::pair<uint64_t, uint16_t>> open;
  for (uint16_t i = 0; i < size_; i++) {
    if (load(&entry(i)->inflight) == 0)
      continue;
    const uint64_t counter = load(&entry(i)->counter);
    open.emplace_back(counter, i);
    counter_ = std::max(counter_, counter);
  }
  std::sort(open.begin(), open.end());
  for (const auto& [counter, i] : open)
    out.heads.push_back(i);
  return out;
}

void InflightQueue::taken(uint16_t head) noexcept {
  if (part_ == nullptr)
    return;
  store(&entry(head)->counter, ++counter_);
  store(&entry(head)->inflight, uint8_t{1});
}

void InflightQueue::finishing(uint16_t head) noexcept {
  if (part_ == nullptr)
    return;
  store(&entry(head)->next, load(&header()->lastBatchHead));
  store(&header()->lastBatchHead, head);
}

void InflightQueue::finished(uint16_t head) noexcept {
  if (part_ != nullptr)
    store(&entry(head)->inflight, uint8_t{0});
}

void InflightQueue::settled(uint16_t usedIndex) noexcept {
  if (part_ != nullptr)
    store(&header()->usedIndex, usedIndex);
}

}  // namespace nydus
