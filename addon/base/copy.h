// Copying pages.
//
// glibc copies 4 KiB with vector instructions and leaves `rep movsb` to longer
// copies. A processor with fast short repeats (FSRM, CPUID 7 EDX bit 4) writes
// whole cache lines without reading them first: a page takes 0.12 instead of
// 0.23 µs on a Zen 5, and as long as before on a Sapphire Rapids
// (docs/performance.md).
#pragma once

#include <cstddef>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace nydus {

#if defined(__x86_64__)
[[nodiscard]] inline bool hasFastShortRepeats() noexcept {
  constexpr unsigned kLeaf = 7;
  constexpr unsigned kFastShortRepeats = 1u << 4;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid_count(kLeaf, 0, &a, &b, &c, &d) != 0 &&
         (d & kFastShortRepeats) != 0;
}
#endif

// memcpy, for lengths that are mostly a page.
inline void copyPages(void* to, const void* from, size_t length) noexcept {
#if defined(__x86_64__)
  // Shorter copies are not worth the start of a repeat.
  constexpr size_t kShortest = 1024;
  static const bool repeats = hasFastShortRepeats();
  if (repeats && length >= kShortest) {
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
    return;
  }
#endif
  std::memcpy(to, from, length);
}

}  // namespace nydus
