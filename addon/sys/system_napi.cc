// Glue: limits and mounts of this process (lib/native.ts, addon/sys).
#include <napi.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>
#include <string>

#include "args_napi.h"
#include "sys/program_pages.h"
#include "sys/system_error.h"
#include "sys/unix_socket.h"

namespace nydus {
namespace {

double limitNumber(rlim_t limit) {
  return limit == RLIM_INFINITY ? std::numeric_limits<double>::infinity()
                                : static_cast<double>(limit);
}

rlimit openFilesLimit(Napi::Env env) {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    throwSystem(env, errno, "getrlimit", "RLIMIT_NOFILE");
  }
  return limit;
}

Napi::Value getFileLimit(const Napi::CallbackInfo& info) {
  const rlimit limit = openFilesLimit(info.Env());
  Napi::Array out = Napi::Array::New(info.Env(), 2);
  out.Set(0u, limitNumber(limit.rlim_cur));
  out.Set(1u, limitNumber(limit.rlim_max));
  return out;
}

Napi::Value setFileLimit(const Napi::CallbackInfo& info) {
  const Arguments args(info, "setFileLimit");
  const double wanted = args.number(0, "limit");
  const rlim_t target = std::isinf(wanted) && wanted > 0
                            ? RLIM_INFINITY
                            : static_cast<rlim_t>(args.offset(0, "limit"));
  rlimit limit = openFilesLimit(info.Env());
  // Raising the hard limit needs a privilege, and fs.nr_open bounds it even
  // then: what stays is the soft limit as high as it goes.
  const rlimit both = {target, std::max(target, limit.rlim_max)};
  if (::setrlimit(RLIMIT_NOFILE, &both) != 0) {
    const rlimit soft = {std::min(target, limit.rlim_max), limit.rlim_max};
    (void)::setrlimit(RLIMIT_NOFILE, &soft);
  }
  limit = openFilesLimit(info.Env());
  return Napi::Number::New(info.Env(), limitNumber(limit.rlim_cur));
}

void mount(const Napi::CallbackInfo& info) {
  const Arguments args(info, "mount");
  const std::string source = args.text(0, "source");
  const std::string target = args.text(1, "target");
  const std::string type = args.text(2, "type");
  const auto flags =
      static_cast<unsigned long>(args.integer(3, "flags", 0, UINT32_MAX));
  const std::string data = args.text(4, "data");
  if (::mount(source.c_str(), target.c_str(), type.c_str(), flags,
              data.c_str()) != 0) {
    throwSystem(info.Env(), errno, "mount", type + " at " + printable(target));
  }
}

void umount(const Napi::CallbackInfo& info) {
  const Arguments args(info, "umount");
  const std::string target = args.text(0, "target");
  const auto flags = static_cast<int>(args.integer(1, "flags", 0, INT32_MAX));
  if (::umount2(target.c_str(), flags) != 0) {
    throwSystem(info.Env(), errno, "umount", printable(target));
  }
}

Napi::Value listenUnixSocket(const Napi::CallbackInfo& info) {
  const Arguments args(info, "listenUnix");
  const std::string path = args.text(0, "path");
  try {
    return Napi::Number::New(info.Env(), listenUnix(path, SOMAXCONN).release());
  } catch (const SystemError& error) {
    throwSystem(info.Env(), error.error(), error.call(), path);
  }
}

Napi::Value dropProgramPages(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           static_cast<double>(nydus::dropProgramPages()));
}

}  // namespace

void registerSystem(Napi::Env env, Napi::Object exports) {
  exports.Set("getFileLimit",
              Napi::Function::New<getFileLimit>(env, "getFileLimit"));
  exports.Set("setFileLimit",
              Napi::Function::New<setFileLimit>(env, "setFileLimit"));
  exports.Set("listenUnix",
              Napi::Function::New<listenUnixSocket>(env, "listenUnix"));
  exports.Set("dropProgramPages",
              Napi::Function::New<dropProgramPages>(env, "dropProgramPages"));
  exports.Set("mount", Napi::Function::New<mount>(env, "mount"));
  exports.Set("umount", Napi::Function::New<umount>(env, "umount"));
}

}  // namespace nydus
