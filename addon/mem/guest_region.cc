#include "mem/guest_region.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/bytes.h"

namespace nydus {
namespace {

// Page size of the mapping: hugetlbfs wants its own in lengths and offsets.
size_t pageSizeOf(int fd) {
  struct statfs info = {};
  if (::fstatfs(fd, &info) == 0 && info.f_type == HUGETLBFS_MAGIC) {
    return static_cast<size_t>(info.f_bsize);
  }
  return static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

std::string describe(const RegionSpec& spec) {
  char text[160];
  std::snprintf(text, sizeof text,
                "memory region gpa 0x%llx size 0x%llx offset 0x%llx",
                static_cast<unsigned long long>(spec.gpa),
                static_cast<unsigned long long>(spec.size),
                static_cast<unsigned long long>(spec.mmapOffset));
  return text;
}

}  // namespace

Result<std::shared_ptr<const GuestRegion>> GuestRegion::map(
    const RegionSpec& spec,
    UniqueFd fd) {
  if (spec.size == 0)
    return Failure{describe(spec) + ": size is 0"};
  if (wraps(spec.gpa, spec.size) || wraps(spec.userAddress, spec.size) ||
      wraps(spec.mmapOffset, spec.size)) {
    return Failure{describe(spec) + ": wraps around the address space"};
  }
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0) {
    return Failure{describe(spec) + ": fstat: " + std::strerror(errno)};
  }
  if (!S_ISREG(info.st_mode)) {
    return Failure{describe(spec) + ": its descriptor is not a file"};
  }
  if (!fits(spec.mmapOffset, spec.size, static_cast<uint64_t>(info.st_size))) {
    return Failure{describe(spec) + ": its file has only " +
                   std::to_string(info.st_size) + " bytes"};
  }
  const size_t pageSize = pageSizeOf(fd.get());
  const uint64_t lead = spec.mmapOffset % pageSize;
  const uint64_t length =
      (lead + spec.size + pageSize - 1) / pageSize * pageSize;
  Mmap mapping =
      Mmap::map(length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                fd.get(), static_cast<off_t>(spec.mmapOffset - lead));
  if (!mapping) {
    return Failure{describe(spec) + ": mmap: " + std::strerror(errno)};
  }
  // Guest memory in a core dump is a leak, and fills the disk.
  ::madvise(mapping.data(), mapping.size(), MADV_DONTDUMP);
  std::byte* host = mapping.data() + lead;
  struct Public : GuestRegion {
    Public(const RegionSpec& spec, Mmap mapping, std::byte* host, size_t n)
        : GuestRegion(spec, std::move(mapping), host, n) {}
  };
  return std::shared_ptr<const GuestRegion>(
      std::make_shared<Public>(spec, std::move(mapping), host, pageSize));
}

GuestRegion::GuestRegion(const RegionSpec& spec,
                         Mmap mapping,
                         std::byte* host,
                         size_t pageSize)
    : spec_(spec),
      mapping_(std::move(mapping)),
      host_(host),
      guard_(FaultGuard::add(mapping_.data(), mapping_.size(), pageSize)) {}

GuestRegion::~GuestRegion() {
  FaultGuard::remove(guard_);
}

}  // namespace nydus
