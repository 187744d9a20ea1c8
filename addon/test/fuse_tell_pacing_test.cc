#include "fuse/tell_pacing.h"

#include "test/check.h"

namespace nydus {
namespace {

constexpr uint64_t kUs = 1000;

// After so many batches, a request takes `each` ns in its eyes.
void learn(TellPacing& pacing, uint64_t each) {
  for (int i = 0; i < 64; i++)
    pacing.answered(8, 8 * each);
}

TEST(fuseTellPacingTellsWhenLittleIsLeft) {
  TellPacing pacing;
  learn(pacing, 1 * kUs);
  CHECK(!pacing.due(0, 64, 1));
  CHECK(pacing.due(8 * kUs, 48, 1));
  // Each of four queues costs an interrupt.
  CHECK(!pacing.due(8 * kUs, 48, 4));
  CHECK(pacing.due(8 * kUs, 12, 4));
}

TEST(fuseTellPacingHoldsNoReplyForLong) {
  TellPacing pacing;
  learn(pacing, 1 * kUs);
  CHECK(!pacing.due(100 * kUs, 1000, 1));
  CHECK(!pacing.due(139 * kUs, 1000, 1));
  CHECK(pacing.due(140 * kUs, 1000, 1));
  pacing.told();
  // The next reply was given back just now.
  CHECK(!pacing.due(150 * kUs, 1000, 1));
  CHECK(pacing.due(190 * kUs, 1000, 1));
}

TEST(fuseTellPacingTellsOfEachSlowRequest) {
  TellPacing pacing;
  CHECK(!pacing.slow());
  learn(pacing, 5 * kUs);
  CHECK(pacing.slow());
  CHECK(!pacing.due(0, 16, 1));
  pacing.told();
  learn(pacing, 30 * kUs);
  CHECK(pacing.due(0, 16, 1));
}

}  // namespace
}  // namespace nydus
