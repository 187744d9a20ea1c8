#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>

#include "mem/guest_memory.h"
#include "test/check.h"

namespace nydus {
namespace {

constexpr uint64_t kPage = 4096;

UniqueFd memory(uint64_t size) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC));
  CHECK(::ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
  return fd;
}

std::shared_ptr<const GuestRegion> region(const RegionSpec& spec, int fd) {
  auto mapped = GuestRegion::map(spec, UniqueFd(::dup(fd)));
  CHECK(static_cast<bool>(mapped));
  return mapped ? *mapped : nullptr;
}

bool refused(const RegionSpec& spec, uint64_t fileSize) {
  return !GuestRegion::map(spec, memory(fileSize));
}

TEST(memRegionRefusesWhatItsFileDoesNotHold) {
  CHECK(!refused({0, kPage, 0, 0}, kPage));
  CHECK(!refused({0, kPage, 0, 100}, 2 * kPage));
  CHECK(refused({0, 0, 0, 0}, kPage));
  CHECK(refused({0, kPage + 1, 0, 0}, kPage));
  CHECK(refused({0, kPage, 0, 1}, kPage));
  CHECK(refused({0, kPage, 0, ~uint64_t{0}}, kPage));
  CHECK(refused({~uint64_t{0} - 1, kPage, 0, 0}, kPage));
  CHECK(refused({0, kPage, ~uint64_t{0} - 1, 0}, kPage));
  CHECK(refused({0, ~uint64_t{0}, 0, 0}, kPage));
}

TEST(memRegionRefusesWhatIsNoFile) {
  int ends[2] = {};
  CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd reader(ends[0]);
  CHECK(!GuestRegion::map({0, kPage, 0, 0}, UniqueFd(ends[1])));
  CHECK(!GuestRegion::map({0, kPage, 0, 0}, UniqueFd(::open("/", O_RDONLY))));
  CHECK(!GuestRegion::map({0, kPage, 0, 0}, UniqueFd()));
}

TEST(memTableFindsAddressesInTheirRegionOnly) {
  const UniqueFd fd = memory(8 * kPage);
  const auto low = region({0x1000, 2 * kPage, 0x70000000, 0}, fd.get());
  const auto high =
      region({0x10000, 3 * kPage, 0x60000000, 4 * kPage}, fd.get());
  const auto table = GuestMemory::make({high, low});
  CHECK(static_cast<bool>(table));
  GuestMemory::Hint hint;
  const GuestMemory& m = **table;
  CHECK(m.at(0x1000, 1, hint) == low->host());
  CHECK(m.at(0x1000, 2 * kPage, hint) == low->host());
  CHECK(m.at(0x1000, 2 * kPage + 1, hint) == nullptr);
  CHECK(m.at(0x2fff, 1, hint) == low->host() + 0x1fff);
  CHECK(m.at(0x2fff, 2, hint) == nullptr);
  CHECK(m.at(0xfff, 1, hint) == nullptr);
  CHECK(m.at(0x3000, 1, hint) == nullptr);
  CHECK(m.at(0x10000, 3 * kPage, hint) == high->host());
  CHECK(m.at(0x13000, 1, hint) == nullptr);
  CHECK(m.at(~uint64_t{0}, 1, hint) == nullptr);
  CHECK(m.at(~uint64_t{0} - 7, 16, hint) == nullptr);
  CHECK_EQ(m.end(), 0x13000u);

  // The front-end's addresses lead elsewhere.
  CHECK(m.atUserAddress(0x70000000, 2 * kPage).host == low->host());
  CHECK(m.atUserAddress(0x60000010, 8).host == high->host() + 16);
  CHECK_EQ(m.atUserAddress(0x60000010, 8).gpa, 0x10010u);
  CHECK(m.atUserAddress(0x1000, 1).host == nullptr);
  CHECK(m.atUserAddress(0x70000000, 2 * kPage + 1).host == nullptr);
  CHECK(m.atUserAddress(~uint64_t{0} - 3, 8).host == nullptr);
}

TEST(memSliceEndsWithItsRegion) {
  const UniqueFd fd = memory(4 * kPage);
  const auto a = region({0, kPage, 0, 0}, fd.get());
  const auto b = region({kPage, kPage, 0x100000, 2 * kPage}, fd.get());
  const auto table = GuestMemory::make({a, b});
  GuestMemory::Hint hint;
  const auto first = (*table)->slice(kPage - 100, 300, hint);
  CHECK_EQ(first.length, 100u);
  const auto second = (*table)->slice(kPage, 200, hint);
  CHECK_EQ(second.length, 200u);
  CHECK(second.host == b->host());
}

TEST(memTableRefusesOverlaps) {
  const UniqueFd fd = memory(8 * kPage);
  const auto a = region({0, 2 * kPage, 0x100000, 0}, fd.get());
  const auto sameGpa = region({kPage, kPage, 0x200000, 0}, fd.get());
  const auto sameUser = region({0x10000, kPage, 0x101000, 0}, fd.get());
  const auto neighbour = region({2 * kPage, kPage, 0x102000, 0}, fd.get());
  CHECK(!GuestMemory::make({a, sameGpa}));
  CHECK(!GuestMemory::make({a, sameUser}));
  CHECK(!GuestMemory::make({a, a}));
  CHECK(static_cast<bool>(GuestMemory::make({a, neighbour})));
}

TEST(memTableGrowsAndShrinks) {
  const UniqueFd fd = memory(8 * kPage);
  const auto empty = std::make_shared<GuestMemory>();
  CHECK(empty->empty());
  CHECK_EQ(empty->end(), 0u);
  const RegionSpec spec{0, kPage, 0x100000, 0};
  const auto one = GuestMemory::with(*empty, region(spec, fd.get()));
  CHECK(static_cast<bool>(one));
  CHECK(!GuestMemory::without(**one, {0, kPage, 0x200000, 0}));
  CHECK(!GuestMemory::without(**one, {0, 2 * kPage, 0x100000, 0}));
  CHECK(!GuestMemory::without(**one, {kPage, kPage, 0x100000, 0}));
  const auto none = GuestMemory::without(**one, spec);
  CHECK(none && (*none)->empty());
  // The old table is as it was.
  CHECK_EQ((*one)->regions().size(), 1u);
}

TEST(memHoldsAsManyRegionsAsItSays) {
  const UniqueFd fd = memory(kPage);
  GuestMemory::Regions regions;
  for (uint64_t i = 0; i < GuestMemory::kMaxRegions; i++) {
    regions.push_back(
        region({i * 2 * kPage, kPage, 0x1000000 + i * kPage, 0}, fd.get()));
  }
  const auto table = GuestMemory::make(regions);
  CHECK(static_cast<bool>(table));
  GuestMemory::Hint hint;
  for (uint64_t i = 0; i < GuestMemory::kMaxRegions; i++) {
    const uint64_t at = (i * 37 % GuestMemory::kMaxRegions) * 2 * kPage;
    CHECK((*table)->at(at, kPage, hint) != nullptr);
    CHECK((*table)->at(at + kPage, 1, hint) == nullptr);
  }
  regions.push_back(region({0x40000000, kPage, 0x40000000, 0}, fd.get()));
  CHECK(!GuestMemory::make(regions));
}

TEST(memTruncatedFileReadsAsZerosAndPoisonsItsTable) {
  UniqueFd fd = memory(2 * kPage);
  const auto mapped = region({0, 2 * kPage, 0, 0}, fd.get());
  const auto table = GuestMemory::make({mapped});
  mapped->host()[0] = std::byte{7};
  CHECK(!(*table)->poisoned());
  CHECK(::ftruncate(fd.get(), 0) == 0);
  CHECK(mapped->host()[kPage] == std::byte{0});
  CHECK((*table)->poisoned());
}

}  // namespace
}  // namespace nydus
