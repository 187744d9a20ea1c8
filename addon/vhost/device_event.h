// What a device wants to have logged: rare, never one per request.
#pragma once

#include <functional>
#include <string>

namespace nydus {

enum class EventLevel { kDebug, kInfo, kWarn, kError };

struct DeviceEvent {
  EventLevel level;
  // Stable: 'listening', 'connected', 'disconnected', 'memory',
  // 'ring-started', 'ring-stopping', 'ring-stopped', 'ring-broken',
  // 'protocol', 'refused', 'session-resumed', 'reset', 'stopped'.
  const char* kind;
  std::string message;
  int queue = -1;
};

// Called on any thread, also under locks: must neither block nor call back.
using EventSink = std::function<void(DeviceEvent)>;

}  // namespace nydus
