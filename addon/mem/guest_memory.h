// The memory of a guest: an immutable set of regions.
//
// A table changes by being replaced: who works with guest addresses holds a
// shared_ptr to the table that they were looked up in, and the mappings of an
// old table stay until the last holder is gone. Regions are shared between
// tables, so adding one maps nothing twice.
//
// Two kinds of addresses lead here: guest physical ones (descriptors) and the
// front-end's own (SET_VRING_ADDR). Never mix them up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "mem/guest_region.h"

namespace nydus {

class GuestMemory {
 public:
  using Regions = std::vector<std::shared_ptr<const GuestRegion>>;
  using Table = std::shared_ptr<const GuestMemory>;

  // Advertised by GET_MAX_MEM_SLOTS. QEMU's DIMM slots end at 256.
  static constexpr size_t kMaxRegions = 509;

  GuestMemory() = default;
  // Fails when regions overlap (in either address space) or are too many.
  static Result<Table> make(Regions regions);
  // `table` and one region more, or one less (found by gpa, user address and
  // size).
  static Result<Table> with(const GuestMemory& table,
                            std::shared_ptr<const GuestRegion> region);
  static Result<Table> without(const GuestMemory& table,
                               const RegionSpec& spec);

  // Remembers the region found last: most look-ups hit it again.
  struct Hint {
    uint32_t region = 0;
  };
  // The bytes at `gpa` that are contiguous here: all `length`, or less where
  // the region ends. Null: there is no memory at `gpa`.
  struct Slice {
    std::byte* host = nullptr;
    uint64_t length = 0;
  };
  [[nodiscard]] Slice slice(uint64_t gpa,
                            uint64_t length,
                            Hint& hint) const noexcept;
  // All `length` bytes in one region, or null.
  [[nodiscard]] std::byte* at(uint64_t gpa,
                              uint64_t length,
                              Hint& hint) const noexcept;

  struct Located {
    std::byte* host = nullptr;
    uint64_t gpa = 0;
  };
  // Where the front-end's own address range lies; must be in one region.
  [[nodiscard]] Located atUserAddress(uint64_t address,
                                      uint64_t length) const noexcept;

  [[nodiscard]] const Regions& regions() const noexcept { return regions_; }
  [[nodiscard]] bool empty() const noexcept { return regions_.empty(); }
  // One past the highest guest physical address; 0 when empty.
  [[nodiscard]] uint64_t end() const noexcept;
  [[nodiscard]] bool poisoned() const noexcept;

 private:
  // What a look-up needs, side by side.
  struct Entry {
    uint64_t gpa;
    uint64_t size;
    std::byte* host;
  };

  explicit GuestMemory(Regions regions);
  [[nodiscard]] const Entry* find(uint64_t gpa, Hint& hint) const noexcept;

  Regions regions_;  // sorted by gpa
  std::vector<Entry> entries_;
};

inline GuestMemory::Slice GuestMemory::slice(uint64_t gpa,
                                             uint64_t length,
                                             Hint& hint) const noexcept {
  const Entry* entry = find(gpa, hint);
  if (entry == nullptr)
    return {};
  const uint64_t offset = gpa - entry->gpa;
  const uint64_t left = entry->size - offset;
  return {entry->host + offset, length < left ? length : left};
}

inline std::byte* GuestMemory::at(uint64_t gpa,
                                  uint64_t length,
                                  Hint& hint) const noexcept {
  const Slice found = slice(gpa, length, hint);
  return found.length == length ? found.host : nullptr;
}

inline const GuestMemory::Entry* GuestMemory::find(uint64_t gpa,
                                                   Hint& hint) const noexcept {
  if (hint.region < entries_.size()) {
    const Entry& last = entries_[hint.region];
    if (gpa - last.gpa < last.size)
      return &last;
  }
  // The last region that does not start behind `gpa`.
  size_t low = 0;
  size_t high = entries_.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (entries_[middle].gpa <= gpa) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0)
    return nullptr;
  const Entry& entry = entries_[low - 1];
  if (gpa - entry.gpa >= entry.size)
    return nullptr;
  hint.region = static_cast<uint32_t>(low - 1);
  return &entry;
}

}  // namespace nydus
