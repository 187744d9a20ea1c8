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

  // A descriptor that woke the sleeper.
  struct Ready {
    uint32_t tag;
    // Tells it from others that have had the tag.
    uint32_t serial;
  };

  // Wakes the sleeper when `fd` is readable, naming `tag`. The descriptor must
  // stay open until unwatch(tag). False when it cannot be waited for (a
  // regular file), errno says why. Replaces what was watched under `tag`.
  bool watch(uint32_t tag, int fd);
  void unwatch(uint32_t tag);
  // The same, unless another descriptor has got the tag meanwhile.
  void unwatch(Ready ready);

  // Any thread; is remembered when nobody sleeps.
  void wake() noexcept { wake_.signal(); }

  // Sleeps at most `timeoutMs` (-1: for ever). Returns how many it put into
  // `ready`; wake-ups are not among them.
  size_t wait(std::span<Ready> ready, int timeoutMs);

 private:
  UniqueFd epoll_;
  EventFd wake_;
  std::mutex lock_;
  struct Watch {
    int fd;
    uint32_t serial;
  };
  void remove(std::map<uint32_t, Watch>::iterator watch);

  std::map<uint32_t, Watch> watched_;
  uint32_t lastSerial_ = 0;
};

}  // namespace nydus
