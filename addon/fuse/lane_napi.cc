// Glue: lanes and the layout of the request ring (lib/native.ts, addon/fuse).
#include <napi.h>

#include <memory>
#include <string>
#include <utility>

#include "args_napi.h"
#include "fuse/device_registry.h"
#include "fuse/lane.h"
#include "fuse/slot.h"
#include "vhost/device.h"

namespace nydus {
namespace {

// What `turn` of lib/native.ts's LaneRing works on.
struct AttachedLane {
  AttachedLane(std::shared_ptr<Device> from,
               LanePort& port,
               Napi::Uint8Array memory)
      : device(std::move(from)),
        ring(Napi::Persistent(memory)),
        lane(device->service(),
             port,
             {reinterpret_cast<std::byte*>(memory.Data()), kRingSize}) {}

  // Declared in the order in which they must outlive each other.
  std::shared_ptr<Device> device;
  Napi::Reference<Napi::Uint8Array> ring;
  Lane lane;
};

// A function with its own data, not a method: unwrapping an object is a look-up
// of a property, 80 ns of a request's 2 µs.
Napi::Value turn(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) {
    throwBadArgument(info.Env(), "turn", "completed must be a number");
  }
  auto* const attached = static_cast<AttachedLane*>(info.Data());
  return Napi::Number::New(
      info.Env(),
      attached->lane.turn(info[0].As<Napi::Number>().Uint32Value()));
}

Napi::Value attachLane(const Napi::CallbackInfo& info) {
  const Arguments args(info, "attachLane");
  const auto id =
      static_cast<uint32_t>(args.integer(0, "deviceId", 0, UINT32_MAX));
  const auto lane =
      static_cast<uint32_t>(args.integer(1, "lane", 0, UINT32_MAX));
  const std::span<std::byte> ring = args.bytes(2, "ring");
  if (ring.size() != kRingSize ||
      reinterpret_cast<uintptr_t>(ring.data()) % alignof(Slot) != 0) {
    args.refuse("ring must have " + std::to_string(kRingSize) +
                " bytes, it has " + std::to_string(ring.size()));
  }
  std::shared_ptr<Device> device = DeviceRegistry::process().find(id);
  if (device == nullptr) {
    throw makeError(info.Env(), "DEVICE_GONE", "ENODEV",
                    "attachLane: device " + std::to_string(id) +
                        " does not exist or has stopped");
  }
  LanePort* port = device->lanePort(lane);
  if (port == nullptr) {
    args.refuse("device " + std::to_string(id) + " has no lane " +
                std::to_string(lane));
  }
  if (!port->attach()) {
    throw makeError(
        info.Env(), "DEVICE_LANE_TAKEN", "EBUSY",
        "attachLane: lane " + std::to_string(lane) + " is attached already");
  }
  auto attached = std::make_unique<AttachedLane>(
      std::move(device), *port, info[2].As<Napi::Uint8Array>());
  const auto function =
      Napi::Function::New<turn>(info.Env(), "turn", attached.get());
  function.AddFinalizer(
      [](Napi::Env, AttachedLane* gone) {
        const std::unique_ptr<AttachedLane> owned(gone);
      },
      attached.get());
  (void)attached.release();  // the function has it
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("turn", function);
  return out;
}

Napi::Value ringLayout(const Napi::CallbackInfo& info) {
  Napi::Object out = Napi::Object::New(info.Env());
  for (const LayoutEntry& entry : kRingLayout) {
    out.Set(entry.name, entry.value);
  }
  return out;
}

}  // namespace

void registerLane(Napi::Env env, Napi::Object exports) {
  exports.Set("attachLane", Napi::Function::New<attachLane>(env, "attachLane"));
  exports.Set("ringLayout", Napi::Function::New<ringLayout>(env, "ringLayout"));
}

}  // namespace nydus
