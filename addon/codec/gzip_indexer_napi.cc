// Glue: GzipIndexer (lib/native.ts).
#include <napi.h>

#include <algorithm>
#include <string>

#include "args_napi.h"
#include "codec/gzip_indexer.h"

namespace nydus {
namespace {

using codec::BlockBorder;
using codec::GzipIndexer;

// A Float64Array of at least `count` numbers, to be filled.
double* numbers(const Arguments& args,
                const Napi::Value& value,
                size_t count,
                const char* name) {
  if (!value.IsTypedArray() ||
      value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array ||
      value.As<Napi::TypedArray>().ElementLength() < count) {
    args.refuse(std::string(name) + " must be a Float64Array of " +
                std::to_string(count) + " or more");
  }
  return value.As<Napi::Float64Array>().Data();
}

class GzipIndexerObject : public Napi::ObjectWrap<GzipIndexerObject> {
 public:
  static Napi::Value make(const Napi::CallbackInfo& info) {
    const Napi::Function type =
        DefineClass(info.Env(), "GzipIndexer",
                    {InstanceMethod<&GzipIndexerObject::step>("step"),
                     InstanceMethod<&GzipIndexerObject::border>("border")});
    return type.New({});
  }

  explicit GzipIndexerObject(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<GzipIndexerObject>(info) {}

 private:
  void step(const Napi::CallbackInfo& info) {
    const Arguments args(info, "step");
    const codec::Source src = args.bytes(0, "src");
    const codec::Target dst = args.bytes(1, "dst");
    double* const progress = numbers(args, info[2], 4, "progress");
    // zlib counts in 32 bits.
    if (std::max(src.size(), dst.size()) > codec::kMaxBuffer)
      args.refuse("src and dst must be smaller");
    const GzipIndexer::Step done = indexer_.step(src, dst);
    if (done.problem != nullptr) {
      throw makeError(info.Env(), "CODEC_CORRUPT", "EIO", done.problem);
    }
    progress[0] = static_cast<double>(done.taken);
    progress[1] = static_cast<double>(done.written);
    progress[2] = static_cast<double>(indexer_.borders());
    progress[3] = indexer_.betweenMembers() ? 1 : 0;
  }

  Napi::Value border(const Napi::CallbackInfo& info) {
    const Arguments args(info, "border");
    const std::span<std::byte> dictionary = args.bytes(1, "dictionary");
    double* const fields = numbers(args, info[0], 5, "fields");
    const BlockBorder& border = indexer_.border();
    if (dictionary.size() < border.dictionarySize)
      args.refuse("dictionary has no room for 32768 bytes");
    std::copy_n(border.dictionary.begin(), border.dictionarySize,
                dictionary.begin());
    fields[0] = static_cast<double>(border.in);
    fields[1] = static_cast<double>(border.out);
    fields[2] = border.byte;
    fields[3] = border.bits;
    fields[4] = border.member;
    return Napi::Number::New(info.Env(),
                             static_cast<double>(border.dictionarySize));
  }

  GzipIndexer indexer_;
};

}  // namespace

void registerGzipIndexer(Napi::Env env, Napi::Object exports) {
  exports.Set("createGzipIndexer", Napi::Function::New<GzipIndexerObject::make>(
                                       env, "createGzipIndexer"));
}

}  // namespace nydus
