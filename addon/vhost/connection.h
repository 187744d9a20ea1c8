// One front-end: everything that it has negotiated and shared. It starts
// empty, and all of it goes when the front-end goes.
//
//     socket ─ Channel ─ message ─ table of requests ─ handler ─ ack or reply
//                                                        │
//                               memory table, log, rings, features, status
//
// Control thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "vhost/channel.h"
#include "vhost/device_options.h"
#include "vhost/ring.h"

namespace nydus {

class Connection {
 public:
  // What the device lends to each connection; outlives it.
  struct Host {
    const DeviceOptions& options;
    FuseService& service;
    QueueOwner& owner;
    // The device is to stop: do not wait for anything.
    std::function<bool()> stopping;
    // By ring index.
    std::vector<Ring::Place> places;
  };

  Connection(UniqueFd socket, const Host& host);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  [[nodiscard]] int fd() const noexcept { return channel_.fd(); }
  // The front-end is gone, whatever it has left to be read.
  [[nodiscard]] bool hungUp() const noexcept { return channel_.hungUp(); }
  // Serves what has arrived. False: the connection is over; lastWords() says
  // why.
  [[nodiscard]] bool serve();
  [[nodiscard]] const std::string& lastWords() const noexcept {
    return lastWords_;
  }
  // When it is to be closed unless the rest of a message comes.
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> deadline()
      const noexcept;
  // The device goes away: open requests get EIO.
  void fail();

 private:
  using Payload = std::span<const std::byte>;

  bool handle(Message& message);
  bool acknowledge(const Message& message,
                   const RequestRule& rule,
                   const Status& status);
  bool handleUnknown(const Message& message);
  Status dispatch(Message& message);
  // Sends the reply of a request that has its own.
  Status answer(const Message& message, Payload payload, int fd = -1);
  Status answer64(const Message& message, uint64_t value);
  void complain(std::string message);

  // connection_device.cc
  Status setFeatures(uint64_t features);
  Status setProtocolFeatures(uint64_t features);
  Status setOwner();
  Status resetOwner();
  Status resetDevice();
  Status setStatus(uint64_t status);
  Status getStatus(const Message& message);
  Status getConfig(const Message& message);
  Status setConfig(const Message& message);
  [[nodiscard]] uint64_t offeredProtocolFeatures() const noexcept;

  // connection_memory.cc
  Status setMemoryTable(Message& message);
  Status addRegion(Message& message);
  Status removeRegion(const Message& message);
  Status setLogBase(Message& message);
  void useMemory(GuestMemory::Table table);
  void replaceMemory(GuestMemory::Table table);
  void updateLog();
  void reportMissingMemory();

  // connection_rings.cc
  Status setRingSize(const Message& message);
  Status setRingAddresses(const Message& message);
  Status setRingBase(const Message& message);
  Status getRingBase(const Message& message);
  Status setRingEnabled(const Message& message);
  Status setRingSignal(Message& message);
  Status getInflight(const Message& message);
  Status setInflight(Message& message);
  // Null when there is no such ring.
  [[nodiscard]] Ring* ringAt(uint64_t index) noexcept;

  Channel channel_;
  const Host& host_;
  std::string lastWords_;
  int complaints_ = 0;
  std::set<uint32_t> unknownRequests_;

  uint64_t protocolFeatures_ = 0;
  uint64_t status_ = 0;
  bool owned_ = false;
  RingContext context_;
  std::shared_ptr<const DirtyLog> log_;
  // Held because a front-end may take its end's closing for our death.
  UniqueFd logSignal_;
  UniqueFd backendRequests_;
  std::vector<std::unique_ptr<Ring>> rings_;
};

}  // namespace nydus
