// One thread sleeps here until one of several descriptors becomes readable or
// another thread wakes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>

#include "base/event_fd.h"
#include "base/fd.h"

namespace nydus {

class Waiter {
 public:
  Waiter();

  // Wakes the sleeper when `fd` is readable, naming `tag`. The descriptor must
  // stay open until unwatch(tag). False when it cannot be waited for (a
  // regular file), errno says why. Replaces what was watched under `tag`.
  bool watch(uint32_t tag, int fd);
  void unwatch(uint32_t tag);

  // Any thread; is remembered when nobody sleeps.
  void wake() noexcept { wake_.signal(); }

  // Sleeps at most `timeoutMs` (-1: for ever). Returns how many tags it put
  // into `ready`; wake-ups are not among them.
  size_t wait(std::span<uint32_t> ready, int timeoutMs);

 private:
  UniqueFd epoll_;
  EventFd wake_;
  std::mutex lock_;
  std::map<uint32_t, int> watched_;
};

}  // namespace nydus
