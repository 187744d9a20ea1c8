#include "test/frontend/guest_space.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <stdexcept>

#include "sys/system_error.h"

namespace nydus::frontend {
namespace {

// Adds [start, start + length) to a map of disjoint ranges, merging it with
// ranges that touch it.
void insertRange(std::map<uint64_t, uint64_t>& ranges,
                 uint64_t start,
                 uint64_t length) {
  auto next = ranges.lower_bound(start);
  if (next != ranges.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == start) {
      start = before->first;
      length += before->second;
      ranges.erase(before);
    }
  }
  if (next != ranges.end() && start + length == next->first) {
    length += next->second;
    ranges.erase(next);
  }
  ranges.emplace(start, length);
}

}  // namespace

GuestSpace::GuestSpace(uint64_t span)
    : space_(Mmap::map(span,
                       PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1,
                       0)) {
  if (!space_) {
    throw SystemError(errno, "mmap");
  }
}

GuestSpace::~GuestSpace() {
  for (const FaultGuard::Id id : guards_) {
    FaultGuard::remove(id);
  }
}

size_t GuestSpace::addFile(uint64_t size) {
  UniqueFd fd(::memfd_create("guest", MFD_CLOEXEC));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    throw SystemError(errno, "memfd_create");
  }
  files_.push_back(std::move(fd));
  return files_.size() - 1;
}

void GuestSpace::addRegion(size_t file,
                           uint64_t gpa,
                           uint64_t size,
                           uint64_t offset) {
  if (size == 0 || gpa > space_.size() || size > space_.size() - gpa) {
    throw std::invalid_argument("the region leaves the address space");
  }
  const std::lock_guard lock(lock_);
  const auto next = regions_.lower_bound(gpa);
  const bool overlaps =
      (next != regions_.end() && next->first < gpa + size) ||
      (next != regions_.begin() &&
       std::prev(next)->first + std::prev(next)->second > gpa);
  if (overlaps) {
    throw std::invalid_argument("the region overlaps another");
  }
  if (::mmap(host(gpa), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             fileFd(file), static_cast<off_t>(offset)) == MAP_FAILED) {
    throw SystemError(errno, "mmap");
  }
  // Hostile tests shrink these files.
  guards_.push_back(FaultGuard::add(host(gpa), size));
  insertRange(regions_, gpa, size);
  // Address 0 stays unused: it is what a forgotten field holds.
  const uint64_t lead = gpa == 0 ? 4096 : 0;
  if (size > lead) {
    insertRange(free_, gpa + lead, size - lead);
  }
}

bool GuestSpace::covers(uint64_t gpa, uint64_t length) const {
  const std::lock_guard lock(lock_);
  const auto after = regions_.upper_bound(gpa);
  if (after == regions_.begin()) {
    return false;
  }
  const auto [start, size] = *std::prev(after);
  return gpa - start <= size && length <= size - (gpa - start);
}

std::optional<uint64_t> GuestSpace::allocate(uint64_t length,
                                             uint64_t alignment) {
  const std::lock_guard lock(lock_);
  for (const auto& [start, size] : free_) {
    const uint64_t at = (start + alignment - 1) & ~(alignment - 1);
    const uint64_t lead = at - start;
    if (lead > size || length > size - lead) {
      continue;
    }
    const uint64_t tail = size - lead - length;
    const uint64_t from = start;
    free_.erase(from);
    if (lead > 0) {
      free_.emplace(from, lead);
    }
    if (tail > 0) {
      free_.emplace(at + length, tail);
    }
    std::memset(host(at), 0, length);
    return at;
  }
  return std::nullopt;
}

void GuestSpace::release(uint64_t gpa, uint64_t length) {
  const std::lock_guard lock(lock_);
  insertRange(free_, gpa, length);
}

}  // namespace nydus::frontend
