#include "decode/unit_task.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>

namespace nydus::decode {
namespace {

// Above it a double is not exact.
constexpr double kMaxExact = 9007199254740992.0;
constexpr size_t kMaxDictionary = 32768;
constexpr int kMaxZranBits = 7;
constexpr size_t kDouble = sizeof(double);

// Takes fields and remembers the first that does not fit.
class Fields {
 public:
  uint64_t take(const char* name, double value, double max) {
    if (value >= 0 && value <= max)
      return static_cast<uint64_t>(value);
    fail(std::string(name) + " is not between 0 and " + std::to_string(max));
    return 0;
  }
  codec::Source bytes(const char* name,
                      codec::Source all,
                      double at,
                      double size) {
    if (at >= 0 && size >= 0 && at + size <= static_cast<double>(all.size()))
      return all.subspan(static_cast<size_t>(at), static_cast<size_t>(size));
    fail(std::string(name) + " lies outside of its memory");
    return {};
  }
  void fail(std::string problem) {
    if (problem_.empty())
      problem_ = std::move(problem);
  }
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  std::string problem_;
};

Member memberOf(Fields& fields,
                const MemberRecord& record,
                size_t outputSize,
                codec::Source extra) {
  Member member;
  member.flags =
      static_cast<uint32_t>(fields.take("flags", record.flags, kMemberFlags));
  member.at = fields.take("at", record.at, static_cast<double>(outputSize));
  member.size =
      fields.take("size", record.size, static_cast<double>(outputSize));
  member.position = fields.take("position", record.position, kMaxExact);
  member.crc32 =
      static_cast<uint32_t>(fields.take("crc32", record.crc32, UINT32_MAX));
  if (member.size > outputSize - member.at)
    fields.fail("a member ends behind the output");
  if ((member.flags & kDigest) != 0) {
    const codec::Source digest =
        fields.bytes("digest", extra, record.digestAt, codec::kDigestSize);
    std::ranges::copy(digest, member.digest.begin());
  }
  return member;
}

void fillUnit(Fields& fields,
              UnitTask& task,
              const UnitRecord& record,
              codec::Source extra) {
  const Batch& batch = *task.batch;
  task.id = fields.take("id", record.id, kMaxExact);
  task.flags =
      static_cast<uint32_t>(fields.take("flags", record.flags, kUnitFlags));
  task.start = fields.take("start", record.start, kMaxExact);
  task.size = fields.take("size", record.size, kMaxOutput);
  task.outputSize = fields.take("outputSize", record.outputSize, kMaxOutput);
  task.fd = static_cast<int>(fields.take("fd", record.fd + 1, INT_MAX)) - 1;
  task.position = fields.take("position", record.position, kMaxExact);
  task.zranByte =
      static_cast<uint8_t>(fields.take("zranByte", record.zranByte, UINT8_MAX));
  task.zranBits =
      static_cast<int>(fields.take("zranBits", record.zranBits, kMaxZranBits));
  if ((task.flags & kZran) != 0) {
    const codec::Source dictionary = fields.bytes(
        "dictionary", extra, record.dictionaryAt, record.dictionarySize);
    if (dictionary.size() > kMaxDictionary)
      fields.fail("a dictionary has more than 32 KiB");
    task.dictionary.assign(dictionary.begin(), dictionary.end());
  }
  if ((task.flags & kFromFile) == 0)
    (void)fields.bytes("a unit", batch.stored, record.start, record.size);
  if ((task.flags & kIntoTarget) != 0)
    (void)fields.bytes("an output", batch.target, record.position,
                       record.outputSize);
}

}  // namespace

Result<std::vector<std::unique_ptr<UnitTask>>> parseUnits(
    const std::shared_ptr<const Batch>& batch,
    std::span<const double> records,
    codec::Source extra) {
  Fields fields;
  std::vector<std::unique_ptr<UnitTask>> tasks;
  const auto next = [&](auto& record) {
    constexpr size_t kWords = sizeof(record) / kDouble;
    if (records.size() < kWords)
      return false;
    std::memcpy(&record, records.data(), sizeof(record));
    records = records.subspan(kWords);
    return true;
  };
  while (!records.empty()) {
    UnitRecord unit{};
    if (!next(unit))
      return Failure{"a record is cut off"};
    auto task = std::make_unique<UnitTask>();
    task->batch = batch;
    fillUnit(fields, *task, unit, extra);
    const uint64_t count = fields.take("members", unit.members,
                                       static_cast<double>(records.size()));
    for (uint64_t i = 0; i < count; i++) {
      MemberRecord member{};
      if (!next(member))
        return Failure{"a record is cut off"};
      task->members.push_back(
          memberOf(fields, member, task->outputSize, extra));
    }
    if (!fields.problem().empty())
      return Failure{fields.problem()};
    tasks.push_back(std::move(task));
  }
  return tasks;
}

}  // namespace nydus::decode
