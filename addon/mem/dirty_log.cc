#include "mem/dirty_log.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/bytes.h"

namespace nydus {
namespace {

constexpr unsigned kPageShift = 12;

bool enough(uint64_t size, uint64_t memoryEnd) {
  return memoryEnd == 0 || ((memoryEnd - 1) >> kPageShift) / 8 < size;
}

}  // namespace

Result<std::shared_ptr<const DirtyLog>> DirtyLog::map(uint64_t size,
                                                      uint64_t offset,
                                                      UniqueFd fd,
                                                      uint64_t memoryEnd) {
  struct stat info = {};
  if (size == 0 || wraps(offset, size)) {
    return Failure{"dirty log: bad size " + std::to_string(size)};
  }
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) ||
      !fits(offset, size, static_cast<uint64_t>(info.st_size))) {
    return Failure{"dirty log: its descriptor is not a file of " +
                   std::to_string(size) + " bytes at " +
                   std::to_string(offset)};
  }
  if (!enough(size, memoryEnd)) {
    return Failure{"dirty log: " + std::to_string(size) +
                   " bytes do not cover the guest's memory"};
  }
  const size_t lead = offset % static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  Mmap mapping = Mmap::map(lead + size, PROT_READ | PROT_WRITE, MAP_SHARED,
                           fd.get(), static_cast<off_t>(offset - lead));
  if (!mapping)
    return Failure{std::string("dirty log: mmap: ") + std::strerror(errno)};
  struct Public : DirtyLog {
    Public(Mmap mapping, size_t lead, uint64_t size)
        : DirtyLog(std::move(mapping), lead, size) {}
  };
  return std::shared_ptr<const DirtyLog>(
      std::make_shared<Public>(std::move(mapping), lead, size));
}

DirtyLog::DirtyLog(Mmap mapping, size_t lead, uint64_t size)
    : mapping_(std::move(mapping)),
      bits_(mapping_.data() + lead),
      size_(size),
      guard_(FaultGuard::add(mapping_.data(), mapping_.size())) {}

DirtyLog::~DirtyLog() {
  FaultGuard::remove(guard_);
}

void DirtyLog::mark(uint64_t gpa, uint64_t length) const noexcept {
  if (length == 0 || wraps(gpa, length - 1))
    return;
  const uint64_t last = (gpa + length - 1) >> kPageShift;
  for (uint64_t page = gpa >> kPageShift; page <= last; page++) {
    if (page / 8 >= size_)
      return;
    auto* byte = reinterpret_cast<uint8_t*>(bits_ + page / 8);
    const auto bit = static_cast<uint8_t>(1u << (page % 8));
    // Other processes write here too. No look whether the bit is set already:
    // it could be cleared, and the page copied, before our data is visible.
    __atomic_fetch_or(byte, bit, __ATOMIC_SEQ_CST);
  }
}

bool DirtyLog::covers(uint64_t memoryEnd) const noexcept {
  return enough(size_, memoryEnd);
}

}  // namespace nydus
