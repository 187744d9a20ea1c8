// Glue: the test front-end for JavaScript (addon/test/native-frontend.ts is its
// typed border).
#include <napi.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "args_napi.h"
#include "sys/system_error.h"
#include "test/frontend/bench_napi.h"
#include "test/frontend/completions.h"
#include "test/frontend/fuse_queue.h"
#include "test/frontend/guest_space.h"
#include "test/frontend/reaper.h"
#include "test/frontend/vhost_socket.h"

namespace nydus::frontend {
namespace {

constexpr int64_t kMaxSafe = 9007199254740991;

Napi::Value toBytes(Napi::Env env, std::span<const std::byte> from) {
  Napi::Uint8Array out = Napi::Uint8Array::New(env, from.size());
  if (!from.empty()) {
    std::memcpy(out.Data(), from.data(), from.size());
  }
  return out;
}

Napi::Object toObject(Napi::Env env, const Completion& completion) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("unique", static_cast<double>(completion.unique));
  out.Set("error", completion.error);
  out.Set("body", toBytes(env, completion.body));
  out.Set("problem", completion.problem);
  return out;
}

class Frontend : public Napi::ObjectWrap<Frontend> {
 public:
  explicit Frontend(const Napi::CallbackInfo& info);
  ~Frontend() override { shutDown(); }

  static void define(Napi::Env env, Napi::Object exports);

 private:
  Napi::Value addFile(const Napi::CallbackInfo& info);
  void addRegion(const Napi::CallbackInfo& info);
  Napi::Value base(const Napi::CallbackInfo& info);
  Napi::Value readMemory(const Napi::CallbackInfo& info);
  void writeMemory(const Napi::CallbackInfo& info);
  Napi::Value allocate(const Napi::CallbackInfo& info);
  void connect(const Napi::CallbackInfo& info);
  void disconnect(const Napi::CallbackInfo& info);
  void send(const Napi::CallbackInfo& info);
  Napi::Value receive(const Napi::CallbackInfo& info);
  void makeQueues(const Napi::CallbackInfo& info);
  Napi::Value queue(const Napi::CallbackInfo& info);
  void resetQueue(const Napi::CallbackInfo& info);
  void kick(const Napi::CallbackInfo& info);
  Napi::Value strays(const Napi::CallbackInfo& info);
  Napi::Value submit(const Napi::CallbackInfo& info);
  Napi::Value wait(const Napi::CallbackInfo& info);
  Napi::Value bench(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  FuseQueue& queueAt(const Arguments& args, size_t index);
  void onBatch(Napi::Env env, Napi::Function callback);
  void startReaper();
  void shutDown();

  std::unique_ptr<GuestSpace> space_;
  std::unique_ptr<Completions> completions_;
  std::unique_ptr<VhostSocket> socket_;
  std::vector<std::unique_ptr<FuseQueue>> queues_;
  std::unique_ptr<Reaper> reaper_;
  Napi::ThreadSafeFunction batches_;
  // Requests whose answers JavaScript was not told yet: the event loop lives
  // as long as there are some.
  size_t pending_ = 0;
  uint64_t unique_ = 0;
  bool benching_ = false;
  bool closed_ = false;
};

Frontend::Frontend(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const Arguments args(info, "Frontend");
  const uint64_t span = args.offset(0, "addressSpace");
  if (!info[1].IsFunction()) {
    args.refuse("onBatch must be a function");
  }
  space_ = std::make_unique<GuestSpace>(span);
  batches_ = Napi::ThreadSafeFunction::New(
      info.Env(), info[1].As<Napi::Function>(), "frontend", 0, 1);
  batches_.Unref(info.Env());
  completions_ = std::make_unique<Completions>([this] {
    (void)batches_.NonBlockingCall(
        [this](Napi::Env env, Napi::Function f) { onBatch(env, f); });
  });
}

void Frontend::shutDown() {
  if (closed_) {
    return;
  }
  closed_ = true;
  reaper_.reset();
  socket_.reset();
  queues_.clear();
  if (batches_) {
    batches_.Release();
  }
}

void Frontend::close(const Napi::CallbackInfo& info) {
  if (benching_) {
    throw Napi::Error::New(info.Env(), "close: a benchmark is running");
  }
  // Nobody is told about what is still on its way.
  if (pending_ > 0 && !closed_) {
    pending_ = 0;
    batches_.Unref(info.Env());
  }
  shutDown();
}

void Frontend::onBatch(Napi::Env env, Napi::Function callback) {
  if (closed_) {
    return;
  }
  const std::vector<Completion> batch = completions_->take();
  Napi::Array out = Napi::Array::New(env, batch.size());
  for (uint32_t i = 0; i < batch.size(); i++) {
    out.Set(i, toObject(env, batch[i]));
  }
  const bool last = pending_ > 0 && pending_ <= batch.size();
  pending_ -= std::min(pending_, batch.size());
  if (last) {
    batches_.Unref(env);
  }
  callback.Call({out});
}

FuseQueue& Frontend::queueAt(const Arguments& args, size_t index) {
  const auto queue = static_cast<size_t>(args.integer(
      index, "queue", 0, static_cast<int64_t>(queues_.size()) - 1));
  return *queues_[queue];
}

Napi::Value Frontend::addFile(const Napi::CallbackInfo& info) {
  const Arguments args(info, "addFile");
  const size_t file = space_->addFile(args.offset(0, "size"));
  return Napi::Number::New(info.Env(), space_->fileFd(file));
}

void Frontend::addRegion(const Napi::CallbackInfo& info) {
  const Arguments args(info, "addRegion");
  const auto file = static_cast<size_t>(args.offset(0, "file"));
  const uint64_t gpa = args.offset(1, "gpa");
  const uint64_t size = args.offset(2, "size");
  space_->addRegion(file, gpa, size, args.offset(3, "offset"));
}

Napi::Value Frontend::base(const Napi::CallbackInfo& info) {
  return Napi::Number::New(
      info.Env(),
      static_cast<double>(reinterpret_cast<uintptr_t>(space_->base())));
}

Napi::Value Frontend::readMemory(const Napi::CallbackInfo& info) {
  const Arguments args(info, "readMemory");
  const uint64_t gpa = args.offset(0, "gpa");
  const uint64_t length = args.offset(1, "length");
  if (!space_->covers(gpa, length)) {
    args.refuse("the range is not all memory");
  }
  return toBytes(info.Env(), {space_->host(gpa), length});
}

void Frontend::writeMemory(const Napi::CallbackInfo& info) {
  const Arguments args(info, "writeMemory");
  const uint64_t gpa = args.offset(0, "gpa");
  const auto bytes = args.bytes(1, "bytes");
  if (!space_->covers(gpa, bytes.size())) {
    args.refuse("the range is not all memory");
  }
  if (!bytes.empty()) {
    std::memcpy(space_->host(gpa), bytes.data(), bytes.size());
  }
}

Napi::Value Frontend::allocate(const Napi::CallbackInfo& info) {
  const Arguments args(info, "allocate");
  const uint64_t length = args.offset(0, "length");
  const auto gpa =
      space_->allocate(length, args.integer(1, "alignment", 1, 1 << 30));
  if (!gpa) {
    args.refuse("the guest has no room for " + std::to_string(length) +
                " bytes");
  }
  return Napi::Number::New(info.Env(), static_cast<double>(*gpa));
}

void Frontend::connect(const Napi::CallbackInfo& info) {
  const Arguments args(info, "connect");
  const std::string path = args.text(0, "path");
  try {
    socket_ = std::make_unique<VhostSocket>(path);
  } catch (const SystemError& error) {
    throwSystem(info.Env(), error.error(), error.call(), path);
  }
}

void Frontend::disconnect(const Napi::CallbackInfo&) {
  socket_.reset();
}

void Frontend::send(const Napi::CallbackInfo& info) {
  const Arguments args(info, "send");
  const auto bytes = args.bytes(0, "bytes");
  std::vector<int> fds;
  const auto list = info[1].As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    fds.push_back(list.Get(i).As<Napi::Number>().Int32Value());
  }
  if (socket_ == nullptr) {
    args.refuse("not connected");
  }
  try {
    socket_->send(bytes, fds);
  } catch (const SystemError& error) {
    throwSystem(info.Env(), error.error(), error.call(), "vhost-user message");
  }
}

Napi::Value Frontend::receive(const Napi::CallbackInfo& info) {
  const Arguments args(info, "receive");
  const auto timeout = args.integer(0, "timeoutMs", 0, INT32_MAX);
  if (socket_ == nullptr) {
    args.refuse("not connected");
  }
  try {
    if (!socket_->ready(std::chrono::milliseconds(timeout))) {
      return info.Env().Undefined();
    }
    auto message = socket_->receive();
    if (!message) {
      return info.Env().Null();
    }
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("request", message->request);
    out.Set("flags", message->flags);
    out.Set("payload", toBytes(info.Env(), message->payload));
    Napi::Array fds = Napi::Array::New(info.Env());
    for (uint32_t i = 0; i < message->fds.size(); i++) {
      fds.Set(i, message->fds[i].release());
    }
    out.Set("fds", fds);
    return out;
  } catch (const SystemError& error) {
    throwSystem(info.Env(), error.error(), error.call(), "vhost-user reply");
  }
}

void Frontend::startReaper() {
  std::vector<FuseQueue*> all;
  for (const auto& queue : queues_) {
    all.push_back(queue.get());
  }
  reaper_ = std::make_unique<Reaper>(std::move(all));
}

void Frontend::makeQueues(const Napi::CallbackInfo& info) {
  const Arguments args(info, "makeQueues");
  const auto count = static_cast<size_t>(args.integer(0, "count", 0, 65535));
  QueueOptions options;
  options.size = static_cast<uint16_t>(args.integer(1, "size", 1, 32768));
  options.eventIdx = args.boolean(2, "eventIdx");
  options.indirect = args.boolean(3, "indirect");
  options.checkUsedLength = args.boolean(4, "checkUsedLength");
  if ((options.size & (options.size - 1)) != 0) {
    args.refuse("size must be a power of two");
  }
  reaper_.reset();
  queues_.clear();
  for (size_t i = 0; i < count; i++) {
    queues_.push_back(
        std::make_unique<FuseQueue>(*space_, options, *completions_));
  }
  startReaper();
}

Napi::Value Frontend::queue(const Napi::CallbackInfo& info) {
  FuseQueue& queue = queueAt(Arguments(info, "queue"), 0);
  DriverRing& ring = queue.ring();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("size", ring.size());
  out.Set("descriptors", static_cast<double>(ring.descriptors()));
  out.Set("avail", static_cast<double>(ring.avail()));
  out.Set("used", static_cast<double>(ring.used()));
  out.Set("usedIndex", ring.usedIndex());
  out.Set("kickFd", queue.kickFd());
  out.Set("callFd", queue.callFd());
  out.Set("errorFd", queue.errorFd());
  out.Set("errors", static_cast<double>(queue.errors()));
  out.Set("inFlight", static_cast<double>(queue.inFlight()));
  out.Set("kicks", static_cast<double>(queue.kicks()));
  out.Set("interrupts", static_cast<double>(queue.interrupts()));
  return out;
}

void Frontend::resetQueue(const Napi::CallbackInfo& info) {
  queueAt(Arguments(info, "resetQueue"), 0).reset();
}

void Frontend::kick(const Napi::CallbackInfo& info) {
  queueAt(Arguments(info, "kick"), 0).kick();
}

Napi::Value Frontend::strays(const Napi::CallbackInfo& info) {
  const std::vector<Stray> strays =
      queueAt(Arguments(info, "strays"), 0).takeStrays();
  Napi::Array out = Napi::Array::New(info.Env(), strays.size());
  for (uint32_t i = 0; i < strays.size(); i++) {
    Napi::Object stray = Napi::Object::New(info.Env());
    stray.Set("id", strays[i].id);
    stray.Set("length", strays[i].length);
    out.Set(i, stray);
  }
  return out;
}

// submit(queue, opcode, nodeid, parts, replyCapacity, pages, replies, sync)
Napi::Value Frontend::submit(const Napi::CallbackInfo& info) {
  const Arguments args(info, "submit");
  FuseQueue& queue = queueAt(args, 0);
  Request request;
  request.opcode =
      static_cast<uint32_t>(args.integer(1, "opcode", 0, UINT32_MAX));
  if (info[2].IsBigInt()) {
    bool lossless = false;
    request.nodeid = info[2].As<Napi::BigInt>().Uint64Value(&lossless);
  } else {
    request.nodeid = args.offset(2, "nodeid");
  }
  request.replyCapacity =
      static_cast<uint32_t>(args.integer(4, "replyCapacity", 0, 64 << 20));
  request.pages = args.boolean(5, "pages");
  request.replies = args.boolean(6, "replies");
  const bool sync = args.boolean(7, "sync");
  const auto parts = info[3].As<Napi::Array>();
  for (uint32_t i = 0; i < parts.Length(); i++) {
    const Napi::Value part = parts.Get(i);
    if (!part.IsTypedArray()) {
      args.refuse("parts must be Uint8Arrays");
    }
    auto bytes = part.As<Napi::Uint8Array>();
    const auto* data = reinterpret_cast<const std::byte*>(bytes.Data());
    request.arguments.emplace_back(data, data + bytes.ByteLength());
  }
  request.unique = unique_ += 2;
  if (sync) {
    completions_->expect(request.unique);
  }
  if (!queue.submit(request)) {
    return Napi::Number::New(info.Env(), 0);
  }
  if (!sync && pending_++ == 0) {
    batches_.Ref(info.Env());
  }
  return Napi::Number::New(info.Env(), static_cast<double>(request.unique));
}

Napi::Value Frontend::wait(const Napi::CallbackInfo& info) {
  const Arguments args(info, "wait");
  const auto unique =
      static_cast<uint64_t>(args.integer(0, "unique", 0, kMaxSafe));
  const auto timeout = args.integer(1, "timeoutMs", 0, INT32_MAX);
  const auto completion =
      completions_->wait(unique, std::chrono::milliseconds(timeout));
  if (!completion) {
    return info.Env().Null();
  }
  return toObject(info.Env(), *completion);
}

// bench(queues, options): see bench_napi.h.
Napi::Value Frontend::bench(const Napi::CallbackInfo& info) {
  const Arguments args(info, "bench");
  if (benching_) {
    args.refuse("another benchmark is running");
  }
  std::vector<FuseQueue*> queues;
  const auto list = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    const uint32_t index = list.Get(i).As<Napi::Number>().Uint32Value();
    if (index >= queues_.size()) {
      args.refuse("there is no queue " + std::to_string(index));
    }
    queues.push_back(queues_[index].get());
  }
  const BenchOptions options = readBenchOptions(info[1].As<Napi::Object>());
  // The load takes the answers itself; those of other queues come later.
  reaper_.reset();
  benching_ = true;
  Ref();
  return startBench(info.Env(), *space_, std::move(queues), options, [this] {
    benching_ = false;
    startReaper();
    Unref();
  });
}

void Frontend::define(Napi::Env env, Napi::Object exports) {
  exports.Set(
      "Frontend",
      DefineClass(env, "Frontend",
                  {InstanceMethod<&Frontend::addFile>("addFile"),
                   InstanceMethod<&Frontend::addRegion>("addRegion"),
                   InstanceMethod<&Frontend::base>("base"),
                   InstanceMethod<&Frontend::readMemory>("readMemory"),
                   InstanceMethod<&Frontend::writeMemory>("writeMemory"),
                   InstanceMethod<&Frontend::allocate>("allocate"),
                   InstanceMethod<&Frontend::connect>("connect"),
                   InstanceMethod<&Frontend::disconnect>("disconnect"),
                   InstanceMethod<&Frontend::send>("send"),
                   InstanceMethod<&Frontend::receive>("receive"),
                   InstanceMethod<&Frontend::makeQueues>("makeQueues"),
                   InstanceMethod<&Frontend::queue>("queue"),
                   InstanceMethod<&Frontend::resetQueue>("resetQueue"),
                   InstanceMethod<&Frontend::kick>("kick"),
                   InstanceMethod<&Frontend::strays>("strays"),
                   InstanceMethod<&Frontend::submit>("submit"),
                   InstanceMethod<&Frontend::wait>("wait"),
                   InstanceMethod<&Frontend::bench>("bench"),
                   InstanceMethod<&Frontend::close>("close")}));
}

void takeErrorClass(const Napi::CallbackInfo& info) {
  setErrorClass(info.Env(), info[0].As<Napi::Function>());
}

}  // namespace
}  // namespace nydus::frontend

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("setErrorClass",
              Napi::Function::New<nydus::frontend::takeErrorClass>(
                  env, "setErrorClass"));
  nydus::frontend::Frontend::define(env, exports);
  return exports;
}
NODE_API_MODULE(frontend, initialize)
