// What every glue file (*_napi.cc) uses: arguments checked, errors of the
// project's own class. Glue converts numbers first and takes buffer pointers
// last, and never calls back into JavaScript in between, so no pointer can go
// stale under it.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace nydus {

// Makes `errorClass` (NydusError of lib/base/errors.ts) the class that this
// environment's native errors are made of.
void setErrorClass(Napi::Env env, Napi::Function errorClass);

// A NydusError with any code; `errnoName` is what a guest would be answered.
[[nodiscard]] Napi::Error makeError(Napi::Env env,
                                    std::string_view code,
                                    std::string_view errnoName,
                                    const std::string& message);

// SYS_<NAME OF error>, with the property `syscall`. `what` ends up in the
// sentence: "<syscall> of <what>: <reason>".
[[nodiscard]] Napi::Error makeSystemError(Napi::Env env,
                                          int error,
                                          const char* syscall,
                                          const std::string& what);

// Throws that.
[[noreturn]] void throwSystem(Napi::Env env,
                              int error,
                              const char* syscall,
                              const std::string& what);

// Throws NATIVE_BAD_ARGUMENT with a sentence "<function>: <problem>".
[[noreturn]] void throwBadArgument(Napi::Env env,
                                   const char* function,
                                   const std::string& problem);

// Reads the arguments of one call; every method throws NATIVE_BAD_ARGUMENT
// with the argument's name when it does not fit. Never converts (no valueOf,
// no toString): a number must be a number.
class Arguments {
 public:
  Arguments(const Napi::CallbackInfo& info, const char* function)
      : info_(info), function_(function) {}

  // An integer in [min, max]; both must be exact in a double.
  [[nodiscard]] int64_t integer(size_t index,
                                const char* name,
                                int64_t min,
                                int64_t max) const;
  [[nodiscard]] int fd(size_t index) const;
  [[nodiscard]] uint64_t offset(size_t index, const char* name) const;
  [[nodiscard]] double number(size_t index, const char* name) const;
  [[nodiscard]] bool boolean(size_t index, const char* name) const;
  // Valid UTF-16 without NUL, as UTF-8.
  [[nodiscard]] std::string text(size_t index, const char* name) const;
  // The bytes of a Uint8Array (Buffer included), valid until JavaScript runs.
  [[nodiscard]] std::span<std::byte> bytes(size_t index,
                                           const char* name) const;
  // A path or xattr name given as bytes: not empty, no NUL inside.
  [[nodiscard]] std::string name(size_t index, const char* name) const;

  // Buffers that are read and written must not share memory.
  void refuseOverlap(std::span<const std::byte> source,
                     std::span<const std::byte> target) const;

  [[noreturn]] void refuse(const std::string& problem) const {
    throwBadArgument(info_.Env(), function_, problem);
  }

 private:
  const Napi::CallbackInfo& info_;
  const char* function_;
};

// Bytes for a message: printable ASCII as is, all else as \xNN.
[[nodiscard]] std::string printable(std::string_view bytes);

}  // namespace nydus
