// One virtqueue of the guest: FUSE requests in, answers checked and out.
//
// Chains look like those of Linux 6.12 (vhost-user-fs.md §6): one indirect
// descriptor; readable are the header and each argument, writable the reply
// header and either one buffer or pages of 4 KiB that do not follow each
// other. FORGET is one direct, readable descriptor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/event_fd.h"
#include "base/fd.h"
#include "test/frontend/completions.h"
#include "test/frontend/driver_ring.h"

namespace nydus::frontend {

struct Request {
  uint64_t unique = 0;
  uint64_t nodeid = 0;
  uint32_t opcode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t pid = 0;
  // Each becomes one descriptor.
  std::vector<std::vector<std::byte>> arguments;
  // Bytes for the reply's body.
  uint32_t replyCapacity = 0;
  // The body's place is pages of 4 KiB instead of one buffer.
  bool pages = false;
  // False: no writable descriptor at all (FORGET).
  bool replies = true;
};

// A used element that no request of ours asked for.
struct Stray {
  uint32_t id;
  uint32_t length;
};

struct QueueOptions {
  uint16_t size = 128;
  bool eventIdx = true;
  bool indirect = true;
  // Whether `used.len` must equal the reply's length (virtio 1.2 §2.7.8.2).
  bool checkUsedLength = true;
};

class FuseQueue {
 public:
  FuseQueue(GuestSpace& space,
            const QueueOptions& options,
            Completions& completions);
  ~FuseQueue();

  [[nodiscard]] DriverRing& ring() noexcept { return ring_; }
  [[nodiscard]] const QueueOptions& options() const noexcept {
    return options_;
  }
  [[nodiscard]] int kickFd() const noexcept { return kick_.get(); }
  [[nodiscard]] int callFd() const noexcept { return call_.get(); }
  // The device signals it when it cannot believe the ring any more.
  [[nodiscard]] int errorFd() const noexcept { return error_.get(); }
  // How often it did so far.
  [[nodiscard]] uint64_t errors() noexcept;

  // False when the ring or the memory is full: try again after a completion.
  bool submit(const Request& request);
  // Signals the device whatever it wishes.
  void kick() noexcept;

  // Takes all that was used. `interruptsOff`: poll mode, the device is not
  // asked for interrupts again.
  void reap(bool interruptsOff = false);
  // Reads the call eventfd; the signals are counted.
  void clearCall() noexcept;

  // Drops what is in flight and empties the ring, as a rebooting guest does.
  // The back-end must have stopped.
  void reset();

  [[nodiscard]] size_t inFlight() const;
  [[nodiscard]] std::vector<Stray> takeStrays();
  [[nodiscard]] uint64_t kicks() const noexcept { return kicks_.load(); }
  [[nodiscard]] uint64_t interrupts() const noexcept {
    return interrupts_.load();
  }

  // For the benchmark, which has requests of its own in the same ring: held
  // while it touches the ring; used elements whose head `owner` claims go to
  // it instead.
  [[nodiscard]] std::mutex& lock() noexcept { return lock_; }
  using Owner = std::function<bool(const UsedElement&)>;
  // With lock() held; returns how many elements there were.
  size_t drain(const Owner& owner);
  void countKick() noexcept;

 private:
  struct InFlight {
    uint64_t unique = 0;
    bool replies = false;
    // Memory to give back.
    std::vector<Buffer> pieces;
    // The reply header, then its body's place.
    std::vector<Buffer> writable;
  };

  std::optional<uint64_t> take(InFlight& flight, uint32_t length, bool page);
  bool build(const Request& request,
             InFlight& flight,
             std::vector<Buffer>& readable);
  void giveBack(const InFlight& flight);
  void complete(const UsedElement& element);
  [[nodiscard]] Completion check(const InFlight& flight,
                                 uint32_t usedLength) const;

  GuestSpace& space_;
  const QueueOptions options_;
  Completions& completions_;
  DriverRing ring_;
  EventFd kick_;
  EventFd call_;
  EventFd error_;
  std::atomic<uint64_t> kicks_{0};
  std::atomic<uint64_t> interrupts_{0};
  std::atomic<uint64_t> errors_{0};

  mutable std::mutex lock_;
  std::vector<std::optional<InFlight>> inFlight_;  // by head
  std::vector<Stray> strays_;
};

}  // namespace nydus::frontend
