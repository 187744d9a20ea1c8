// Where a transport and a thread that serves its queues meet: which queues
// there are, and how to wake the thread. It exists before the lane attaches
// and after it has died.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/waiter.h"
#include "fuse/transport.h"

namespace nydus {

class LanePort {
 public:
  struct Entry {
    uint32_t tag;
    std::shared_ptr<RequestQueue> queue;
  };

  // --- the transport ---

  // Puts a queue in or takes it out (null), and wakes the lane.
  void setQueue(uint32_t tag, std::shared_ptr<RequestQueue> queue);
  // Kick descriptors of the queues, under their tags.
  [[nodiscard]] Waiter& waiter() noexcept { return waiter_; }
  // Something about a queue changed (enabled, kick): look again.
  void wake() noexcept {
    changes_.fetch_add(1, std::memory_order_release);
    waiter_.wake();
  }

  // --- any thread ---

  // The lane shall look into its mailbox.
  void ring() noexcept {
    mail_.store(true, std::memory_order_release);
    wake();
  }
  // For good.
  void stop() noexcept {
    stopped_.store(true, std::memory_order_release);
    wake();
  }

  // --- the lane ---

  // False: another lane is attached.
  [[nodiscard]] bool attach() noexcept { return !attached_.exchange(true); }
  void detach() noexcept { attached_.store(false); }
  [[nodiscard]] bool stopped() const noexcept {
    return stopped_.load(std::memory_order_acquire);
  }
  [[nodiscard]] bool takeMail() noexcept {
    return mail_.load(std::memory_order_relaxed) && mail_.exchange(false);
  }
  // Changes so far: whoever saw another number has something to look at.
  [[nodiscard]] uint64_t changes() const noexcept {
    return changes_.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::vector<Entry> queues() const;

 private:
  Waiter waiter_;
  std::atomic<uint64_t> changes_{1};
  std::atomic<bool> mail_{false};
  std::atomic<bool> stopped_{false};
  std::atomic<bool> attached_{false};
  mutable std::mutex lock_;
  std::map<uint32_t, std::shared_ptr<RequestQueue>> queues_;
};

}  // namespace nydus
