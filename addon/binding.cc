// The names that the addon exports: one line per glue file.
#include <napi.h>

#include "args_napi.h"

namespace nydus {

void registerFiles(Napi::Env env, Napi::Object exports);
void registerXattrs(Napi::Env env, Napi::Object exports);
void registerScan(Napi::Env env, Napi::Object exports);
void registerSystem(Napi::Env env, Napi::Object exports);
void registerCodecs(Napi::Env env, Napi::Object exports);
void registerGzipIndexer(Napi::Env env, Napi::Object exports);
void registerJobPool(Napi::Env env, Napi::Object exports);
void registerDecodePool(Napi::Env env, Napi::Object exports);
void registerDevice(Napi::Env env, Napi::Object exports);
void registerLane(Napi::Env env, Napi::Object exports);

namespace {

void takeErrorClass(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) {
    throwBadArgument(info.Env(), "setErrorClass",
                     "errorClass must be a constructor");
  }
  setErrorClass(info.Env(), info[0].As<Napi::Function>());
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("setErrorClass",
              Napi::Function::New<takeErrorClass>(env, "setErrorClass"));
  registerFiles(env, exports);
  registerXattrs(env, exports);
  registerScan(env, exports);
  registerSystem(env, exports);
  registerCodecs(env, exports);
  registerGzipIndexer(env, exports);
  registerJobPool(env, exports);
  registerDecodePool(env, exports);
  registerDevice(env, exports);
  registerLane(env, exports);
  return exports;
}

}  // namespace
}  // namespace nydus

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  return nydus::initialize(env, exports);
}
NODE_API_MODULE(addon, initialize)
