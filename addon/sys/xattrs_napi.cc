// Glue: extended attributes and device nodes by byte paths, never following
// a symlink at the end (lib/native.ts, addon/sys).
#include <linux/limits.h>
#include <napi.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/xattr.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "args_napi.h"

namespace nydus {
namespace {

// XATTR_SIZE_MAX and XATTR_LIST_MAX are the most that Linux gives out, so one
// call into a buffer of that size cannot meet a value that grew in between.
static_assert(XATTR_SIZE_MAX == 65536 && XATTR_LIST_MAX == 65536);
constexpr size_t kMostBytes = 65536;

Napi::Value toBytes(Napi::Env env, const std::vector<char>& from, size_t n) {
  Napi::Uint8Array out = Napi::Uint8Array::New(env, n);
  if (n > 0)
    std::memcpy(out.Data(), from.data(), n);
  return out;
}

Napi::Value lgetxattr(const Napi::CallbackInfo& info) {
  const Arguments args(info, "lgetxattr");
  const std::string path = args.name(0, "path");
  const std::string name = args.name(1, "name");
  std::vector<char> value(kMostBytes);
  const ssize_t length =
      ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
  if (length < 0) {
    throwSystem(info.Env(), errno, "lgetxattr",
                printable(name) + " of " + printable(path));
  }
  return toBytes(info.Env(), value, static_cast<size_t>(length));
}

Napi::Value llistxattr(const Napi::CallbackInfo& info) {
  const Arguments args(info, "llistxattr");
  const std::string path = args.name(0, "path");
  std::vector<char> names(kMostBytes);
  const ssize_t length = ::llistxattr(path.c_str(), names.data(), names.size());
  if (length < 0) {
    throwSystem(info.Env(), errno, "llistxattr", printable(path));
  }
  return toBytes(info.Env(), names, static_cast<size_t>(length));
}

void lsetxattr(const Napi::CallbackInfo& info) {
  const Arguments args(info, "lsetxattr");
  const std::string path = args.name(0, "path");
  const std::string name = args.name(1, "name");
  const std::span<std::byte> value = args.bytes(2, "value");
  if (::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) !=
      0) {
    throwSystem(info.Env(), errno, "lsetxattr",
                printable(name) + " of " + printable(path));
  }
}

void mknod(const Napi::CallbackInfo& info) {
  const Arguments args(info, "mknod");
  const auto mode = static_cast<mode_t>(args.integer(1, "mode", 0, 0177777));
  const auto major =
      static_cast<unsigned>(args.integer(2, "major", 0, UINT32_MAX));
  const auto minor =
      static_cast<unsigned>(args.integer(3, "minor", 0, UINT32_MAX));
  const std::string path = args.name(0, "path");
  if (::mknod(path.c_str(), mode, ::makedev(major, minor)) != 0) {
    throwSystem(info.Env(), errno, "mknod", printable(path));
  }
}

}  // namespace

void registerXattrs(Napi::Env env, Napi::Object exports) {
  exports.Set("lgetxattr", Napi::Function::New<lgetxattr>(env, "lgetxattr"));
  exports.Set("llistxattr", Napi::Function::New<llistxattr>(env, "llistxattr"));
  exports.Set("lsetxattr", Napi::Function::New<lsetxattr>(env, "lsetxattr"));
  exports.Set("mknod", Napi::Function::New<mknod>(env, "mknod"));
}

}  // namespace nydus
