#include "base/waiter.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include "sys/system_error.h"

namespace nydus {
namespace {

constexpr uint64_t kWakeTag = UINT64_MAX;
constexpr size_t kEvents = 80;

}  // namespace

Waiter::Waiter() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kWakeTag;
  if (!epoll_ ||
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) {
    throw SystemError(errno, "epoll");
  }
}

bool Waiter::watch(uint32_t tag, int fd) {
  const std::lock_guard lock(lock_);
  const auto old = watched_.find(tag);
  if (old != watched_.end())
    remove(old);
  const uint32_t serial = ++lastSerial_;
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = uint64_t{serial} << 32 | tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return false;
  watched_.emplace(tag, Watch{fd, serial});
  return true;
}

void Waiter::unwatch(uint32_t tag) {
  const std::lock_guard lock(lock_);
  const auto old = watched_.find(tag);
  if (old != watched_.end())
    remove(old);
}

void Waiter::unwatch(Ready ready) {
  const std::lock_guard lock(lock_);
  const auto old = watched_.find(ready.tag);
  if (old != watched_.end() && old->second.serial == ready.serial)
    remove(old);
}

void Waiter::remove(std::map<uint32_t, Watch>::iterator watch) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch->second.fd, nullptr);
  watched_.erase(watch);
}

size_t Waiter::wait(std::span<Ready> ready, int timeoutMs) {
  std::array<epoll_event, kEvents> events;
  const int n = ::epoll_wait(epoll_.get(), events.data(),
                             static_cast<int>(events.size()), timeoutMs);
  size_t count = 0;
  for (int i = 0; i < n; i++) {
    const uint64_t event = events[static_cast<size_t>(i)].data.u64;
    if (event == kWakeTag) {
      wake_.clear();
    } else if (count < ready.size()) {
      ready[count++] = {static_cast<uint32_t>(event),
                        static_cast<uint32_t>(event >> 32)};
    }
  }
  return count;
}

}  // namespace nydus
