// The FUSE session of one device: whether the guest has a mount, and how many
// references its kernel holds into each mount slot.
//
// A node id is slot × 2^37 + inode (lib/fuse), so one counter per slot tells
// when an image can be let go; no table grows with what a guest asks.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/mmap.h"

namespace nydus {

constexpr unsigned kInodeBits = 37;
constexpr uint64_t kMountSlots = 65536;
constexpr uint64_t kRootNode = 1;
// Node ids, cookies and handles cross to JavaScript as f64.
constexpr uint64_t kMaxExact = (uint64_t{1} << 53) - 1;

class Session {
 public:
  // Names one session; what belongs to an older one does not count any more.
  using Epoch = uint64_t;

  Session();

  // INIT was taken: everything of the session before it is void.
  Epoch begin() noexcept;
  // INIT was answered; requests are accepted from here on.
  void ready(Epoch epoch) noexcept;
  // DESTROY, reset of the device, front-end gone, INIT refused.
  void end() noexcept;
  // A front-end goes on with a guest whose INIT an earlier connection or
  // back-end answered; the guest will not send another.
  void resume() noexcept;

  // False before INIT and after DESTROY.
  [[nodiscard]] bool accepts() const noexcept {
    return (word_.load(std::memory_order_acquire) & kStateMask) == kReady;
  }
  [[nodiscard]] Epoch epoch() const noexcept {
    return word_.load(std::memory_order_acquire) & ~kStateMask;
  }

  // `slot` < kMountSlots; ignored when `epoch` is over.
  void addLookups(Epoch epoch, uint64_t slot, uint64_t count) noexcept;
  // FORGET: less references; more than are held leave 0. Returns how many too
  // many there were.
  uint64_t forget(uint64_t nodeid, uint64_t count) noexcept;
  [[nodiscard]] uint64_t lookups(uint64_t slot) const noexcept;

 private:
  // Epoch and state in one word: they change together.
  static constexpr uint64_t kStateMask = 3;
  static constexpr uint64_t kNone = 0;
  static constexpr uint64_t kStarting = 1;
  static constexpr uint64_t kReady = 2;
  static constexpr uint64_t kEpochStep = 4;

  void next(uint64_t state) noexcept;
  [[nodiscard]] std::atomic<uint64_t>& counter(uint64_t slot) const noexcept;

  std::atomic<uint64_t> word_{kEpochStep | kNone};
  // One atomic per slot; pages that no mount uses are never touched.
  Mmap counters_;
};

}  // namespace nydus
