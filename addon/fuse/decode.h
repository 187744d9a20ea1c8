// From the bytes of a request to the fields of a slot, and the decision who
// answers it. Looks at private copies only.
#pragma once

#include <cstdint>

#include "fuse/abi.h"
#include "fuse/slot.h"
#include "fuse/transport.h"

namespace nydus {

enum class Action : uint8_t {
  kLane,         // the slot is filled (but for its ticket)
  kError,        // answer with `error`
  kDrop,         // no answer is possible or due: hand it back
  kForget,       // count, hand back
  kBatchForget,  // count, hand back
};

struct Verdict {
  Action action;
  int32_t error = 0;
  // The request is malformed (and not merely unwelcome).
  bool malformed = false;
};

// `accepts`: there is a session (INIT was answered). Without one, everything
// but INIT gets EIO.
[[nodiscard]] Verdict decode(const Taken& request,
                             bool accepts,
                             Slot& slot) noexcept;

}  // namespace nydus
