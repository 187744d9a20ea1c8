// Glue: DecodePool (lib/native.ts).
#include "decode/decode_pool.h"

#include <napi.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "args_napi.h"
#include "codec/codec.h"
#include "decode/unit_job.h"

namespace nydus {
namespace {

using decode::Batch;
using decode::Coding;
using decode::DecodePool;
using decode::Tasks;
using decode::UnitTask;

constexpr int64_t kMaxThreads = 64;

// Keeps the memory of a batch alive. Made and destroyed by JavaScript's thread.
struct Held {
  Napi::ObjectReference stored;
  Napi::ObjectReference target;
};

Napi::Object failure(Napi::Env env,
                     size_t unit,
                     double member,
                     const char* kind,
                     int error,
                     const std::string& text) {
  Napi::Object out = Napi::Object::New(env);
  const char* name = ::strerrorname_np(error);
  out.Set("unit", Napi::Number::New(env, static_cast<double>(unit)));
  out.Set("member", Napi::Number::New(env, member));
  out.Set("kind", Napi::String::New(env, kind));
  out.Set("errno",
          Napi::String::New(env, error != 0 && name != nullptr ? name : "EIO"));
  out.Set("message", Napi::String::New(env, text));
  return out;
}

// lib/native.ts: DecodeFailure[].
Napi::Array failuresOf(Napi::Env env, const Tasks& tasks) {
  Napi::Array out = Napi::Array::New(env);
  for (size_t i = 0; i < tasks.size(); i++) {
    if (tasks[i]->lost)
      out.Set(out.Length(), failure(env, i, -1, "failed", ENOMEM,
                                    "there is no memory for it"));
    for (const decode::MemberFailure& one : tasks[i]->failures) {
      const bool store = one.kind == decode::FailureKind::kStore;
      out.Set(out.Length(),
              failure(env, i, static_cast<double>(one.member),
                      store ? "store" : "damaged", one.error, one.text));
    }
  }
  return out;
}

Coding codingOf(const Arguments& args) {
  Coding coding{
      .compressor = static_cast<decode::Compressor>(
          args.integer(0, "compressor", 0, decode::kCompressors - 1)),
      .digester = static_cast<codec::Digester>(
          args.integer(1, "digester", 0, codec::kDigesters - 1)),
  };
  const codec::Source cipher = args.bytes(2, "cipher");
  if (cipher.empty())
    return coding;
  codec::XtsKey& key = coding.cipher.emplace();
  if (cipher.size() != key.key.size() + key.iv.size())
    args.refuse("cipher must have 48 bytes: key and IV");
  std::copy_n(cipher.begin(), key.key.size(), key.key.begin());
  std::copy_n(cipher.begin() + key.key.size(), key.iv.size(), key.iv.begin());
  return coding;
}

// The units of one call: compressor, digester, cipher, stored, target, records,
// extra.
Tasks tasksOf(const Napi::CallbackInfo& info, const Arguments& args) {
  auto held = std::make_shared<Held>();
  auto batch = std::make_shared<Batch>();
  batch->coding = codingOf(args);
  batch->stored = args.bytes(3, "stored");
  batch->target = args.bytes(4, "target");
  args.refuseOverlap(batch->stored, batch->target);
  const codec::Source records = args.bytes(5, "records");
  const codec::Source extra = args.bytes(6, "extra");
  held->stored = Napi::Persistent(info[3].As<Napi::Object>());
  held->target = Napi::Persistent(info[4].As<Napi::Object>());
  batch->owner = std::move(held);
  if (reinterpret_cast<uintptr_t>(records.data()) % alignof(double) != 0 ||
      records.size() % sizeof(double) != 0)
    args.refuse("records must be whole doubles");
  auto tasks =
      decode::parseUnits(batch,
                         {reinterpret_cast<const double*>(records.data()),
                          records.size() / sizeof(double)},
                         extra);
  if (!tasks)
    args.refuse(tasks.reason());
  return std::move(*tasks);
}

// A pool and its threads' way into JavaScript. Calls that are under way hold
// it, too.
class Decoding : public std::enable_shared_from_this<Decoding> {
 public:
  explicit Decoding(size_t threads)
      : pool(threads, [this](std::unique_ptr<UnitTask> task) {
          tell(std::move(task));
        }) {}

  // Keeps the process alive only while units are under way.
  void listen(Napi::Env env, const Napi::Function& listener) {
    function_ =
        Napi::ThreadSafeFunction::New(env, listener, "nydus decoding", 0, 1,
                                      [self = shared_from_this()](Napi::Env) {
                                        const std::lock_guard lock(self->lock_);
                                        self->open_ = false;
                                      });
    function_.Unref(env);
    open_ = true;
  }

  void submit(Napi::Env env, Tasks tasks, bool urgent) {
    if (pending_ == 0 && !tasks.empty())
      function_.Ref(env);
    pending_ += tasks.size();
    pool.submit(std::move(tasks), urgent);
  }

  void close() {
    pool.stop();
    const std::lock_guard lock(lock_);
    finished_.clear();
    if (!std::exchange(open_, false))
      return;
    function_.Release();
  }

 private:
  // One call into JavaScript for all that ends before it is made.
  void tell(std::unique_ptr<UnitTask> task) {
    const std::lock_guard lock(lock_);
    // What it holds is given back on JavaScript's thread, in any case.
    finished_.push_back(std::move(task));
    if (!open_ || finished_.size() > 1)
      return;
    (void)function_.NonBlockingCall(
        [self = shared_from_this()](Napi::Env env, Napi::Function listener) {
          if (env != nullptr && !listener.IsEmpty())
            self->deliver(env, listener);
        });
  }

  void deliver(Napi::Env env, const Napi::Function& listener) {
    Tasks tasks;
    {
      const std::lock_guard lock(lock_);
      tasks.swap(finished_);
    }
    pending_ -= std::min(pending_, tasks.size());
    if (pending_ == 0)
      function_.Unref(env);
    Napi::Float64Array ids = Napi::Float64Array::New(env, tasks.size());
    for (size_t i = 0; i < tasks.size(); i++)
      ids[i] = static_cast<double>(tasks[i]->id);
    const Napi::Array failures = failuresOf(env, tasks);
    tasks.clear();
    listener.Call({ids, failures});
  }

  std::mutex lock_;
  bool open_ = false;
  Napi::ThreadSafeFunction function_;
  Tasks finished_;
  size_t pending_ = 0;  // JavaScript's thread only

 public:
  DecodePool pool;  // last: its threads use the rest
};

// lib/native.ts: DecodePool.
class DecodePoolObject : public Napi::ObjectWrap<DecodePoolObject> {
 public:
  static Napi::Value make(const Napi::CallbackInfo& info) {
    const Napi::Function type =
        DefineClass(info.Env(), "DecodePool",
                    {InstanceMethod<&DecodePoolObject::submit>("submit"),
                     InstanceMethod<&DecodePoolObject::promote>("promote"),
                     InstanceMethod<&DecodePoolObject::close>("close")});
    return type.New({info[0], info[1]});
  }

  explicit DecodePoolObject(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<DecodePoolObject>(info) {
    const Arguments args(info, "createDecodePool");
    const auto threads =
        static_cast<size_t>(args.integer(0, "threads", 1, kMaxThreads));
    if (!info[1].IsFunction())
      args.refuse("a listener is wanted");
    decoding_ = std::make_shared<Decoding>(threads);
    decoding_->listen(info.Env(), info[1].As<Napi::Function>());
  }

  ~DecodePoolObject() override {
    if (decoding_ != nullptr)
      decoding_->close();
  }

 private:
  void submit(const Napi::CallbackInfo& info) {
    const Arguments args(info, "submit");
    const bool urgent = args.boolean(7, "urgent");
    decoding_->submit(info.Env(), tasksOf(info, args), urgent);
  }

  void promote(const Napi::CallbackInfo& info) {
    const Arguments args(info, "promote");
    decoding_->pool.promote(args.offset(0, "id"));
  }

  void close(const Napi::CallbackInfo&) { decoding_->close(); }

  std::shared_ptr<Decoding> decoding_;
};

// decodeUnits(…): on this thread; returns what went wrong.
Napi::Value decodeUnits(const Napi::CallbackInfo& info) {
  const Arguments args(info, "decodeUnits");
  const Tasks tasks = tasksOf(info, args);
  thread_local decode::UnitJob job;
  for (const auto& task : tasks)
    job.run(*task);
  return failuresOf(info.Env(), tasks);
}

}  // namespace

void registerDecodePool(Napi::Env env, Napi::Object exports) {
  exports.Set("createDecodePool", Napi::Function::New<DecodePoolObject::make>(
                                      env, "createDecodePool"));
  exports.Set("decodeUnits",
              Napi::Function::New<decodeUnits>(env, "decodeUnits"));
}

}  // namespace nydus
