// Glue: benchmarks as promises.
#pragma once

#include <napi.h>

#include <functional>
#include <vector>

#include "test/frontend/bench.h"

namespace nydus::frontend {

// The record BenchOptions of addon/test/native-frontend.ts.
BenchOptions readBenchOptions(Napi::Object from);

// Runs the load on a thread of its own; `done` is called on the JavaScript
// thread before the promise settles. Resolves with BenchResult of
// addon/test/native-frontend.ts.
Napi::Value startBench(Napi::Env env,
                       GuestSpace& space,
                       std::vector<FuseQueue*> queues,
                       BenchOptions options,
                       std::function<void()> done);

}  // namespace nydus::frontend
