#include "test/coverage.h"

namespace nydus::test {
namespace {

// A step from one block of code to the next is a byte, found by a hash: two
// that share one cost a find, nothing else.
constexpr size_t kSteps = 1 << 16;

// Plain arrays: a call from here would be counted itself, without an end.
uint8_t taken[kSteps];
uint8_t known[kSteps];
thread_local uintptr_t last;

}  // namespace

void Coverage::begin() noexcept {
  for (uint8_t& step : taken)
    step = 0;
}

size_t Coverage::news() noexcept {
  size_t count = 0;
  for (size_t i = 0; i < kSteps; i++) {
    if (taken[i] == 0 || known[i] != 0)
      continue;
    known[i] = 1;
    count++;
  }
  return count;
}

}  // namespace nydus::test

// Where the program begins, so that its place in memory makes no difference.
extern "C" const char __executable_start;

// What the compiler calls at the start of every block.
extern "C" __attribute__((no_sanitize_coverage,
                          no_sanitize("address"),
                          no_sanitize("undefined"))) void
__sanitizer_cov_trace_pc() {
  using nydus::test::last;
  const uintptr_t here =
      (reinterpret_cast<uintptr_t>(__builtin_return_address(0)) -
       reinterpret_cast<uintptr_t>(&__executable_start)) >>
      1;
  nydus::test::taken[(here ^ (last << 1)) % nydus::test::kSteps] = 1;
  last = here;
}
