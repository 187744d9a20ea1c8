#include "decode/unit_job.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "codec/gzip_indexer.h"

namespace nydus::decode {
namespace {

using codec::Outcome;
using codec::Source;
using codec::Target;

// Room for outputs of the usual chunk size is kept, more is given back.
constexpr size_t kKept = size_t{1} << 20;

Target roomIn(std::vector<std::byte>& buffer, size_t size) {
  if (buffer.size() < size)
    buffer.resize(size);
  return Target(buffer).first(size);
}

void trim(std::vector<std::byte>& buffer) {
  if (buffer.size() > kKept)
    std::vector<std::byte>().swap(buffer);
}

std::string hex(Source bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::byte byte : bytes) {
    const auto value = std::to_integer<unsigned>(byte);
    out += kDigits[value >> 4];
    out += kDigits[value & 15];
  }
  return out;
}

std::string hex(uint32_t value) {
  char out[11];
  std::snprintf(out, sizeof(out), "0x%x", value);
  return out;
}

const char* nameOf(codec::Digester digester) {
  return digester == codec::Digester::kSha256 ? "sha256" : "blake3";
}

// "ENOSPC: No space left on device, write": as Node words it.
std::string sentence(int error, const char* call) {
  const char* name = ::strerrorname_np(error);
  const char* text = ::strerrordesc_np(error);
  return std::string(name != nullptr ? name : "EIO") + ": " +
         (text != nullptr ? text : "unknown error") + ", " + call;
}

// The plain bytes at the front of a gzip member: in stargz, the next files'
// headers stand behind a chunk in its member.
Outcome inflateFront(Source input, Target into) {
  const auto indexer = std::make_unique<codec::GzipIndexer>();
  const codec::GzipIndexer::Step step = indexer->step(input, into);
  return {step.written, step.problem};
}

}  // namespace

void UnitJob::damaged(std::string text) {
  problem_.push_back({FailureKind::kDamaged, 0, std::move(text)});
}

void UnitJob::run(UnitTask& task) noexcept {
  task_ = &task;
  problem_.clear();
  try {
    runParts();
    if (!problem_.empty())
      failAll(problem_.front());
  } catch (const std::bad_alloc&) {
    task.lost = true;
  }
  trim(stored_);
  trim(cipher_);
  trim(plain_);
}

void UnitJob::failAll(const Problem& problem) {
  for (size_t i = 0; i < task_->members.size(); i++)
    task_->failures.push_back({i, problem.kind, problem.error, problem.text});
  if (task_->members.empty())
    task_->failures.push_back({0, problem.kind, problem.error, problem.text});
}

void UnitJob::runParts() {
  const Source input = stored();
  if (!problem_.empty())
    return;
  const Source clear = decrypted(input);
  if (!problem_.empty())
    return;
  const Source plain = output(clear);
  if (!problem_.empty())
    return;
  if ((task_->flags & kStoreWhole) != 0) {
    Problem problem{FailureKind::kStore};
    if (!write(plain, task_->position, problem))
      return problem_.push_back(std::move(problem));
  }
  for (size_t i = 0; i < task_->members.size(); i++)
    checkMember(i, plain);
}

Source UnitJob::stored() {
  if ((task_->flags & kFromFile) == 0)
    return task_->batch->stored.subspan(task_->start, task_->size);
  const Target into = roomIn(stored_, task_->size);
  for (size_t done = 0; done < into.size();) {
    const ssize_t n = ::pread(task_->fd, into.data() + done, into.size() - done,
                              static_cast<off_t>(task_->start + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      damaged(sentence(errno, "read"));
    else if (n == 0)
      damaged("it is cut short");
    if (n <= 0)
      return {};
    done += static_cast<size_t>(n);
  }
  return into;
}

Source UnitJob::decrypted(Source stored) {
  if ((task_->flags & kEncrypted) == 0)
    return stored;
  const Coding& coding = task_->batch->coding;
  if (!coding.cipher) {
    damaged("it is encrypted, but the image has no key for this blob");
    return {};
  }
  const Target into = roomIn(cipher_, stored.size());
  const Outcome done = codec::xtsDecrypt(*coding.cipher, stored, into);
  if (done.problem != nullptr)
    damaged(done.problem);
  return into.first(done.size);
}

Target UnitJob::room() {
  if ((task_->flags & kIntoTarget) != 0)
    return task_->batch->target.subspan(task_->position, task_->outputSize);
  return roomIn(plain_, task_->outputSize);
}

Source UnitJob::output(Source input) {
  const bool plain = (task_->flags & (kCompressed | kZran)) == 0;
  if (plain && (task_->flags & kIntoTarget) == 0) {
    if (input.size() != task_->outputSize)
      damaged("it has " + std::to_string(input.size()) + " bytes instead of " +
              std::to_string(task_->outputSize));
    return input;
  }
  const Target into = room();
  Outcome done{input.size()};
  if (!plain)
    done = decompress(input, into);
  else if (input.size() == into.size() && !input.empty())
    std::memcpy(into.data(), input.data(), input.size());
  if (done.problem != nullptr)
    damaged(done.problem);
  else if (done.size != task_->outputSize)
    damaged("it decodes to " + std::to_string(done.size) +
            " bytes instead of " + std::to_string(task_->outputSize));
  return into;
}

Outcome UnitJob::decompress(Source input, Target into) {
  if ((task_->flags & kZran) != 0)
    return codec::zranInflate(input, task_->dictionary, task_->zranByte,
                              task_->zranBits, into);
  switch (task_->batch->coding.compressor) {
    case Compressor::kLz4Block:
      return codec::lz4Decompress(input, into);
    case Compressor::kZstd:
      return codec::zstdDecompress(input, into);
    case Compressor::kGzip:
      return inflateFront(input, into);
    case Compressor::kNone:
      break;
  }
  return {0, "it is marked compressed in a blob without compression"};
}

// The digest decides when there is one.
void UnitJob::checkMember(size_t index, Source output) {
  const Member& member = task_->members[index];
  const Source plain = output.subspan(member.at, member.size);
  Problem problem{FailureKind::kDamaged};
  if ((member.flags & kDigest) != 0) {
    std::array<std::byte, codec::kDigestSize> found;
    const codec::Digester digester = task_->batch->coding.digester;
    codec::digest(digester, plain, found);
    if (found != member.digest)
      problem.text = std::string("its ") + nameOf(digester) + " digest is " +
                     hex(found) + ", the image says " + hex(member.digest);
  } else if ((member.flags & kCrc) != 0) {
    const uint32_t found = codec::crc32c(plain);
    if (found != member.crc32)
      problem.text = "its CRC-32C is " + hex(found) + ", the image says " +
                     hex(member.crc32);
  }
  if (problem.text.empty() && (member.flags & kStore) != 0) {
    problem.kind = FailureKind::kStore;
    (void)write(plain, member.position, problem);
  }
  if (!problem.text.empty())
    task_->failures.push_back(
        {index, problem.kind, problem.error, std::move(problem.text)});
}

bool UnitJob::write(Source bytes, uint64_t position, Problem& problem) const {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n =
        ::pwrite(task_->fd, bytes.data() + done, bytes.size() - done,
                 static_cast<off_t>(position + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) {
      problem.error = n < 0 ? errno : EIO;
      problem.text = sentence(problem.error, "write");
      return false;
    }
    done += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace nydus::decode
