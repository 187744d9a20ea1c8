// The memory table of a queue, and those before it that requests in flight
// still need.
//
// A request pins the table that its buffers were looked up in. That is a count
// and not a shared_ptr, because each copy of one is a locked instruction: it
// waits until all stores before it have reached the guest's memory, and there
// would be two for each request (docs/performance.md).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "mem/guest_memory.h"

namespace nydus {

// Not for several threads at once.
class PinnedTable {
 public:
  // Names a table among those of one queue.
  using Id = uint32_t;

  explicit PinnedTable(GuestMemory::Table table) : table_(std::move(table)) {}

  const GuestMemory& operator*() const noexcept { return *table_; }
  const GuestMemory* operator->() const noexcept { return table_.get(); }
  [[nodiscard]] const GuestMemory::Table& shared() const noexcept {
    return table_;
  }

  // The current table stays until unpin().
  Id pin() noexcept {
    users_++;
    return id_;
  }
  void unpin(Id id) noexcept {
    if (id == id_) {
      users_--;
      return;
    }
    for (size_t i = 0; i < old_.size(); i++) {
      if (old_[i].id == id && --old_[i].users == 0) {
        old_.erase(old_.begin() + static_cast<ptrdiff_t>(i));
        return;
      }
    }
  }
  // From here on only pins keep the table that there was.
  void replace(GuestMemory::Table table) {
    if (users_ != 0)
      old_.push_back({std::move(table_), id_, users_});
    table_ = std::move(table);
    users_ = 0;
    id_++;
  }

 private:
  struct Old {
    GuestMemory::Table table;
    Id id;
    uint32_t users;
  };

  GuestMemory::Table table_;
  Id id_ = 0;
  uint32_t users_ = 0;
  std::vector<Old> old_;
};

}  // namespace nydus
