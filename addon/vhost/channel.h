// A connected vhost-user socket: whole messages with their descriptors, read
// without ever waiting. The peer may send anything, in any pieces.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "vhost/protocol.h"

namespace nydus {

struct Message {
  MessageHeader header{};
  std::vector<std::byte> payload;
  std::vector<UniqueFd> fds;

  // The payload's first bytes, the rest zero where it is shorter.
  template <typename T>
  [[nodiscard]] T as() const noexcept {
    T value{};
    std::memcpy(&value, payload.data(), std::min(sizeof(T), payload.size()));
    return value;
  }
};

class Channel {
 public:
  explicit Channel(UniqueFd socket) noexcept : socket_(std::move(socket)) {}

  enum class State : uint8_t {
    kMessage,  // message() is complete
    kWaiting,  // nothing more to read at the moment
    kClosed,   // the peer has gone
    kBroken,   // not vhost-user: problem() says why
  };
  // Reads what is there, up to the end of one message.
  State read();
  [[nodiscard]] Message& message() noexcept { return message_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  // Since when a message has been incomplete.
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point>
  partialSince() const noexcept;

  // Answers `request`. False: the peer does not read (it never blocks).
  [[nodiscard]] bool reply(uint32_t request,
                           std::span<const std::byte> payload,
                           int fd = -1);

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  // The peer has closed its end.
  [[nodiscard]] bool hungUp() const noexcept;

 private:
  State broken(std::string problem);
  State readHeader();
  ssize_t receiveFirst(std::span<std::byte> to);

  UniqueFd socket_;
  Message message_;
  std::string problem_;
  // Bytes of the header, then of the payload, that have come.
  size_t have_ = 0;
  std::chrono::steady_clock::time_point startedAt_;
};

}  // namespace nydus
