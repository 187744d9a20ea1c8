#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "fuse/decode.h"
#include "test/check.h"

namespace nydus {
namespace {

// A request as a queue would have taken it.
Taken request(uint32_t opcode,
              const std::vector<uint8_t>& arguments,
              uint32_t writable = 4096,
              int lengthError = 0) {
  Taken taken{};
  InHeader header{};
  header.len = static_cast<uint32_t>(
      static_cast<int>(sizeof header + arguments.size()) + lengthError);
  header.opcode = opcode;
  header.unique = 42;
  header.nodeid = (uint64_t{3} << 37) + 9;
  header.uid = 1000;
  header.gid = 100;
  taken.readable = static_cast<uint32_t>(sizeof header + arguments.size());
  taken.writable = writable;
  taken.copied = std::min<uint32_t>(taken.readable, kRawSize);
  std::memcpy(taken.raw, &header, sizeof header);
  std::copy_n(arguments.begin(), taken.copied - sizeof header,
              reinterpret_cast<uint8_t*>(taken.raw + sizeof header));
  return taken;
}

std::vector<uint8_t> name(const std::string& text, bool terminated = true) {
  std::vector<uint8_t> bytes(text.begin(), text.end());
  if (terminated)
    bytes.push_back(0);
  return bytes;
}

template <typename... Parts>
std::vector<uint8_t> packed(Parts... parts) {
  std::vector<uint8_t> bytes;
  const auto add = [&](auto part) {
    const size_t at = bytes.size();
    bytes.resize(at + sizeof part);
    std::memcpy(bytes.data() + at, &part, sizeof part);
  };
  (add(parts), ...);
  return bytes;
}

struct Outcome {
  Verdict verdict;
  Slot slot;
};
Outcome outcome(const Taken& taken, bool accepts = true) {
  Outcome out{};
  out.verdict = decode(taken, accepts, out.slot);
  return out;
}

bool answers(const Taken& taken, int error, bool accepts = true) {
  const Outcome out = outcome(taken, accepts);
  return out.verdict.action == Action::kError && out.verdict.error == -error;
}
bool drops(const Taken& taken) {
  return outcome(taken).verdict.action == Action::kDrop;
}
bool reaches(const Taken& taken) {
  return outcome(taken).verdict.action == Action::kLane;
}

TEST(fuseDecodeFillsTheSlotOfARead) {
  const Outcome out = outcome(
      request(FUSE_READ,
              packed(uint64_t{7}, uint64_t{1} << 40, uint32_t{131072},
                     uint32_t{0}, uint64_t{0}, uint32_t{0}, uint32_t{0}),
              16 + 65536));
  CHECK(out.verdict.action == Action::kLane);
  CHECK_EQ(out.slot.opcode, uint32_t{FUSE_READ});
  CHECK_EQ(out.slot.fh, 7.0);
  CHECK_EQ(out.slot.offset, 1099511627776.0);
  CHECK_EQ(out.slot.writable, 65536u);
  // Never more than the guest has room for.
  CHECK_EQ(out.slot.size, 65536u);
  CHECK_EQ(out.slot.nodeid, 3.0 * 137438953472.0 + 9);
  CHECK_EQ(out.slot.uid, 1000u);
  CHECK_EQ(out.slot.gid, 100u);
  CHECK_EQ(out.slot.argLength, 40u);
  CHECK_EQ(loadLe<InHeader>(out.slot.raw).unique, 42u);
}

TEST(fuseDecodeMarksNumbersThatAreNotExact) {
  const auto read = [](uint64_t offset) {
    return outcome(request(FUSE_READ,
                           packed(uint64_t{0}, offset, uint32_t{1}, uint32_t{0},
                                  uint64_t{0}, uint64_t{0})))
        .slot.offset;
  };
  CHECK_EQ(read((uint64_t{1} << 53) - 1), 9007199254740991.0);
  CHECK_EQ(read(uint64_t{1} << 53), -1.0);
  CHECK_EQ(read(~uint64_t{0}), -1.0);
}

TEST(fuseDecodeFindsNames) {
  const Outcome out = outcome(request(FUSE_LOOKUP, name("foobar")));
  CHECK_EQ(out.slot.nameLength, 6u);
  CHECK_EQ(out.slot.nameOffset, 40u);
  CHECK_EQ(std::memcmp(out.slot.raw + out.slot.nameOffset, "foobar", 7), 0);
}

TEST(fuseDecodeRefusesBadNames) {
  CHECK(answers(request(FUSE_LOOKUP, name("")), EINVAL));
  CHECK(answers(request(FUSE_LOOKUP, {}), EINVAL));
  CHECK(answers(request(FUSE_LOOKUP, name("abc", false)), EINVAL));
  CHECK(answers(request(FUSE_LOOKUP, name("a/b")), ENOENT));
  CHECK(reaches(request(FUSE_LOOKUP, name(std::string(255, 'x')))));
  CHECK(
      answers(request(FUSE_LOOKUP, name(std::string(256, 'x'))), ENAMETOOLONG));
  CHECK(answers(request(FUSE_LOOKUP, name(std::string(65536, 'x'))),
                ENAMETOOLONG));
  // Kernels look these up for exported file systems.
  CHECK(reaches(request(FUSE_LOOKUP, name("."))));
  CHECK(reaches(request(FUSE_LOOKUP, name(".."))));

  auto xattr = packed(uint32_t{64}, uint32_t{0});
  const std::string key = "user/with.slash";
  for (const char c : key)
    xattr.push_back(static_cast<uint8_t>(c));
  xattr.push_back(0);
  const Outcome out = outcome(request(FUSE_GETXATTR, xattr));
  CHECK(out.verdict.action == Action::kLane);
  CHECK_EQ(out.slot.nameOffset, 48u);
  CHECK_EQ(out.slot.nameLength, key.size());
  CHECK_EQ(out.slot.size, 64u);
  xattr.insert(xattr.begin() + 8, 300, 'x');
  CHECK(answers(request(FUSE_GETXATTR, xattr), ERANGE));
}

TEST(fuseDecodeBelievesTheHeadersLengthOnly) {
  // Longer than what came, or shorter than itself.
  CHECK(
      answers(request(FUSE_GETATTR, packed(uint64_t{0}, uint64_t{0}), 4096, 1),
              EINVAL));
  CHECK(answers(
      request(FUSE_GETATTR, packed(uint64_t{0}, uint64_t{0}), 4096, -17),
      EINVAL));
  // What lies behind it does not count: here, the end of the name.
  CHECK(answers(request(FUSE_LOOKUP, name("abc"), 4096, -1), EINVAL));
  CHECK(
      answers(request(FUSE_GETATTR, packed(uint64_t{0}, uint64_t{0}), 4096, -1),
              EINVAL));
}

TEST(fuseDecodeDropsWhatCannotBeAnswered) {
  CHECK(drops(request(FUSE_GETATTR, packed(uint64_t{0}, uint64_t{0}), 15)));
  CHECK(drops(request(FUSE_GETATTR, packed(uint64_t{0}, uint64_t{0}), 0)));
  CHECK(reaches(request(FUSE_GETATTR, packed(uint64_t{0}, uint64_t{0}), 16)));
  Taken shortened = request(FUSE_GETATTR, packed(uint64_t{0}, uint64_t{0}));
  shortened.readable = shortened.copied = 39;
  CHECK(drops(shortened));
  CHECK(drops(request(FUSE_INTERRUPT, packed(uint64_t{1}))));
}

TEST(fuseDecodeRefusesChangesAndTheUnknown) {
  for (const uint32_t op :
       {4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 51}) {
    CHECK(answers(request(op, {}), EROFS));
  }
  for (const uint32_t op : {0u, 7u, 31u, 32u, 33u, 37u, 47u, 48u, 49u, 53u, 63u,
                            64u, 4096u, 0x80000000u, 0xffffffffu}) {
    CHECK(answers(request(op, {}), ENOSYS));
  }
}

TEST(fuseDecodeKnowsTheSession) {
  const auto init = packed(uint32_t{7}, uint32_t{41}, uint64_t{0});
  CHECK(outcome(request(FUSE_INIT, init), false).verdict.action ==
        Action::kLane);
  CHECK(answers(request(FUSE_INIT, packed(uint32_t{7})), EINVAL, false));
  CHECK(answers(request(FUSE_GETATTR, packed(uint64_t{0}, uint64_t{0})), EIO,
                false));
  CHECK(answers(request(FUSE_WRITE, {}), EIO, false));
  CHECK(answers(request(FUSE_DESTROY, {}), EIO, false));
}

TEST(fuseDecodeSortsOutForgets) {
  CHECK(outcome(request(FUSE_FORGET, packed(uint64_t{1}), 0)).verdict.action ==
        Action::kForget);
  CHECK(outcome(request(FUSE_FORGET, packed(uint64_t{1}), 0), false)
            .verdict.action == Action::kForget);
  CHECK(drops(request(FUSE_FORGET, packed(uint32_t{1}), 0)));
  CHECK(outcome(request(FUSE_BATCH_FORGET, packed(uint64_t{0}), 0))
            .verdict.action == Action::kBatchForget);
}

TEST(fuseDecodeWantsTheArgumentsOfEachOpcode) {
  for (uint32_t op = 0; op < 64; op++) {
    const OpcodeRule rule = ruleOf(op);
    if (rule.handling != Handling::kLane || rule.minArguments == 0)
      continue;
    const bool named = rule.arguments == ArgumentShape::kName ||
                       rule.arguments == ArgumentShape::kXattr;
    std::vector<uint8_t> enough(rule.minArguments + (named ? 1u : 0u), 1);
    enough.back() = 0;
    CHECK(reaches(request(op, enough)));
    enough.resize(rule.minArguments - 1u);
    CHECK(answers(request(op, enough), EINVAL));
  }
}

}  // namespace
}  // namespace nydus
