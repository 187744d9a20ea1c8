#include "test/frontend/bench_slot.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "fuse/abi.h"

namespace nydus::frontend {
namespace {

constexpr uint32_t kPageSize = 4096;

// Places within a slot's block.
constexpr uint64_t kHeaderAt = 0;
constexpr uint64_t kArgumentsAt = 64;
constexpr uint64_t kMaxArguments = 448;
constexpr uint64_t kReplyAt = 512;
constexpr uint64_t kSmallBodyAt = 576;
constexpr uint64_t kTableAt = 1024;

// Reply bodies (FUSE 7.45): fuse_attr_out, fuse_entry_out.
constexpr uint32_t kAttrOut = 104;
constexpr uint32_t kEntryOut = 128;

struct GetattrIn {
  uint32_t flags;
  uint32_t dummy;
  uint64_t fh;
};
static_assert(sizeof(GetattrIn) == 16);

struct ReadIn {
  uint64_t fh;
  uint64_t offset;
  uint32_t size;
  uint32_t readFlags;
  uint64_t lockOwner;
  uint32_t flags;
  uint32_t padding;
};
static_assert(sizeof(ReadIn) == 40);

// A record of READDIRPLUS: fuse_entry_out, fuse_dirent, name, padding to 8.
struct Direntplus {
  std::byte entry[kEntryOut];
  uint64_t ino;
  uint64_t off;
  uint32_t namelen;
  uint32_t type;
};
static_assert(sizeof(Direntplus) == 152);

}  // namespace

BenchSlot::BenchSlot(GuestSpace& space,
                     FuseQueue& queue,
                     const BenchOptions& options)
    : space_(space), queue_(queue), size_(options.size) {
  const bool paged = options.kind == BenchKind::kRead ||
                     options.kind == BenchKind::kSequential ||
                     options.kind == BenchKind::kReaddirplus;
  const uint32_t count = paged ? (size_ + kPageSize - 1) / kPageSize : 1;
  const uint32_t tableBytes = (3 + count) * sizeof(RingDescriptor);
  blockBytes_ = kTableAt + tableBytes;
  const auto block = space.allocate(blockBytes_, 64);
  if (!block) {
    throw std::invalid_argument("the guest has too little memory for the load");
  }
  block_ = *block;
  for (uint32_t i = 0; paged && i < count; i++) {
    const auto page = space.allocate(kPageSize, kPageSize);
    if (!page) {
      throw std::invalid_argument(
          "the guest has too little memory for the load");
    }
    pages_.push_back(*page);
  }
  // Pages of a guest's page cache do not follow each other.
  std::reverse(pages_.begin(), pages_.end());
  scratch_.resize(paged ? size_ : 0);
  const std::lock_guard lock(queue.lock());
  const auto head = queue.ring().addIndirect(block_ + kTableAt, tableBytes);
  if (!head) {
    throw std::invalid_argument("the depth is more than the queue's size");
  }
  head_ = *head;
}

BenchSlot::~BenchSlot() {
  for (const uint64_t page : pages_) {
    space_.release(page, kPageSize);
  }
  space_.release(block_, blockBytes_);
  const std::lock_guard lock(queue_.lock());
  queue_.ring().free(head_);
}

void BenchSlot::header(uint64_t unique,
                       uint32_t opcode,
                       uint64_t nodeid,
                       uint32_t arguments) noexcept {
  InHeader header = {};
  header.len = static_cast<uint32_t>(sizeof header) + arguments;
  header.opcode = opcode;
  header.unique = unique_ = unique;
  header.nodeid = nodeid;
  std::memcpy(space_.host(block_ + kHeaderAt), &header, sizeof header);
}

void BenchSlot::table(uint32_t arguments, uint32_t body) noexcept {
  if (arguments == tableArguments_ && body == tableBody_) {
    return;
  }
  tableArguments_ = arguments;
  tableBody_ = body;
  const Buffer readable[] = {{block_ + kHeaderAt, sizeof(InHeader)},
                             {block_ + kArgumentsAt, arguments}};
  const Buffer out = {block_ + kReplyAt, sizeof(OutHeader)};
  std::byte* entries = space_.host(block_ + kTableAt);
  std::array<Buffer, 2> small = {out, {block_ + kSmallBodyAt, body}};
  if (pages_.empty()) {
    DriverRing::writeTable(entries, readable, small);
    return;
  }
  std::vector<Buffer> scattered = {out};
  for (const uint64_t page : pages_) {
    scattered.push_back({page, std::min(body, kPageSize)});
    body -= scattered.back().length;
  }
  DriverRing::writeTable(entries, readable, scattered);
}

void BenchSlot::getattr(uint64_t unique, const BenchTarget& target) noexcept {
  const GetattrIn in = {};
  header(unique, FUSE_GETATTR, target.nodeid, sizeof in);
  std::memcpy(space_.host(block_ + kArgumentsAt), &in, sizeof in);
  table(sizeof in, kAttrOut);
}

void BenchSlot::lookup(uint64_t unique, const BenchTarget& target) noexcept {
  const auto length = static_cast<uint32_t>(
      std::min<uint64_t>(target.name.size() + 1, kMaxArguments));
  header(unique, FUSE_LOOKUP, target.nodeid, length);
  std::memcpy(space_.host(block_ + kArgumentsAt), target.name.c_str(), length);
  table(length, kEntryOut);
}

void BenchSlot::read(uint64_t unique,
                     uint32_t opcode,
                     const BenchTarget& target,
                     uint64_t offset) noexcept {
  ReadIn in = {};
  in.fh = target.fh;
  in.offset = offset;
  in.size = size_;
  header(unique, opcode, target.nodeid, sizeof in);
  std::memcpy(space_.host(block_ + kArgumentsAt), &in, sizeof in);
  table(sizeof in, size_);
}

uint32_t BenchSlot::replyLength() const noexcept {
  OutHeader out;
  std::memcpy(&out, space_.host(block_ + kReplyAt), sizeof out);
  return out.len;
}

int64_t BenchSlot::bodyLength() const noexcept {
  OutHeader out;
  std::memcpy(&out, space_.host(block_ + kReplyAt), sizeof out);
  if (out.error != 0 || out.unique != unique_ || out.len < sizeof out) {
    return -1;
  }
  return int64_t{out.len} - int64_t{sizeof out};
}

uint64_t BenchSlot::lastCookie(uint32_t bodyLength) noexcept {
  // Records straddle the scattered pages.
  const uint32_t length = std::min(bodyLength, size_);
  for (uint32_t at = 0; at < length; at += kPageSize) {
    std::memcpy(scratch_.data() + at, space_.host(pages_[at / kPageSize]),
                std::min(length - at, kPageSize));
  }
  uint64_t cookie = 0;
  Direntplus record;
  for (uint64_t at = 0; at + sizeof record <= length;) {
    std::memcpy(&record, scratch_.data() + at, sizeof record);
    cookie = record.off;
    at += (sizeof record + uint64_t{record.namelen} + 7) & ~uint64_t{7};
  }
  return cookie;
}

}  // namespace nydus::frontend
