// Glue: devices (lib/native.ts, addon/vhost and addon/fuse).
#include <napi.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "args_napi.h"
#include "fuse/device_registry.h"
#include "fuse/event_queue_napi.h"
#include "fuse/slot.h"
#include "sys/system_error.h"
#include "vhost/device.h"

namespace nydus {
namespace {

constexpr double kMaxTicket = 9007199254740991.0;

// Extents as a Float64Array of triples file, offset, length.
std::vector<Extent> takeExtents(const Arguments& args,
                                const Napi::Value& from) {
  if (!from.IsTypedArray() ||
      from.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    args.refuse("extents must be a Float64Array");
  }
  const auto numbers = from.As<Napi::Float64Array>();
  const size_t count = numbers.ElementLength() / 3;
  if (numbers.ElementLength() % 3 != 0 || count > kMaxExtents) {
    args.refuse("extents must be at most " + std::to_string(kMaxExtents) +
                " triples");
  }
  std::vector<Extent> out;
  out.reserve(count);
  for (size_t i = 0; i < count; i++) {
    const double file = numbers[3 * i];
    const double length = numbers[3 * i + 2];
    if (!(file >= 0 && file < kFileArena) || !(length >= 0 && length < 4e9)) {
      args.refuse("extent " + std::to_string(i) + " is no extent");
    }
    out.push_back({static_cast<uint32_t>(file), static_cast<uint32_t>(length),
                   numbers[3 * i + 1]});
  }
  return out;
}

// lib/native.ts: Device.
class DeviceObject : public Napi::ObjectWrap<DeviceObject> {
 public:
  // What the constructor takes over; made by createVhostDevice only.
  struct Parts {
    std::shared_ptr<Device> device;
    std::shared_ptr<EventQueue> events;
  };

  static Napi::Value make(Napi::Env env, Parts parts) {
    const Napi::Function type = DefineClass(
        env, "Device",
        {
            InstanceMethod<&DeviceObject::completeDeferred>("completeDeferred"),
            InstanceMethod<&DeviceObject::wakeLanes>("wakeLanes"),
            InstanceMethod<&DeviceObject::lookupCount>("lookupCount"),
            InstanceMethod<&DeviceObject::deferredCount>("deferredCount"),
            InstanceMethod<&DeviceObject::counters>("counters"),
            InstanceMethod<&DeviceObject::stop>("stop"),
        });
    Napi::Object object = type.New({Napi::External<Parts>::New(env, &parts)});
    object.DefineProperty(Napi::PropertyDescriptor::Value(
        "id", Napi::Number::New(env, Unwrap(object)->id_), napi_enumerable));
    return object;
  }

  explicit DeviceObject(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<DeviceObject>(info) {
    if (!info[0].IsExternal()) {
      throwBadArgument(info.Env(), "Device", "use createVhostDevice");
    }
    Parts& parts = *info[0].As<Napi::External<Parts>>().Data();
    device_ = std::move(parts.device);
    events_ = std::move(parts.events);
    id_ = DeviceRegistry::process().add(device_);
  }

  ~DeviceObject() override {
    if (device_ == nullptr)
      return;
    DeviceRegistry::process().remove(id_);
    device_->stop();
    events_->close();
  }

 private:
  Napi::Value completeDeferred(const Napi::CallbackInfo& info) {
    const Arguments args(info, "completeDeferred");
    const double ticket = args.number(0, "ticket");
    const auto status =
        static_cast<int32_t>(args.integer(1, "status", INT32_MIN, 0));
    std::vector<Extent> extents;
    if (!info[2].IsUndefined())
      extents = takeExtents(args, info[2]);
    if (!(ticket >= 0 && ticket <= kMaxTicket)) {
      return Napi::Boolean::New(info.Env(), false);
    }
    return Napi::Boolean::New(
        info.Env(), device_->service().completeDeferred(
                        static_cast<uint64_t>(ticket), status, extents));
  }

  void wakeLanes(const Napi::CallbackInfo&) { device_->ringLanes(); }

  Napi::Value lookupCount(const Napi::CallbackInfo& info) {
    const Arguments args(info, "lookupCount");
    const auto slot = static_cast<uint64_t>(
        args.integer(0, "slot", 0, int64_t{kMountSlots} - 1));
    return Napi::Number::New(
        info.Env(),
        static_cast<double>(device_->service().session().lookups(slot)));
  }

  Napi::Value deferredCount(const Napi::CallbackInfo& info) {
    return Napi::Number::New(
        info.Env(), static_cast<double>(device_->service().deferred().size()));
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    Napi::Object out = Napi::Object::New(info.Env());
    for (const auto& [name, value] : device_->totals()) {
      out.Set(name, static_cast<double>(value));
    }
    out.Set("eventsLost", static_cast<double>(events_->lost()));
    return out;
  }

  void stop(const Napi::CallbackInfo&) {
    device_->stop();
    DeviceRegistry::process().remove(id_);
  }

  std::shared_ptr<Device> device_;
  std::shared_ptr<EventQueue> events_;
  uint32_t id_ = 0;
};

uint32_t takeNumber(const Arguments& args,
                    const Napi::Object& options,
                    const char* name,
                    uint32_t min,
                    uint32_t max) {
  const Napi::Value value = options.Get(name);
  const double number =
      value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= min) || !(number <= max) || std::trunc(number) != number) {
    args.refuse(std::string(name) + " must be an integer from " +
                std::to_string(min) + " to " + std::to_string(max));
  }
  return static_cast<uint32_t>(number);
}

std::string takeText(const Arguments& args,
                     const Napi::Object& options,
                     const char* name) {
  const Napi::Value value = options.Get(name);
  if (value.IsUndefined())
    return {};
  std::string text =
      value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
  if (text.empty() || text.find('\0') != std::string::npos) {
    args.refuse(std::string(name) + " must be a string that is not empty");
  }
  return text;
}

Napi::Value createVhostDevice(const Napi::CallbackInfo& info) {
  const Arguments args(info, "createVhostDevice");
  if (!info[0].IsObject())
    args.refuse("options must be an object");
  if (!info[1].IsFunction())
    args.refuse("onEvent must be a function");
  const auto object = info[0].As<Napi::Object>();
  DeviceOptions options;
  options.path = takeText(args, object, "path");
  options.tag = takeText(args, object, "tag");
  options.requestQueues =
      takeNumber(args, object, "requestQueues", 1, kMaxRequestQueues);
  options.lanes = takeNumber(args, object, "lanes", 1, options.requestQueues);
  options.pollUs = takeNumber(args, object, "pollUs", 0, 1'000'000);
  std::string where = "the socket at " + options.path;
  if (const Napi::Value fd = object.Get("listenFd"); !fd.IsUndefined()) {
    const int number =
        static_cast<int>(takeNumber(args, object, "listenFd", 0, INT32_MAX));
    options.listener = UniqueFd(number);
    where = "the inherited socket fd " + std::to_string(number);
  }
  if (options.path.empty() == !options.listener) {
    // The descriptor stays the caller's.
    (void)options.listener.release();
    args.refuse("give either path or listenFd");
  }
  if (options.tag.size() > sizeof(FsConfig::tag)) {
    args.refuse("tag must not be longer than 36 bytes, it has " +
                std::to_string(options.tag.size()));
  }
  auto events = EventQueue::make(info.Env(), info[1].As<Napi::Function>());
  options.event = [events](DeviceEvent event) {
    events->push(std::move(event));
  };
  try {
    auto device = std::make_shared<Device>(std::move(options));
    return DeviceObject::make(info.Env(), {std::move(device), events});
  } catch (const SystemError& error) {
    events->close();
    throwSystem(info.Env(), error.error(), error.call(), where);
  }
}

void quit(const Napi::CallbackInfo&) {
  DeviceRegistry::process().stopLanes();
}

}  // namespace

void registerDevice(Napi::Env env, Napi::Object exports) {
  exports.Set("createVhostDevice",
              Napi::Function::New<createVhostDevice>(env, "createVhostDevice"));
  exports.Set("quit", Napi::Function::New<quit>(env, "quit"));
}

}  // namespace nydus
