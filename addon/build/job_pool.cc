#include "build/job_pool.h"

#include <utility>

namespace nydus::build {

JobPool::JobPool(const JobSettings& settings,
                 const SlotLimits& limits,
                 size_t slots,
                 size_t threads,
                 OnDone onDone)
    : settings_(settings), onDone_(std::move(onDone)) {
  for (size_t i = 0; i < slots; i++)
    slots_.push_back(std::make_unique<Slot>(limits));
  for (size_t i = 0; i < threads; i++) {
    threads_.emplace_back(
        [this](const std::stop_token& stopping) { work(stopping); });
  }
}

void JobPool::submit(size_t slot) {
  {
    const std::lock_guard lock(lock_);
    queue_.push_back(slot);
  }
  changed_.notify_one();
}

void JobPool::stop() {
  for (std::jthread& thread : threads_)
    thread.request_stop();
  threads_.clear();  // joins
}

void JobPool::work(const std::stop_token& stopping) {
  ChunkJob job(settings_);
  for (;;) {
    size_t next = 0;
    {
      std::unique_lock lock(lock_);
      if (!changed_.wait(lock, stopping, [this] { return !queue_.empty(); }) ||
          stopping.stop_requested())
        return;
      next = queue_.front();
      queue_.pop_front();
    }
    job.run(slot(next));
    onDone_(next);
  }
}

}  // namespace nydus::build
