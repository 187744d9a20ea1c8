// Glue: mappings, registered files, holes and locks (lib/native.ts, addon/sys).
#include <fcntl.h>
#include <napi.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>

#include "args_napi.h"
#include "sys/fault_guard.h"
#include "sys/file_registry.h"
#include "sys/mapping.h"
#include "sys/system_error.h"

namespace nydus {
namespace {

std::string fdText(int fd) {
  return "fd " + std::to_string(fd);
}

Napi::Value mapFile(const Napi::CallbackInfo& info) {
  const Arguments args(info, "mapFile");
  const int fd = args.fd(0);
  const uint64_t length = args.offset(1, "length");
  const std::string mode = args.text(2, "mode");
  if (mode != "r" && mode != "rw")
    args.refuse("mode must be 'r' or 'rw'");
  if (length == 0)
    return Napi::ArrayBuffer::New(info.Env(), 0);
  try {
    auto mapping = std::make_unique<Mapping>(Mapping::ofFile(
        fd, length,
        mode == "rw" ? Mapping::Mode::kReadWrite : Mapping::Mode::kReadOnly));
    std::byte* data = mapping->data();
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
        info.Env(), data, length,
        // Takes the mapping over; this scope is left without it below.
        [](Napi::Env, void*, Mapping* owned) {
          std::unique_ptr<Mapping>{owned};
        },
        mapping.get());
    (void)mapping.release();
    return buffer;
  } catch (const SystemError& error) {
    throwSystem(info.Env(), error.error(), error.call(),
                std::to_string(length) + " bytes of " + fdText(fd));
  }
}

Napi::Value mappingFaults(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           static_cast<double>(FaultGuard::faults()));
}

Napi::Value registerFile(const Napi::CallbackInfo& info) {
  const Arguments args(info, "registerFile");
  const int fd = args.fd(0);
  const uint64_t length = args.offset(1, "length");
  try {
    return Napi::Number::New(info.Env(),
                             FileRegistry::process().add(fd, length));
  } catch (const SystemError& error) {
    throwSystem(info.Env(), error.error(), error.call(),
                std::to_string(length) + " bytes of " + fdText(fd));
  }
}

void releaseFile(const Napi::CallbackInfo& info) {
  const Arguments args(info, "releaseFile");
  const auto file =
      static_cast<uint32_t>(args.integer(0, "file", 0, UINT32_MAX));
  if (!FileRegistry::process().release(file)) {
    args.refuse("file " + std::to_string(file) + " is not registered");
  }
}

Napi::Value seekData(const Napi::CallbackInfo& info) {
  const Arguments args(info, "seekData");
  const int fd = args.fd(0);
  const uint64_t offset = args.offset(1, "offset");
  const auto whence =
      static_cast<int>(args.integer(2, "whence", SEEK_DATA, SEEK_HOLE));
  const off_t found = ::lseek(fd, static_cast<off_t>(offset), whence);
  if (found < 0 && errno != ENXIO) {
    throwSystem(info.Env(), errno, "lseek",
                fdText(fd) + " to " + std::to_string(offset));
  }
  return Napi::Number::New(info.Env(), static_cast<double>(found));
}

void fallocatePunch(const Napi::CallbackInfo& info) {
  const Arguments args(info, "fallocatePunch");
  const int fd = args.fd(0);
  const uint64_t offset = args.offset(1, "offset");
  const uint64_t length = args.offset(2, "length");
  if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(offset),
                  static_cast<off_t>(length)) != 0) {
    throwSystem(info.Env(), errno, "fallocate",
                std::to_string(length) + " bytes at " + std::to_string(offset) +
                    " of " + fdText(fd));
  }
}

Napi::Value lockFile(const Napi::CallbackInfo& info) {
  const Arguments args(info, "lockFile");
  const int fd = args.fd(0);
  const bool wait = args.boolean(1, "wait");
  const bool shared = info.Length() > 2 && args.boolean(2, "shared");
  int result = 0;
  do {
    result = ::flock(fd, (shared ? LOCK_SH : LOCK_EX) | (wait ? 0 : LOCK_NB));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EWOULDBLOCK) {
    throwSystem(info.Env(), errno, "flock", fdText(fd));
  }
  return Napi::Boolean::New(info.Env(), result == 0);
}

}  // namespace

void registerFiles(Napi::Env env, Napi::Object exports) {
  exports.Set("mapFile", Napi::Function::New<mapFile>(env, "mapFile"));
  exports.Set("mappingFaults",
              Napi::Function::New<mappingFaults>(env, "mappingFaults"));
  exports.Set("registerFile",
              Napi::Function::New<registerFile>(env, "registerFile"));
  exports.Set("releaseFile",
              Napi::Function::New<releaseFile>(env, "releaseFile"));
  exports.Set("seekData", Napi::Function::New<seekData>(env, "seekData"));
  exports.Set("fallocatePunch",
              Napi::Function::New<fallocatePunch>(env, "fallocatePunch"));
  exports.Set("lockFile", Napi::Function::New<lockFile>(env, "lockFile"));
}

}  // namespace nydus
