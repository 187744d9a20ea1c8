#include "sys/mapping.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "sys/system_error.h"

namespace nydus {
namespace {

size_t roundUp(size_t value, size_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

Mapping Mapping::ofFile(int fd, uint64_t size, Mode mode) {
  struct stat status;
  if (::fstat(fd, &status) != 0)
    throw SystemError(errno, "fstat");
  if (!S_ISREG(status.st_mode))
    throw SystemError(EINVAL, "mmap");
  if (static_cast<uint64_t>(status.st_size) < size)
    throw SystemError(EFBIG, "mmap");
  Mapping mapping;
  if (size == 0)
    return mapping;

  // Reserves enough address space to hold an aligned start, puts the file
  // there, and gives back what is left on both sides.
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t length = roundUp(size, page);
  const size_t reserved = length + kAlignment;
  void* reserve = ::mmap(nullptr, reserved, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserve == MAP_FAILED)
    throw SystemError(errno, "mmap");
  const auto start = reinterpret_cast<uintptr_t>(reserve);
  const uintptr_t begin = roundUp(start, kAlignment);
  const int protection =
      mode == Mode::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  const int flags = mode == Mode::kReadOnly ? MAP_PRIVATE : MAP_SHARED;
  void* data = ::mmap(reinterpret_cast<void*>(begin), length, protection,
                      flags | MAP_FIXED, fd, 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    ::munmap(reserve, reserved);
    throw SystemError(error, "mmap");
  }
  if (begin > start)
    ::munmap(reserve, begin - start);
  const uintptr_t end = begin + length;
  if (start + reserved > end) {
    ::munmap(reinterpret_cast<void*>(end), start + reserved - end);
  }
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.size_ = size;
  mapping.guard_ = FaultGuard::add(data, length);
  return mapping;
}

Mapping::~Mapping() {
  if (data_ == nullptr)
    return;
  FaultGuard::remove(guard_);
  ::munmap(data_, roundUp(size_, static_cast<size_t>(::sysconf(_SC_PAGESIZE))));
}

}  // namespace nydus
