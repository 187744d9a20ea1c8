// A load on one or several queues: a fixed number of requests in flight, each
// answered one replaced at once; everything that a request needs is laid out
// before the clock starts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "test/frontend/fuse_queue.h"
#include "test/frontend/latency.h"

namespace nydus::frontend {

struct BenchTarget {
  uint64_t nodeid = 0;
  uint64_t fh = 0;
  // Bytes of a file.
  uint64_t size = 0;
  // For lookups: a name in the folder `nodeid`.
  std::string name;
};

enum class BenchKind {
  kRead,         // at random places, multiples of `size`, of random targets
  kSequential,   // all targets from start to end, over and over
  kGetattr,      // of random targets
  kLookup,       // of random targets
  kStat,         // GETATTR and LOOKUP in turns
  kReaddirplus,  // walks all targets from start to end, over and over
};

struct BenchOptions {
  BenchKind kind = BenchKind::kRead;
  // Bytes asked for by READ and READDIRPLUS.
  uint32_t size = 4096;
  // Requests in flight, over all queues.
  uint32_t depth = 1;
  // Spins on the used rings instead of waiting for the call eventfds.
  bool poll = false;
  // It ends with whichever comes first.
  double seconds = 1;
  uint64_t maxOps = ~uint64_t{0};
  uint64_t seed = 1;
  // kRead: of every so many reads one is of the next MiB from `coldFrom` on,
  // none of which was read before, while there are such; the others are of the
  // bytes below. 0: all are of the whole target.
  uint32_t coldEvery = 0;
  uint64_t coldFrom = 0;
  std::vector<BenchTarget> targets;
};

struct BenchResult {
  uint64_t ops = 0;
  // Bytes of reply bodies.
  uint64_t bytes = 0;
  uint64_t nanoseconds = 0;
  // Replies with an error, or of the wrong length.
  uint64_t errors = 0;
  // Replies whose used.len was not their length.
  uint64_t wrongUsedLengths = 0;
  uint64_t kicks = 0;
  uint64_t interrupts = 0;
  LatencyHistogram latencies;
  // Why it ended early; empty when it did not.
  std::string problem;
};

// The queues' reaper must be stopped; other requests in the same queues are
// completed on the way. Throws std::invalid_argument.
BenchResult runBench(GuestSpace& space,
                     const std::vector<FuseQueue*>& queues,
                     const BenchOptions& options);

}  // namespace nydus::frontend
