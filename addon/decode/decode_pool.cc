#include "decode/decode_pool.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <system_error>
#include <utility>

#include "decode/unit_job.h"

namespace nydus::decode {
namespace {

// Of threads that work ahead: a tenth of what others get when all are busy.
constexpr int kNice = 10;

// Linux has a priority for each thread (setpriority(2)). Without it the thread
// works all the same.
void giveWay() {
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
}

}  // namespace

void DecodePool::start() {
  while (threads_.size() < 2 * wanted_) {
    const bool later = threads_.size() >= wanted_;
    try {
      threads_.emplace_back([this, later](const std::stop_token& stopping) {
        if (later)
          giveWay();
        work(stopping, later ? later_ : urgent_);
      });
    } catch (const std::system_error&) {
      // Both kinds are needed.
      if (threads_.size() <= wanted_)
        throw;
      return;
    }
  }
}

void DecodePool::submit(Tasks tasks, bool urgent) {
  if (stopped_)
    return;
  start();
  const bool many = tasks.size() > 1;
  Queue& queue = urgent ? urgent_ : later_;
  {
    const std::lock_guard lock(lock_);
    std::ranges::move(tasks, std::back_inserter(queue.tasks));
  }
  if (many)
    queue.changed.notify_all();
  else
    queue.changed.notify_one();
}

void DecodePool::promote(uint64_t id) {
  {
    const std::lock_guard lock(lock_);
    auto& later = later_.tasks;
    const auto found = std::ranges::find_if(
        later, [id](auto& task) { return task->id == id; });
    if (found == later.end())
      return;
    urgent_.tasks.push_back(std::move(*found));
    later.erase(found);
  }
  urgent_.changed.notify_one();
}

void DecodePool::stop() {
  stopped_ = true;
  for (std::jthread& thread : threads_)
    thread.request_stop();
  threads_.clear();  // joins
  urgent_.tasks.clear();
  later_.tasks.clear();
}

void DecodePool::work(const std::stop_token& stopping, Queue& queue) {
  UnitJob job;
  for (;;) {
    std::unique_ptr<UnitTask> task;
    {
      std::unique_lock lock(lock_);
      if (!queue.changed.wait(lock, stopping,
                              [&] { return !queue.tasks.empty(); }) ||
          stopping.stop_requested())
        return;
      task = std::move(queue.tasks.front());
      queue.tasks.pop_front();
    }
    job.run(*task);
    onDone_(std::move(task));
  }
}

}  // namespace nydus::decode
