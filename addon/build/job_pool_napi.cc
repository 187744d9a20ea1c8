// Glue: JobPool and digests of the image builder (lib/native.ts).
#include "build/job_pool.h"

#include <napi.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "args_napi.h"
#include "codec/codec.h"

namespace nydus {
namespace {

using build::JobPool;
using build::JobSettings;
using build::Outcome;
using build::Part;
using build::Problem;
using build::Slot;
using build::SlotLimits;

constexpr int64_t kMaxThreads = 64;
constexpr int64_t kMaxSlots = 256;
constexpr int64_t kMaxParts = 1 << 20;
constexpr int64_t kMaxBytes = 1 << 30;

// A pool, its threads' way into JavaScript, and what keeps both until neither
// is used: JavaScript's views of the slots and calls under way hold it, too.
class Jobs : public std::enable_shared_from_this<Jobs> {
 public:
  Jobs(const JobSettings& settings,
       const SlotLimits& limits,
       size_t slots,
       size_t threads)
      : pool(settings, limits, slots, threads, [this](size_t slot) {
          tell(slot);
        }) {}

  // Keeps the process alive until `close`.
  void listen(Napi::Env env, const Napi::Function& listener) {
    function_ =
        Napi::ThreadSafeFunction::New(env, listener, "nydus build jobs", 0, 1,
                                      [self = shared_from_this()](Napi::Env) {
                                        const std::lock_guard lock(self->lock_);
                                        self->open_ = false;
                                      });
    open_ = true;
  }

  void close() {
    pool.stop();
    const std::lock_guard lock(lock_);
    if (!std::exchange(open_, false))
      return;
    function_.Release();
  }

 private:
  void tell(size_t index) {
    const std::lock_guard lock(lock_);
    if (!open_)
      return;
    (void)function_.NonBlockingCall(
        [self = shared_from_this(), index](Napi::Env env,
                                           Napi::Function listener) {
          if (env != nullptr && !listener.IsEmpty())
            self->deliver(env, listener, index);
        });
  }

  void deliver(Napi::Env env, const Napi::Function& listener, size_t index) {
    const Slot& slot = pool.slot(index);
    const Outcome& outcome = slot.outcome;
    const Napi::Value number =
        Napi::Number::New(env, static_cast<double>(index));
    const Napi::Value chunks =
        Napi::Number::New(env, static_cast<double>(outcome.chunks));
    if (outcome.problem == Problem::kNone) {
      listener.Call({number, chunks});
      return;
    }
    const Napi::Value part =
        Napi::Number::New(env, static_cast<double>(outcome.part));
    const Napi::Value found = Napi::Number::New(env, outcome.foundSize);
    if (outcome.problem == Problem::kChanged) {
      listener.Call({number, chunks, part, found});
      return;
    }
    listener.Call({number, chunks, part, found,
                   makeSystemError(env, outcome.error, outcome.call,
                                   pathOf(slot, slot.taken()[outcome.part]))
                       .Value()});
  }

  static std::string pathOf(const Slot& slot, const Part& part) {
    const auto* input = reinterpret_cast<const char*>(slot.input().data());
    const std::string folder(input + static_cast<size_t>(part.folderAt),
                             static_cast<size_t>(part.folderLength));
    const std::string name(input + static_cast<size_t>(part.nameAt),
                           static_cast<size_t>(part.nameLength));
    return printable(folder) + "/" + printable(name);
  }

  std::mutex lock_;
  bool open_ = false;
  Napi::ThreadSafeFunction function_;

 public:
  JobPool pool;  // last: its threads use the rest
};

// lib/native.ts: JobPool.
class JobPoolObject : public Napi::ObjectWrap<JobPoolObject> {
 public:
  static Napi::Value make(const Napi::CallbackInfo& info) {
    const Napi::Function type =
        DefineClass(info.Env(), "JobPool",
                    {InstanceMethod<&JobPoolObject::memory>("memory"),
                     InstanceMethod<&JobPoolObject::submit>("submit"),
                     InstanceMethod<&JobPoolObject::close>("close")});
    return type.New({info[0], info[1]});
  }

  explicit JobPoolObject(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<JobPoolObject>(info) {
    const Arguments args(info, "createJobPool");
    if (!info[0].IsObject() || !info[1].IsFunction())
      args.refuse("options and a listener are wanted");
    const auto options = info[0].As<Napi::Object>();
    const auto integer = [&](const char* name, int64_t min, int64_t max) {
      const Napi::Value value = options.Get(name);
      const double number =
          value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
      if (!(number >= static_cast<double>(min) &&
            number <= static_cast<double>(max)))
        args.refuse(std::string(name) + " must be a number from " +
                    std::to_string(min) + " to " + std::to_string(max));
      return static_cast<size_t>(number);
    };
    const codec::Levels levels = codec::zstdLevels();
    const JobSettings settings{
        .compressor = static_cast<build::Compressor>(
            integer("compressor", 0, build::kCompressors - 1)),
        .level = static_cast<int>(integer("level", 0, levels.max)),
        .digester = static_cast<codec::Digester>(
            integer("digester", 0, codec::kDigesters - 1)),
        .chunkSize = integer("chunkSize", 1, kMaxBytes),
        .batchLimit = integer("batchLimit", 0, kMaxBytes),
        .discard = options.Get("discard").ToBoolean(),
    };
    const size_t bytes = integer("bytes", 1, kMaxBytes);
    const size_t parts = integer("parts", 1, kMaxParts);
    const SlotLimits limits{
        .parts = parts,
        .chunks = bytes / settings.chunkSize + parts,
        .bytes = bytes,
        .paths = integer("paths", 1, kMaxBytes),
        .spare =
            std::max(codec::lz4Bound(bytes), codec::zstdBound(bytes)) - bytes,
    };
    jobs_ =
        std::make_shared<Jobs>(settings, limits, integer("slots", 1, kMaxSlots),
                               integer("threads", 1, kMaxThreads));
    jobs_->listen(info.Env(), info[1].As<Napi::Function>());
  }

  ~JobPoolObject() override {
    if (jobs_ != nullptr)
      jobs_->close();
  }

 private:
  size_t slotIndex(const Arguments& args) const {
    return static_cast<size_t>(args.integer(
        0, "slot", 0, static_cast<int64_t>(jobs_->pool.slots()) - 1));
  }

  // The slot's parts, input, results and data, as ArrayBuffers.
  Napi::Value memory(const Napi::CallbackInfo& info) {
    const Arguments args(info, "memory");
    const Slot& slot = jobs_->pool.slot(slotIndex(args));
    const auto view = [&](auto span) -> Napi::Value {
      auto owner = std::make_unique<std::shared_ptr<Jobs>>(jobs_);
      const Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
          info.Env(), span.data(), span.size_bytes(),
          [](Napi::Env, void*, std::shared_ptr<Jobs>* owned) {
            std::unique_ptr<std::shared_ptr<Jobs>>{owned};
          },
          owner.get());
      (void)owner.release();
      return buffer;
    };
    Napi::Array out = Napi::Array::New(info.Env(), 4);
    out.Set(uint32_t{0}, view(slot.parts()));
    out.Set(uint32_t{1}, view(slot.input()));
    out.Set(uint32_t{2}, view(slot.results()));
    out.Set(uint32_t{3}, view(slot.data()));
    return out;
  }

  void submit(const Napi::CallbackInfo& info) {
    const Arguments args(info, "submit");
    const size_t index = slotIndex(args);
    const auto kind = static_cast<build::JobKind>(
        args.integer(1, "kind", 0, build::kJobKinds - 1));
    const auto parts =
        static_cast<size_t>(args.integer(2, "parts", 0, kMaxParts));
    const char* problem = jobs_->pool.slot(index).take(
        kind, parts, jobs_->pool.settings().chunkSize);
    if (problem != nullptr)
      args.refuse(problem);
    jobs_->pool.submit(index);
  }

  void close(const Napi::CallbackInfo&) { jobs_->close(); }

  std::shared_ptr<Jobs> jobs_;
};

// digestInto(digester, bytes, into): 32 bytes over `bytes`.
void digestInto(const Napi::CallbackInfo& info) {
  const Arguments args(info, "digestInto");
  const auto digester = static_cast<codec::Digester>(
      args.integer(0, "digester", 0, codec::kDigesters - 1));
  const codec::Source bytes = args.bytes(1, "bytes");
  const codec::Target into = args.bytes(2, "into");
  if (into.size() != codec::kDigestSize)
    args.refuse("into must have 32 bytes");
  codec::digest(digester, bytes, codec::DigestTarget(into));
}

}  // namespace

void registerJobPool(Napi::Env env, Napi::Object exports) {
  exports.Set("createJobPool",
              Napi::Function::New<JobPoolObject::make>(env, "createJobPool"));
  exports.Set("digestInto", Napi::Function::New<digestInto>(env, "digestInto"));
}

}  // namespace nydus
