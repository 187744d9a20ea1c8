// Events of a device on their way to JavaScript: one bounded queue, which
// never keeps the process alive and never makes a thread wait.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>

#include "base/counter.h"
#include "vhost/device_event.h"

namespace nydus {

class EventQueue {
 public:
  // JavaScript gets each event as `listener({level, kind, message, queue?})`.
  static std::shared_ptr<EventQueue> make(Napi::Env env,
                                          Napi::Function listener);
  // Any thread. Events are lost when nobody takes them.
  void push(DeviceEvent event) noexcept;
  // JavaScript hears nothing more.
  void close() noexcept;
  [[nodiscard]] uint64_t lost() const noexcept { return lost_.get(); }

 private:
  // More than a few mean that the main thread does not run.
  static constexpr size_t kCapacity = 256;

  std::mutex lock_;
  bool open_ = false;
  Napi::ThreadSafeFunction function_;
  Counter lost_;
};

}  // namespace nydus
