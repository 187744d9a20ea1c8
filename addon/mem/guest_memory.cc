#include "mem/guest_memory.h"

#include <algorithm>
#include <string>
#include <utility>

namespace nydus {
namespace {

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx",
                static_cast<unsigned long long>(value));
  return text;
}

bool overlap(uint64_t a, uint64_t sizeA, uint64_t b, uint64_t sizeB) {
  return a < b ? b - a < sizeA : a - b < sizeB;
}

}  // namespace

GuestMemory::GuestMemory(Regions regions) : regions_(std::move(regions)) {
  std::sort(regions_.begin(), regions_.end(), [](const auto& a, const auto& b) {
    return a->spec().gpa < b->spec().gpa;
  });
  entries_.reserve(regions_.size());
  for (const auto& region : regions_) {
    entries_.push_back(
        {region->spec().gpa, region->spec().size, region->host()});
  }
}

Result<GuestMemory::Table> GuestMemory::make(Regions regions) {
  if (regions.size() > kMaxRegions) {
    return Failure{
        "too many memory regions: " + std::to_string(regions.size()) +
        ", at most " + std::to_string(kMaxRegions)};
  }
  for (size_t i = 0; i < regions.size(); i++) {
    const RegionSpec& a = regions[i]->spec();
    for (size_t j = 0; j < i; j++) {
      const RegionSpec& b = regions[j]->spec();
      if (overlap(a.gpa, a.size, b.gpa, b.size) ||
          overlap(a.userAddress, a.size, b.userAddress, b.size)) {
        return Failure{"memory regions at gpa " + hex(a.gpa) + " and " +
                       hex(b.gpa) + " overlap"};
      }
    }
  }
  struct Public : GuestMemory {
    explicit Public(Regions regions) : GuestMemory(std::move(regions)) {}
  };
  return Table(std::make_shared<Public>(std::move(regions)));
}

Result<GuestMemory::Table> GuestMemory::with(
    const GuestMemory& table,
    std::shared_ptr<const GuestRegion> region) {
  Regions regions = table.regions_;
  regions.push_back(std::move(region));
  return make(std::move(regions));
}

Result<GuestMemory::Table> GuestMemory::without(const GuestMemory& table,
                                                const RegionSpec& spec) {
  Regions regions = table.regions_;
  const auto found =
      std::find_if(regions.begin(), regions.end(), [&](const auto& region) {
        return region->spec().gpa == spec.gpa &&
               region->spec().size == spec.size &&
               region->spec().userAddress == spec.userAddress;
      });
  if (found == regions.end()) {
    return Failure{"no memory region at gpa " + hex(spec.gpa) + " of size " +
                   hex(spec.size) + " and user address " +
                   hex(spec.userAddress)};
  }
  regions.erase(found);
  return make(std::move(regions));
}

GuestMemory::Located GuestMemory::atUserAddress(
    uint64_t address,
    uint64_t length) const noexcept {
  for (const auto& region : regions_) {
    const RegionSpec& spec = region->spec();
    const uint64_t offset = address - spec.userAddress;
    if (offset < spec.size && length <= spec.size - offset) {
      return {region->host() + offset, spec.gpa + offset};
    }
  }
  return {};
}

uint64_t GuestMemory::end() const noexcept {
  if (regions_.empty())
    return 0;
  const RegionSpec& last = regions_.back()->spec();
  return last.gpa + last.size;
}

bool GuestMemory::poisoned() const noexcept {
  return std::any_of(regions_.begin(), regions_.end(),
                     [](const auto& region) { return region->poisoned(); });
}

}  // namespace nydus
