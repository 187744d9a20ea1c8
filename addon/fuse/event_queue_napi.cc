#include "fuse/event_queue_napi.h"

#include <utility>

namespace nydus {
namespace {

const char* nameOf(EventLevel level) {
  switch (level) {
    case EventLevel::kDebug:
      return "debug";
    case EventLevel::kInfo:
      return "info";
    case EventLevel::kWarn:
      return "warn";
    case EventLevel::kError:
      return "error";
  }
  return "error";
}

void deliver(Napi::Env env, Napi::Function listener, DeviceEvent* raw) {
  const std::unique_ptr<DeviceEvent> event(raw);
  // Without an environment, the queue is emptied at its end.
  if (env == nullptr || listener.IsEmpty())
    return;
  Napi::Object object = Napi::Object::New(env);
  object.Set("level", nameOf(event->level));
  object.Set("kind", event->kind);
  object.Set("message", event->message);
  if (event->queue >= 0)
    object.Set("queue", event->queue);
  listener.Call({object});
}

}  // namespace

std::shared_ptr<EventQueue> EventQueue::make(Napi::Env env,
                                             Napi::Function listener) {
  auto queue = std::make_shared<EventQueue>();
  // The finalizer runs when the environment goes, or after close().
  queue->function_ = Napi::ThreadSafeFunction::New(
      env, listener, "nydus device events", kCapacity, 1, [queue](Napi::Env) {
        const std::lock_guard lock(queue->lock_);
        queue->open_ = false;
      });
  queue->function_.Unref(env);
  queue->open_ = true;
  return queue;
}

void EventQueue::push(DeviceEvent event) noexcept {
  const std::lock_guard lock(lock_);
  if (!open_)
    return;
  auto owned = std::make_unique<DeviceEvent>(std::move(event));
  if (function_.NonBlockingCall(owned.get(), deliver) == napi_ok) {
    (void)owned.release();  // deliver() has it
  } else {
    lost_.bump();
  }
}

void EventQueue::close() noexcept {
  const std::lock_guard lock(lock_);
  if (!open_)
    return;
  open_ = false;
  function_.Release();
}

}  // namespace nydus
