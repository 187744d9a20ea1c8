#include "base/assistant.h"

#include <array>
#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/cpus.h"
#include "test/check.h"

namespace nydus {
namespace {

class Work final : public SharedWork {
 public:
  explicit Work(std::function<bool(uint32_t)> action)
      : action_(std::move(action)) {}
  bool part(uint32_t index) noexcept override { return action_(index); }

 private:
  const std::function<bool(uint32_t)> action_;
};

void spin(uint64_t us) {
  const uint64_t start = nowNs();
  while (nowNs() - start < us * 1000)
    std::this_thread::yield();
}

// Gives it work of two parts, which take the caller and the assistant so long,
// until it has done one more. How often it must be asked depends on who else
// wants the processors.
bool comesOnce(Assistant& assistant, uint64_t ownUs, uint64_t itsUs) {
  const auto caller = std::this_thread::get_id();
  Work work([&](uint32_t) {
    spin(std::this_thread::get_id() == caller ? ownUs : itsUs);
    return true;
  });
  const uint64_t before = assistant.helped();
  for (int i = 0; i < 50'000 && assistant.helped() == before; i++)
    assistant.run(work, 2);
  return assistant.helped() > before;
}

TEST(baseAssistantDoesEachPartOnce) {
  Assistant assistant(50);
  const auto caller = std::this_thread::get_id();
  for (uint32_t round = 0; round < 20'000; round++) {
    // On the stack: who comes late would write into the next round's.
    std::array<uint32_t, 16> done{};
    const uint32_t parts = round % (done.size() + 1);
    Work work([&](uint32_t index) {
      if (round % 16 == 0)
        spin(std::this_thread::get_id() == caller ? 5 : 30);
      done.at(index) += index + 1;
      return true;
    });
    CHECK(assistant.run(work, parts));
    for (uint32_t i = 0; i < done.size(); i++)
      CHECK_EQ(done.at(i), i < parts ? i + 1 : 0);
  }
}

TEST(baseAssistantTellsOfAPartThatFailed) {
  Assistant assistant(50);
  for (uint32_t round = 0; round < 1000; round++) {
    std::atomic<uint32_t> done{0};
    Work work([&](uint32_t index) {
      done++;
      return index != round % 10;
    });
    CHECK(assistant.run(work, 10) == false);
    CHECK_EQ(done.load(), 10u);
    CHECK(assistant.run(work, round % 10));
  }
}

TEST(baseAssistantComesWhileItLooksAndWhenItSleeps) {
  if (availableCpus() < 2)
    return;
  Assistant assistant(50);
  for (int i = 0; i < 100; i++) {
    CHECK(comesOnce(assistant, 20, 20));
    // Every other time it has gone to sleep.
    spin(i % 2 == 0 ? 500 : 0);
  }
}

TEST(baseAssistantIsNotThereWithoutLooking) {
  Assistant assistant(0);
  uint32_t sum = 0;
  const auto caller = std::this_thread::get_id();
  Work work([&](uint32_t index) {
    CHECK(std::this_thread::get_id() == caller);
    sum += index;
    return true;
  });
  for (int i = 0; i < 1000; i++)
    CHECK(assistant.run(work, 8));
  CHECK_EQ(sum, 28'000u);
}

// It was stopped in the middle of a part (so it seems): left alone for a while.
TEST(baseAssistantIsLeftAloneWhenItIsLate) {
  if (availableCpus() < 2)
    return;
  Assistant assistant(50);
  const uint64_t start = nowNs();
  CHECK(comesOnce(assistant, 20, 1000));
  const auto caller = std::this_thread::get_id();
  Work alone([&](uint32_t) {
    // 32 times as long as it was late, which the test may oversleep.
    CHECK(std::this_thread::get_id() == caller || nowNs() - start > 30'000'000);
    return true;
  });
  for (int i = 0; i < 2000; i++)
    CHECK(assistant.run(alone, 2));
  CHECK(comesOnce(assistant, 20, 20));
}

TEST(baseAssistantServesOneOfSeveral) {
  Assistant assistant(50);
  std::vector<std::jthread> threads;
  for (uint32_t thread = 0; thread < 3; thread++) {
    threads.emplace_back([&assistant] {
      for (int round = 0; round < 5000; round++) {
        std::array<uint32_t, 8> done{};
        Work work([&](uint32_t index) {
          done.at(index)++;
          return true;
        });
        CHECK(assistant.run(work, 8));
        for (const uint32_t times : done)
          CHECK_EQ(times, 1u);
      }
    });
  }
}

}  // namespace
}  // namespace nydus
