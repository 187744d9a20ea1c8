// Glue: codecs (lib/native.ts, addon/codec).
#include <napi.h>

#include <string>

#include "args_napi.h"
#include "codec/codec.h"

namespace nydus {
namespace {

using codec::Outcome;
using codec::Source;
using codec::Target;

Target buffer(const Arguments& args, size_t index, const char* name) {
  const Target bytes = args.bytes(index, name);
  if (bytes.size() > codec::kMaxBuffer) {
    args.refuse(std::string(name) + " has " + std::to_string(bytes.size()) +
                " bytes, at most " + std::to_string(codec::kMaxBuffer) +
                " can be taken");
  }
  return bytes;
}

double sizeOf(Napi::Env env, const char* function, const Outcome& outcome) {
  if (outcome.problem != nullptr) {
    throw makeError(env, "CODEC_CORRUPT", "EIO",
                    std::string(function) + ": " + outcome.problem);
  }
  return static_cast<double>(outcome.size);
}

Napi::Value lz4Compress(const Napi::CallbackInfo& info) {
  const Arguments args(info, "lz4Compress");
  const Source src = buffer(args, 0, "src");
  const Target dst = buffer(args, 1, "dst");
  args.refuseOverlap(src, dst);
  return Napi::Number::New(info.Env(), sizeOf(info.Env(), "lz4Compress",
                                              codec::lz4Compress(src, dst)));
}

Napi::Value zstdCompress(const Napi::CallbackInfo& info) {
  const Arguments args(info, "zstdCompress");
  const codec::Levels levels = codec::zstdLevels();
  const auto level =
      static_cast<int>(args.integer(2, "level", levels.min, levels.max));
  const Source src = buffer(args, 0, "src");
  const Target dst = buffer(args, 1, "dst");
  args.refuseOverlap(src, dst);
  return Napi::Number::New(
      info.Env(),
      sizeOf(info.Env(), "zstdCompress", codec::zstdCompress(src, dst, level)));
}

}  // namespace

void registerCodecs(Napi::Env env, Napi::Object exports) {
  exports.Set("lz4Compress",
              Napi::Function::New<lz4Compress>(env, "lz4Compress"));
  exports.Set("zstdCompress",
              Napi::Function::New<zstdCompress>(env, "zstdCompress"));
}

}  // namespace nydus
