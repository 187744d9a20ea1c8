#include "test/frontend/completions.h"

#include <utility>

namespace nydus::frontend {

void Completions::expect(uint64_t unique) {
  const std::lock_guard lock(lock_);
  expected_.insert(unique);
}

std::optional<Completion> Completions::wait(uint64_t unique,
                                            std::chrono::milliseconds timeout) {
  std::unique_lock lock(lock_);
  const bool came =
      arrived_.wait_for(lock, timeout, [&] { return here_.contains(unique); });
  // One that comes later goes the other way.
  expected_.erase(unique);
  if (!came) {
    return std::nullopt;
  }
  return std::move(here_.extract(unique).mapped());
}

void Completions::deliver(Completion completion) {
  bool first = false;
  {
    const std::lock_guard lock(lock_);
    if (expected_.contains(completion.unique)) {
      const uint64_t unique = completion.unique;
      here_.emplace(unique, std::move(completion));
    } else {
      first = batch_.empty();
      batch_.push_back(std::move(completion));
    }
  }
  if (first) {
    notify_();
  } else {
    arrived_.notify_all();
  }
}

std::vector<Completion> Completions::take() {
  const std::lock_guard lock(lock_);
  return std::exchange(batch_, {});
}

}  // namespace nydus::frontend
