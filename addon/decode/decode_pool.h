// Threads that carry out units: some for what a guest waits for, as many for
// what came along with it, which give way to the first and to everything else
// on the machine. None of them knows JavaScript; whoever waits is told through
// `onDone`, on the thread that ran the unit.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "decode/unit_task.h"

namespace nydus::decode {

using Tasks = std::vector<std::unique_ptr<UnitTask>>;

class DecodePool {
 public:
  using OnDone = std::function<void(std::unique_ptr<UnitTask>)>;

  // `threads` of each kind; they start with the first task.
  DecodePool(size_t threads, OnDone onDone)
      : wanted_(threads), onDone_(std::move(onDone)) {}
  // Ends as `stop`.
  ~DecodePool() { stop(); }

  // Throws std::system_error when a first thread cannot be started.
  void submit(Tasks tasks, bool urgent);
  // Somebody waits for it now.
  void promote(uint64_t id);
  // Waits for the tasks that have begun; others are forgotten.
  void stop();

 private:
  struct Queue {
    std::deque<std::unique_ptr<UnitTask>> tasks;
    std::condition_variable_any changed;
  };

  void start();
  void work(const std::stop_token& stopping, Queue& queue);

  const size_t wanted_;
  const OnDone onDone_;
  std::mutex lock_;
  Queue urgent_;
  Queue later_;
  bool stopped_ = false;
  std::vector<std::jthread> threads_;  // last: ends before the rest goes
};

}  // namespace nydus::decode
