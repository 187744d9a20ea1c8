#include "fuse/poll_budget.h"
#include "test/check.h"

namespace nydus {
namespace {

constexpr uint64_t kUs = 1000;

TEST(fusePollNeverWhenTurnedOff) {
  PollBudget budget(0);
  for (int i = 0; i < 100; i++) {
    budget.slept(1, false);
    CHECK_EQ(budget.budget(), 0u);
    budget.found();
    CHECK_EQ(budget.budget(), 0u);
  }
}

TEST(fusePollStartsWithAPromptGuestAndStopsWithAnIdleOne) {
  PollBudget budget(50);
  CHECK_EQ(budget.budget(), 0u);
  budget.slept(40 * kUs, false);
  CHECK_EQ(budget.budget(), 10 * kUs);
  budget.slept(40 * kUs, true);
  CHECK_EQ(budget.budget(), 20 * kUs);
  for (int i = 0; i < 100; i++)
    budget.found();
  CHECK_EQ(budget.budget(), 50 * kUs);
  // A pause ends it at once.
  budget.slept(1'000'000 * kUs, true);
  CHECK_EQ(budget.budget(), 0u);
}

TEST(fusePollShrinksWhenGapsAreLong) {
  PollBudget budget(50);
  for (int i = 0; i < 10; i++)
    budget.found();
  budget.slept(200 * kUs, true);
  CHECK_EQ(budget.budget(), 25 * kUs);
  for (int i = 0; i < 20; i++)
    budget.slept(200 * kUs, true);
  CHECK_EQ(budget.budget(), 0u);
}

// One processor: the guest only runs when we sleep, so looking never helps.
TEST(fusePollGivesUpWhatNeverHelps) {
  PollBudget budget(50);
  int looks = 0;
  for (int i = 0; i < 10'000; i++) {
    const bool looked = budget.budget() != 0;
    looks += looked ? 1 : 0;
    budget.slept(60 * kUs, looked);
  }
  CHECK(looks < 200);
  CHECK(looks > 0);
}

TEST(fusePollComesBackAfterGivingWay) {
  PollBudget budget(50);
  budget.found();
  budget.giveWay();
  CHECK_EQ(budget.budget(), 0u);
  int sleeps = 0;
  while (budget.budget() == 0 && sleeps < 1000) {
    budget.slept(30 * kUs, false);
    sleeps++;
  }
  CHECK(sleeps > 10);
  CHECK(sleeps < 1000);
}

}  // namespace
}  // namespace nydus
