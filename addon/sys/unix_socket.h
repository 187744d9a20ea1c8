// UNIX sockets in the file system.
#pragma once

#include <string>

#include "base/fd.h"

namespace nydus {

// A socket that listens at `path`, mode 0600, non-blocking. Who sees the file
// can connect: nothing but the kernel's two calls lies between making it and
// listening. Throws SystemError named after the call that failed; nothing is
// left then.
[[nodiscard]] UniqueFd listenUnix(const std::string& path, int backlog);

}  // namespace nydus
