// Where answers go: to who waits for one on a thread, or in batches to who is
// told that there are some.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace nydus::frontend {

struct Completion {
  uint64_t unique = 0;
  // 0 or a negative errno.
  int32_t error = 0;
  std::vector<std::byte> body;
  // What is wrong with the reply, checked against vhost and FUSE rules; empty
  // when nothing is.
  std::string problem;
};

class Completions {
 public:
  // `notify` is called, on any thread, when the first of a batch has come.
  explicit Completions(std::function<void()> notify)
      : notify_(std::move(notify)) {}

  // The answer to `unique` will be fetched by wait(). Before it is submitted.
  void expect(uint64_t unique);
  std::optional<Completion> wait(uint64_t unique,
                                 std::chrono::milliseconds timeout);

  void deliver(Completion completion);
  // Those that nobody waits for.
  std::vector<Completion> take();

 private:
  const std::function<void()> notify_;
  std::mutex lock_;
  std::condition_variable arrived_;
  std::unordered_set<uint64_t> expected_;
  std::unordered_map<uint64_t, Completion> here_;
  std::vector<Completion> batch_;
};

}  // namespace nydus::frontend
