// Glue: codecs (lib/native.ts, addon/codec).
#include <napi.h>

#include <functional>
#include <string>

#include "args_napi.h"
#include "codec/codec.h"

namespace nydus {
namespace {

using codec::Outcome;
using codec::Source;
using codec::Target;

// History that deflate can look back into.
constexpr size_t kMaxDictionary = 32768;

Target buffer(const Arguments& args, size_t index, const char* name) {
  const Target bytes = args.bytes(index, name);
  if (bytes.size() > codec::kMaxBuffer) {
    args.refuse(std::string(name) + " has " + std::to_string(bytes.size()) +
                " bytes, at most " + std::to_string(codec::kMaxBuffer) +
                " can be taken");
  }
  return bytes;
}

void refuseOverlap(const Arguments& args, Source src, Target dst) {
  // std::less: a total order also for pointers into different arrays.
  const std::less<const std::byte*> before;
  if (before(src.data(), dst.data() + dst.size()) &&
      before(dst.data(), src.data() + src.size())) {
    args.refuse("src and dst overlap");
  }
}

double sizeOf(Napi::Env env, const char* function, const Outcome& outcome) {
  if (outcome.problem != nullptr) {
    throw makeError(env, "CODEC_CORRUPT", "EIO",
                    std::string(function) + ": " + outcome.problem);
  }
  return static_cast<double>(outcome.size);
}

Napi::Value lz4Decompress(const Napi::CallbackInfo& info) {
  const Arguments args(info, "lz4Decompress");
  const Source src = buffer(args, 0, "src");
  const Target dst = buffer(args, 1, "dst");
  refuseOverlap(args, src, dst);
  return Napi::Number::New(info.Env(), sizeOf(info.Env(), "lz4Decompress",
                                              codec::lz4Decompress(src, dst)));
}

Napi::Value lz4Compress(const Napi::CallbackInfo& info) {
  const Arguments args(info, "lz4Compress");
  const Source src = buffer(args, 0, "src");
  const Target dst = buffer(args, 1, "dst");
  refuseOverlap(args, src, dst);
  return Napi::Number::New(info.Env(), sizeOf(info.Env(), "lz4Compress",
                                              codec::lz4Compress(src, dst)));
}

Napi::Value zstdDecompress(const Napi::CallbackInfo& info) {
  const Arguments args(info, "zstdDecompress");
  const Source src = buffer(args, 0, "src");
  const Target dst = buffer(args, 1, "dst");
  refuseOverlap(args, src, dst);
  return Napi::Number::New(info.Env(), sizeOf(info.Env(), "zstdDecompress",
                                              codec::zstdDecompress(src, dst)));
}

Napi::Value zstdCompress(const Napi::CallbackInfo& info) {
  const Arguments args(info, "zstdCompress");
  const codec::Levels levels = codec::zstdLevels();
  const auto level =
      static_cast<int>(args.integer(2, "level", levels.min, levels.max));
  const Source src = buffer(args, 0, "src");
  const Target dst = buffer(args, 1, "dst");
  refuseOverlap(args, src, dst);
  return Napi::Number::New(
      info.Env(),
      sizeOf(info.Env(), "zstdCompress", codec::zstdCompress(src, dst, level)));
}

void zranInflate(const Napi::CallbackInfo& info) {
  const Arguments args(info, "zranInflate");
  const auto byte = static_cast<uint8_t>(args.integer(2, "byte", 0, 255));
  const auto bits = static_cast<int>(args.integer(3, "bits", 0, 7));
  const Source src = buffer(args, 0, "src");
  const Source dictionary = buffer(args, 1, "dictionary");
  const Target dst = buffer(args, 4, "dst");
  if (dictionary.size() > kMaxDictionary) {
    args.refuse("dictionary has " + std::to_string(dictionary.size()) +
                " bytes, at most 32768 can be taken");
  }
  refuseOverlap(args, src, dst);
  refuseOverlap(args, dictionary, dst);
  (void)sizeOf(info.Env(), "zranInflate",
               codec::zranInflate(src, dictionary, byte, bits, dst));
}

}  // namespace

void registerCodecs(Napi::Env env, Napi::Object exports) {
  exports.Set("lz4Decompress",
              Napi::Function::New<lz4Decompress>(env, "lz4Decompress"));
  exports.Set("lz4Compress",
              Napi::Function::New<lz4Compress>(env, "lz4Compress"));
  exports.Set("zstdDecompress",
              Napi::Function::New<zstdDecompress>(env, "zstdDecompress"));
  exports.Set("zstdCompress",
              Napi::Function::New<zstdCompress>(env, "zstdCompress"));
  exports.Set("zranInflate",
              Napi::Function::New<zranInflate>(env, "zranInflate"));
}

}  // namespace nydus
