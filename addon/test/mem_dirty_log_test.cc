#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include "mem/dirty_log.h"
#include "test/check.h"

namespace nydus {
namespace {

struct LogFile {
  explicit LogFile(uint64_t size) : fd(::memfd_create("log", MFD_CLOEXEC)) {
    CHECK(::ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
  }
  [[nodiscard]] int byteAt(off_t offset) const {
    uint8_t byte = 0;
    CHECK(::pread(fd.get(), &byte, 1, offset) == 1);
    return byte;
  }
  [[nodiscard]] UniqueFd copy() const { return UniqueFd(::dup(fd.get())); }
  UniqueFd fd;
};

TEST(memDirtyLogMarksEachTouchedPage) {
  const LogFile file(4096);
  const auto log = DirtyLog::map(4096, 0, file.copy(), 1 << 20);
  CHECK(static_cast<bool>(log));
  (*log)->mark(0, 0);
  CHECK_EQ(file.byteAt(0), 0);
  (*log)->mark(0, 1);
  CHECK_EQ(file.byteAt(0), 1);
  (*log)->mark(0x1fff, 2);
  CHECK_EQ(file.byteAt(0), 7);
  (*log)->mark(9 * 4096, 4096);
  CHECK_EQ(file.byteAt(1), 2);
  (*log)->mark(15 * 4096 + 4095, 2);
  CHECK_EQ(file.byteAt(1), 0x82);
  CHECK_EQ(file.byteAt(2), 1);
}

TEST(memDirtyLogStaysInItsBounds) {
  const LogFile file(8192);
  const auto log = DirtyLog::map(2, 4096, file.copy(), 0);
  CHECK(static_cast<bool>(log));
  (*log)->mark(14 * 4096, 100 * 4096);
  CHECK_EQ(file.byteAt(4097), 0xc0);
  CHECK_EQ(file.byteAt(4098), 0);
  (*log)->mark(~uint64_t{0}, 8);
  (*log)->mark(~uint64_t{0} - 4096, 4096);
  (*log)->mark(uint64_t{1} << 60, 4096);
  CHECK_EQ(file.byteAt(4095), 0);
  CHECK_EQ(file.byteAt(4098), 0);
}

TEST(memDirtyLogRefusesWhatDoesNotCover) {
  const LogFile file(4096);
  // 4096 bytes are 32768 pages: 128 MiB.
  CHECK(static_cast<bool>(DirtyLog::map(4096, 0, file.copy(), 128u << 20)));
  CHECK(!DirtyLog::map(4096, 0, file.copy(), (128u << 20) + 1));
  CHECK(!DirtyLog::map(0, 0, file.copy(), 0));
  CHECK(!DirtyLog::map(4096, 1, file.copy(), 0));
  CHECK(!DirtyLog::map(~uint64_t{0}, 2, file.copy(), 0));
  CHECK(!DirtyLog::map(4096, 0, UniqueFd(), 0));
  const auto small = DirtyLog::map(1, 0, file.copy(), 8 * 4096);
  CHECK(small && (*small)->covers(8 * 4096) && !(*small)->covers(9 * 4096));
}

}  // namespace
}  // namespace nydus
