// How a vhost-user-fs device looks to its front-end, and what it is made of.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/fd.h"
#include "vhost/device_event.h"

namespace nydus {

// virtio 1.2 §5.11.2: queue 0 is the hiprio queue.
constexpr uint32_t kMaxRequestQueues = 64;

struct DeviceOptions {
  // Where to listen; or `listener`, a listening socket that is there already.
  std::string path;
  UniqueFd listener;
  uint32_t requestQueues = 1;
  uint32_t lanes = 1;
  uint32_t pollUs = 0;
  // Empty: the front-end knows the tag itself.
  std::string tag;
  EventSink event;
  // How long GET_VRING_BASE waits for open requests.
  std::chrono::milliseconds drainLimit{30'000};
  // How long the rest of a message may take.
  std::chrono::milliseconds messageLimit{10'000};
};

}  // namespace nydus
