#include "args_napi.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

namespace nydus {
namespace {

constexpr double kMaxSafeInteger = 9007199254740991.0;

// What belongs to one Node environment (main thread or Worker) and dies with
// it. The class is a reference, so that tests may replace it.
struct Environment {
  Napi::FunctionReference errorClass;
};

// The errnos of lib/base/errors.ts (ERRNO): what a guest may be answered. A
// system call may fail with others; a guest sees those as EIO.
constexpr std::string_view kGuestErrnos[] = {
    "EPERM",  "ENOENT",  "EINTR",      "EIO",    "ENXIO",     "EBADF",
    "EAGAIN", "ENOMEM",  "EACCES",     "EFAULT", "EBUSY",     "EEXIST",
    "ENODEV", "ENOTDIR", "EISDIR",     "EINVAL", "ENFILE",    "ENOTTY",
    "EFBIG",  "ENOSPC",  "EROFS",      "ERANGE", "ENOSYS",    "ENAMETOOLONG",
    "EPROTO", "ENODATA", "EOPNOTSUPP", "ESTALE", "ETIMEDOUT", "EOVERFLOW"};

std::string_view guestErrno(std::string_view name) {
  for (const std::string_view known : kGuestErrnos) {
    if (known == name)
      return known;
  }
  return "EIO";
}

}  // namespace

void setErrorClass(Napi::Env env, Napi::Function errorClass) {
  auto* environment = env.GetInstanceData<Environment>();
  if (environment == nullptr) {
    auto fresh = std::make_unique<Environment>();
    environment = fresh.get();
    env.SetInstanceData(fresh.release());  // deleted with the environment
  }
  environment->errorClass = Napi::Persistent(errorClass);
}

Napi::Error makeError(Napi::Env env,
                      std::string_view code,
                      std::string_view errnoName,
                      const std::string& message) {
  const std::string codeText(code);
  const std::string errnoText(errnoName);
  auto* environment = env.GetInstanceData<Environment>();
  if (environment == nullptr || environment->errorClass.IsEmpty()) {
    Napi::Error error = Napi::Error::New(env, message);
    error.Set("code", Napi::String::New(env, codeText));
    error.Set("errno", Napi::String::New(env, errnoText));
    return error;
  }
  return Napi::Error(
      env, environment->errorClass.New({Napi::String::New(env, codeText),
                                        Napi::String::New(env, errnoText),
                                        Napi::String::New(env, message)}));
}

Napi::Error makeSystemError(Napi::Env env,
                            int error,
                            const char* syscall,
                            const std::string& what) {
  const char* known = ::strerrorname_np(error);
  const std::string name =
      known != nullptr ? known : "E" + std::to_string(error);
  const char* reason = ::strerrordesc_np(error);
  Napi::Error made = makeError(
      env, "SYS_" + name, guestErrno(name),
      std::string(syscall) + " of " + what + ": " +
          (reason != nullptr ? reason : "unknown error") + " (" + name + ")");
  made.Set("syscall", Napi::String::New(env, syscall));
  return made;
}

void throwSystem(Napi::Env env,
                 int error,
                 const char* syscall,
                 const std::string& what) {
  throw makeSystemError(env, error, syscall, what);
}

void throwBadArgument(Napi::Env env,
                      const char* function,
                      const std::string& problem) {
  throw makeError(env, "NATIVE_BAD_ARGUMENT", "EINVAL",
                  std::string(function) + ": " + problem);
}

double Arguments::number(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsNumber())
    refuse(std::string(name) + " must be a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t Arguments::integer(size_t index,
                           const char* name,
                           int64_t min,
                           int64_t max) const {
  const double value = number(index, name);
  if (!(value >= static_cast<double>(min)) ||
      !(value <= static_cast<double>(max)) ||
      std::abs(value) > kMaxSafeInteger || std::trunc(value) != value) {
    refuse(std::string(name) + " must be an integer from " +
           std::to_string(min) + " to " + std::to_string(max));
  }
  return static_cast<int64_t>(value);
}

int Arguments::fd(size_t index) const {
  return static_cast<int>(integer(index, "fd", 0, INT32_MAX));
}

uint64_t Arguments::offset(size_t index, const char* name) const {
  return static_cast<uint64_t>(
      integer(index, name, 0, static_cast<int64_t>(kMaxSafeInteger)));
}

bool Arguments::boolean(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsBoolean())
    refuse(std::string(name) + " must be a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string Arguments::text(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsString())
    refuse(std::string(name) + " must be a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) {
    refuse(std::string(name) + " must not contain a NUL character");
  }
  return text;
}

std::span<std::byte> Arguments::bytes(size_t index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsTypedArray() ||
      value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    refuse(std::string(name) + " must be a Uint8Array");
  }
  auto array = value.As<Napi::Uint8Array>();
  return {reinterpret_cast<std::byte*>(array.Data()), array.ByteLength()};
}

std::string Arguments::name(size_t index, const char* name) const {
  const std::span<std::byte> raw = bytes(index, name);
  if (raw.empty())
    refuse(std::string(name) + " must not be empty");
  std::string out(reinterpret_cast<const char*>(raw.data()), raw.size());
  if (out.find('\0') != std::string::npos) {
    refuse(std::string(name) + " must not contain a NUL byte");
  }
  return out;
}

void Arguments::refuseOverlap(std::span<const std::byte> source,
                              std::span<const std::byte> target) const {
  // std::less: a total order also for pointers into different arrays.
  const std::less<const std::byte*> before;
  if (before(source.data(), target.data() + target.size()) &&
      before(target.data(), source.data() + source.size()))
    refuse("source and target overlap");
}

std::string printable(std::string_view bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\') {
      out += c;
    } else {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

}  // namespace nydus
