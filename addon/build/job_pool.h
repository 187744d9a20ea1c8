// Threads that run the image builder's jobs, oldest first. None of them knows
// JavaScript; who waits for a job is told through `onDone`, on the thread that
// ran it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "build/chunk_job.h"
#include "build/slot.h"

namespace nydus::build {

class JobPool {
 public:
  using OnDone = std::function<void(size_t slot)>;

  // Throws std::bad_alloc, std::system_error.
  JobPool(const JobSettings& settings,
          const SlotLimits& limits,
          size_t slots,
          size_t threads,
          OnDone onDone);
  // Ends as `stop`.
  ~JobPool() { stop(); }

  [[nodiscard]] Slot& slot(size_t index) { return *slots_[index]; }
  [[nodiscard]] size_t slots() const { return slots_.size(); }
  [[nodiscard]] const JobSettings& settings() const { return settings_; }

  // The slot belongs to a thread until `onDone` is called with it.
  void submit(size_t slot);
  // Waits for the jobs that have begun; others are forgotten.
  void stop();

 private:
  void work(const std::stop_token& stopping);

  const JobSettings settings_;
  const OnDone onDone_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::mutex lock_;
  std::condition_variable_any changed_;
  std::deque<size_t> queue_;
  std::vector<std::jthread> threads_;  // last: ends before the rest goes
};

}  // namespace nydus::build
