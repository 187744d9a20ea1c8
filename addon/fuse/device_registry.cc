#include "fuse/device_registry.h"

#include <utility>

namespace nydus {

DeviceRegistry& DeviceRegistry::process() {
  static DeviceRegistry* const registry =
      std::make_unique<DeviceRegistry>().release();
  return *registry;
}

uint32_t DeviceRegistry::add(std::shared_ptr<Device> device) {
  const std::lock_guard lock(lock_);
  const uint32_t id = next_++;
  devices_.emplace(id, std::move(device));
  return id;
}

std::shared_ptr<Device> DeviceRegistry::find(uint32_t id) {
  const std::lock_guard lock(lock_);
  const auto found = devices_.find(id);
  return found == devices_.end() ? nullptr : found->second;
}

void DeviceRegistry::remove(uint32_t id) {
  std::shared_ptr<Device> last;  // dies after the lock is gone
  const std::lock_guard lock(lock_);
  const auto found = devices_.find(id);
  if (found == devices_.end())
    return;
  last = std::move(found->second);
  devices_.erase(found);
}

void DeviceRegistry::stopLanes() {
  const std::lock_guard lock(lock_);
  for (const auto& [id, device] : devices_)
    device->stopLanes();
}

}  // namespace nydus
