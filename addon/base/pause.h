// What a thread that looks again and again does between two looks.
#pragma once

namespace nydus {

inline void pauseSpinning() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace nydus
