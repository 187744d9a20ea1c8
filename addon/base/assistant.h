// A second thread for work that one takes long for: copying a large reply.
//
// One processor copies 8 to 11 GB/s, two copy 18, while a reply of 1 MiB keeps
// its lane for 100 µs (docs/performance.md). So work that can be divided is:
// the thread that has it and the assistant take one part after the other until
// none is left. Nobody waits for an assistant that does not come; who comes
// late finds the work done. Between two pieces of work the assistant looks for
// the next for as long as a lane looks for a request, yielding to whoever wants
// its processor, then it sleeps. It is left alone for a while when it never
// comes in time, or when it was stopped in the middle of a part: then there are
// fewer processors than busy threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

namespace nydus {

// Work in parts that may be done in any order, side by side.
class SharedWork {
 public:
  virtual ~SharedWork() = default;
  // Any thread. False: it failed.
  virtual bool part(uint32_t index) noexcept = 0;
};

class Assistant {
 public:
  // Looks for `spinUs` before it sleeps; 0, or a single processor: there is no
  // thread at all. It is started when it is needed first.
  explicit Assistant(uint32_t spinUs) noexcept;
  ~Assistant();
  Assistant(const Assistant&) = delete;
  Assistant& operator=(const Assistant&) = delete;

  // Copying less is not worth telling another thread: that takes up to 1 µs,
  // copying so much 6.
  static constexpr uint32_t kWorthIt = 64 << 10;

  // Does all parts; returns when all are done. False: one of them failed. Any
  // thread; the assistant works for one at a time, others are alone.
  bool run(SharedWork& work, uint32_t parts) noexcept;

  // Parts that the assistant did so far.
  [[nodiscard]] uint64_t helped() const noexcept {
    return helped_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr uint32_t kClosed = UINT32_MAX;

  [[nodiscard]] bool begin() noexcept;
  void share(SharedWork& work, uint32_t parts) noexcept;
  void wake() noexcept;
  [[nodiscard]] uint64_t await(uint32_t parts) noexcept;
  void learn(bool came, uint64_t lateNs) noexcept;

  void serve() noexcept;
  bool help() noexcept;
  [[nodiscard]] bool look() const noexcept;
  void sleep() noexcept;

  const uint64_t spinNs_;

  // Who has work: held from begin() to the end of run().
  std::atomic<bool> taken_{false};
  // Guarded by taken_.
  bool failedToStart_ = false;
  uint32_t misses_ = 0;
  // ns: when the assistant is tried again, and how long it will be left alone
  // when it does not come.
  uint64_t restUntil_ = 0;
  uint64_t restLength_ = 0;
  uint32_t generation_ = 0;

  // What both threads write is in lines of its own. The upper half is the
  // number of the work, so that who was late cannot take a part of the next
  // one; the lower half is the next part, or kClosed.
  alignas(64) std::atomic<uint64_t> ticket_{kClosed};
  std::atomic<SharedWork*> work_{nullptr};
  std::atomic<uint32_t> parts_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  std::atomic<bool> awaited_{false};
  std::atomic<bool> failed_{false};
  std::atomic<uint64_t> helped_{0};
  alignas(64) std::atomic<bool> asleep_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<uint32_t> calls_{0};
  // Last: it uses all of the above.
  std::jthread thread_;
};

}  // namespace nydus
