// The front-end's end of a vhost-user socket: messages with descriptors, whole
// or as broken as a test wants them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"

namespace nydus::frontend {

struct VhostMessage {
  uint32_t request = 0;
  uint32_t flags = 0;
  std::vector<std::byte> payload;
  std::vector<UniqueFd> fds;
};

class VhostSocket {
 public:
  // Throws SystemError.
  explicit VhostSocket(const std::string& path);

  // Sends bytes as they are, `fds` attached to the first of them. Throws
  // SystemError (EPIPE when the back-end has closed).
  void send(std::span<const std::byte> bytes, std::span<const int> fds);

  // True when a message has come, or the end of the connection.
  [[nodiscard]] bool ready(std::chrono::milliseconds timeout) const;
  // The next message; nothing when the back-end has closed the connection.
  // Throws SystemError, ETIMEDOUT when a message does not end within 10 s.
  std::optional<VhostMessage> receive();

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

 private:
  UniqueFd socket_;
};

}  // namespace nydus::frontend
