#include "sys/fault_guard.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <thread>

#include "base/fd.h"
#include "sys/mapping.h"
#include "sys/system_error.h"
#include "test/check.h"

namespace nydus {
namespace {

sigjmp_buf chained;

void jumpOut(int, siginfo_t*, void*) {
  ::siglongjmp(chained, 1);
}

// Stands there before the guard installs its own: static objects are made
// before main.
const bool chainInstalled = [] {
  struct sigaction action = {};
  action.sa_sigaction = jumpOut;
  action.sa_flags = SA_SIGINFO;
  return ::sigaction(SIGBUS, &action, nullptr) == 0;
}();

constexpr size_t kPage = 4096;

UniqueFd fileOf(size_t pages) {
  UniqueFd fd(::memfd_create("guarded", MFD_CLOEXEC));
  CHECK(::ftruncate(fd.get(), static_cast<off_t>(pages * kPage)) == 0);
  for (size_t i = 0; i < pages; i++) {
    CHECK(::pwrite(fd.get(), "data", 4, static_cast<off_t>(i * kPage)) == 4);
  }
  return fd;
}

char charAt(const Mapping& mapping, size_t offset) {
  return *reinterpret_cast<volatile char*>(mapping.data() + offset);
}

TEST(fault_guard_reads_zeros_where_pages_vanished) {
  const UniqueFd fd = fileOf(4);
  const Mapping mapping =
      Mapping::ofFile(fd.get(), 4 * kPage, Mapping::Mode::kReadShared);
  const uint64_t before = FaultGuard::threadFaults();
  const uint64_t all = FaultGuard::faults();
  CHECK_EQ(charAt(mapping, 3 * kPage), 'd');
  CHECK(::ftruncate(fd.get(), kPage) == 0);
  CHECK_EQ(charAt(mapping, 0), 'd');
  CHECK_EQ(FaultGuard::threadFaults(), before);
  CHECK_EQ(charAt(mapping, 3 * kPage), 0);
  CHECK_EQ(charAt(mapping, 3 * kPage + 1), 0);
  CHECK_EQ(charAt(mapping, kPage), 0);
  CHECK_EQ(FaultGuard::threadFaults(), before + 2);
  CHECK_EQ(FaultGuard::faults(), all + 2);
}

TEST(fault_guard_counts_per_thread) {
  const UniqueFd fd = fileOf(1);
  const Mapping mapping =
      Mapping::ofFile(fd.get(), kPage, Mapping::Mode::kReadShared);
  CHECK(::ftruncate(fd.get(), 0) == 0);
  const uint64_t here = FaultGuard::threadFaults();
  std::jthread([&] {
    CHECK_EQ(FaultGuard::threadFaults(), 0u);
    CHECK_EQ(charAt(mapping, 0), 0);
    CHECK_EQ(FaultGuard::threadFaults(), 1u);
  }).join();
  CHECK_EQ(FaultGuard::threadFaults(), here);
}

TEST(fault_guard_takes_stores_into_shared_mappings) {
  const UniqueFd fd = fileOf(1);
  const Mapping mapping =
      Mapping::ofFile(fd.get(), kPage, Mapping::Mode::kReadWrite);
  CHECK(::ftruncate(fd.get(), 0) == 0);
  *reinterpret_cast<volatile char*>(mapping.data()) = 'x';
  CHECK_EQ(charAt(mapping, 0), 'x');
}

TEST(fault_guard_knows_which_range) {
  const UniqueFd fd = fileOf(2);
  void* address =
      ::mmap(nullptr, 2 * kPage, PROT_READ, MAP_SHARED, fd.get(), 0);
  auto* bytes = static_cast<volatile char*>(address);
  const FaultGuard::Id first = FaultGuard::add(address, kPage);
  const FaultGuard::Id second =
      FaultGuard::add(static_cast<std::byte*>(address) + kPage, kPage);
  CHECK(::ftruncate(fd.get(), 0) == 0);
  CHECK_EQ(bytes[kPage], 0);
  CHECK_EQ(FaultGuard::rangeFaults(first), 0u);
  CHECK_EQ(FaultGuard::rangeFaults(second), 1u);
  FaultGuard::remove(first);
  FaultGuard::remove(second);
  ::munmap(address, 2 * kPage);
}

TEST(fault_guard_leaves_other_faults_to_who_was_there) {
  CHECK(chainInstalled);
  const UniqueFd fd = fileOf(1);
  void* address = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd.get(), 0);
  const FaultGuard::Id id = FaultGuard::add(address, kPage);
  FaultGuard::remove(id);
  CHECK(::ftruncate(fd.get(), 0) == 0);
  const uint64_t before = FaultGuard::faults();
  if (::sigsetjmp(chained, 1) == 0) {
    (void)*static_cast<volatile char*>(address);
    CHECK(false);  // the access went on
  }
  CHECK_EQ(FaultGuard::faults(), before);
  ::munmap(address, kPage);
}

TEST(mapping_refuses_what_is_no_file_or_too_short) {
  const UniqueFd fd = fileOf(1);
  int error = 0;
  try {
    (void)Mapping::ofFile(fd.get(), kPage + 1, Mapping::Mode::kReadOnly);
  } catch (const SystemError& thrown) {
    error = thrown.error();
  }
  CHECK_EQ(error, EFBIG);
  int ends[2];
  CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  error = 0;
  try {
    (void)Mapping::ofFile(reader.get(), kPage, Mapping::Mode::kReadOnly);
  } catch (const SystemError& thrown) {
    error = thrown.error();
  }
  CHECK_EQ(error, EINVAL);
}

}  // namespace
}  // namespace nydus
