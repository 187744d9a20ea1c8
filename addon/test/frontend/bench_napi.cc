#include "test/frontend/bench_napi.h"

#include <memory>
#include <string>
#include <utility>

namespace nydus::frontend {
namespace {

constexpr std::pair<const char*, BenchKind> kKinds[] = {
    {"read", BenchKind::kRead},       {"seq", BenchKind::kSequential},
    {"getattr", BenchKind::kGetattr}, {"lookup", BenchKind::kLookup},
    {"stat", BenchKind::kStat},       {"readdirplus", BenchKind::kReaddirplus},
};

double numberOf(Napi::Object from, const char* name) {
  const Napi::Value value = from.Get(name);
  if (!value.IsNumber()) {
    throw Napi::TypeError::New(from.Env(),
                               std::string(name) + " must be a number");
  }
  return value.As<Napi::Number>().DoubleValue();
}

// Other back-ends use all 64 bits of their node ids.
uint64_t wideOf(Napi::Object from, const char* name) {
  const Napi::Value value = from.Get(name);
  if (!value.IsBigInt()) {
    return static_cast<uint64_t>(numberOf(from, name));
  }
  bool lossless = false;
  return value.As<Napi::BigInt>().Uint64Value(&lossless);
}

class BenchWorker : public Napi::AsyncWorker {
 public:
  BenchWorker(Napi::Env env,
              GuestSpace& space,
              std::vector<FuseQueue*> queues,
              BenchOptions options,
              std::function<void()> done)
      : AsyncWorker(env, "bench"),
        space_(space),
        queues_(std::move(queues)),
        options_(std::move(options)),
        done_(std::move(done)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  [[nodiscard]] Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { result_ = runBench(space_, queues_, options_); }

  void OnOK() override {
    done_();
    Napi::Object out = Napi::Object::New(Env());
    const auto set = [&](const char* name, uint64_t value) {
      out.Set(name, static_cast<double>(value));
    };
    set("ops", result_.ops);
    set("bytes", result_.bytes);
    set("nanoseconds", result_.nanoseconds);
    set("errors", result_.errors);
    set("wrongUsedLengths", result_.wrongUsedLengths);
    set("kicks", result_.kicks);
    set("interrupts", result_.interrupts);
    set("p50", result_.latencies.quantile(0.5));
    set("p99", result_.latencies.quantile(0.99));
    set("p999", result_.latencies.quantile(0.999));
    out.Set("problem", result_.problem);
    deferred_.Resolve(out);
  }

  void OnError(const Napi::Error& error) override {
    done_();
    deferred_.Reject(error.Value());
  }

 private:
  GuestSpace& space_;
  const std::vector<FuseQueue*> queues_;
  const BenchOptions options_;
  const std::function<void()> done_;
  const Napi::Promise::Deferred deferred_;
  BenchResult result_;
};

}  // namespace

BenchOptions readBenchOptions(Napi::Object from) {
  BenchOptions options;
  const std::string kind = from.Get("kind").ToString().Utf8Value();
  bool known = false;
  for (const auto& [name, value] : kKinds) {
    if (kind == name) {
      options.kind = value;
      known = true;
    }
  }
  if (!known) {
    throw Napi::TypeError::New(from.Env(), "there is no load " + kind);
  }
  options.size = static_cast<uint32_t>(numberOf(from, "size"));
  options.depth = static_cast<uint32_t>(numberOf(from, "depth"));
  options.poll = from.Get("poll").ToBoolean();
  options.seconds = numberOf(from, "seconds");
  options.maxOps = static_cast<uint64_t>(numberOf(from, "maxOps"));
  options.seed = static_cast<uint64_t>(numberOf(from, "seed"));
  options.coldEvery = static_cast<uint32_t>(numberOf(from, "coldEvery"));
  options.coldFrom = static_cast<uint64_t>(numberOf(from, "coldFrom"));
  const auto targets = from.Get("targets").As<Napi::Array>();
  for (uint32_t i = 0; i < targets.Length(); i++) {
    const auto target = targets.Get(i).As<Napi::Object>();
    BenchTarget out;
    out.nodeid = wideOf(target, "nodeid");
    out.fh = wideOf(target, "fh");
    out.size = static_cast<uint64_t>(numberOf(target, "size"));
    auto name = target.Get("name").As<Napi::Uint8Array>();
    out.name.assign(reinterpret_cast<const char*>(name.Data()),
                    name.ByteLength());
    options.targets.push_back(std::move(out));
  }
  return options;
}

Napi::Value startBench(Napi::Env env,
                       GuestSpace& space,
                       std::vector<FuseQueue*> queues,
                       BenchOptions options,
                       std::function<void()> done) {
  auto worker = std::make_unique<BenchWorker>(
      env, space, std::move(queues), std::move(options), std::move(done));
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  (void)worker.release();  // an AsyncWorker deletes itself
  return promise;
}

}  // namespace nydus::frontend
