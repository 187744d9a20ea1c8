// The devices of this process, by the number that Workers know them by.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "vhost/device.h"

namespace nydus {

class DeviceRegistry {
 public:
  // One registry for all environments of the process: Workers attach to
  // devices that the main thread made. Never destroyed.
  static DeviceRegistry& process();

  uint32_t add(std::shared_ptr<Device> device);
  // Null when it is gone.
  [[nodiscard]] std::shared_ptr<Device> find(uint32_t id);
  void remove(uint32_t id);
  // Makes every lane of every device return for good.
  void stopLanes();

 private:
  std::mutex lock_;
  uint32_t next_ = 1;
  std::map<uint32_t, std::shared_ptr<Device>> devices_;
};

}  // namespace nydus
