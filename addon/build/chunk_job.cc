#include "build/chunk_job.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace nydus::build {
namespace {

using codec::Source;
using codec::Target;

// Fewer at the end of the file, -1 with errno on failure.
ssize_t readAt(int fd, Target into, double offset) {
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t n =
        ::pread(fd, into.data() + done, into.size() - done,
                static_cast<off_t>(offset) + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -1;
    if (n == 0)
      break;
    done += static_cast<size_t>(n);
  }
  return static_cast<ssize_t>(done);
}

size_t bound(Compressor compressor, size_t size) {
  return compressor == Compressor::kZstd ? codec::zstdBound(size)
                                         : codec::lz4Bound(size);
}

}  // namespace

bool ChunkJob::isSmall(const Part& part) const {
  return part.fileSize <= static_cast<double>(settings_.chunkSize) &&
         part.length < static_cast<double>(settings_.batchLimit);
}

bool ChunkJob::isCompressed(const Part& part) const {
  return settings_.compressor != Compressor::kNone && !isSmall(part);
}

void ChunkJob::fail(const char* call, int error) {
  slot_->outcome.problem = Problem::kUnreadable;
  slot_->outcome.error = error;
  slot_->outcome.call = call;
}

void ChunkJob::run(Slot& slot) noexcept {
  slot_ = &slot;
  slot.outcome = {};
  stored_ = 0;
  folderAt_ = -1;
  try {
    runParts();
  } catch (const std::bad_alloc&) {
    fail("malloc", ENOMEM);
  }
  folder_.reset();
}

void ChunkJob::runParts() {
  Source input = slot_->input();
  for (const Part& part : slot_->taken()) {
    const auto length = static_cast<size_t>(part.length);
    if (slot_->kind() == JobKind::kFiles) {
      readFile(part);
      if (slot_->outcome.problem != Problem::kNone)
        return;
    } else if (slot_->kind() == JobKind::kBatch) {
      ChunkResult& result = slot_->results()[slot_->outcome.chunks++];
      store(result, input.first(length),
            settings_.compressor != Compressor::kNone);
    } else {
      for (size_t at = 0; at < length; at += settings_.chunkSize)
        addChunk(input.subspan(at, std::min(settings_.chunkSize, length - at)),
                 part);
      input = input.subspan(length);
    }
    slot_->outcome.part++;
  }
}

bool ChunkJob::openFolder(const Part& part) {
  if (part.folderAt == folderAt_)
    return true;
  path_.assign(reinterpret_cast<const char*>(slot_->input().data()) +
                   static_cast<size_t>(part.folderAt),
               static_cast<size_t>(part.folderLength));
  folder_ = UniqueFd(::open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  folderAt_ = folder_ ? part.folderAt : -1;
  return static_cast<bool>(folder_);
}

Target ChunkJob::roomFor(const Part& part, size_t size) {
  if (!isCompressed(part) && !settings_.discard)
    return slot_->data().subspan(stored_, size);
  if (scratch_.size() < size)
    scratch_.resize(size);
  return Target(scratch_).first(size);
}

// Neither follows a link nor waits for the writer of a FIFO.
void ChunkJob::readFile(const Part& part) {
  if (!openFolder(part))
    return fail("open", errno);
  path_.assign(reinterpret_cast<const char*>(slot_->input().data()) +
                   static_cast<size_t>(part.nameAt),
               static_cast<size_t>(part.nameLength));
  const UniqueFd file(::openat(folder_.get(), path_.c_str(),
                               O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file)
    return fail("open", errno);
  const auto length = static_cast<size_t>(part.length);
  bool whole = true;
  for (size_t at = 0; at < length && whole; at += settings_.chunkSize) {
    const Target into =
        roomFor(part, std::min(settings_.chunkSize, length - at));
    const ssize_t n =
        readAt(file.get(), into, part.offset + static_cast<double>(at));
    if (n < 0)
      return fail("read", errno);
    whole = static_cast<size_t>(n) == into.size();
    if (whole)
      addChunk(into, part);
  }
  struct stat st {};
  if (::fstat(file.get(), &st) != 0)
    return fail("fstat", errno);
  if (!whole || static_cast<double>(st.st_size) != part.fileSize ||
      static_cast<double>(st.st_mtim.tv_sec) != part.mtime ||
      static_cast<double>(st.st_mtim.tv_nsec) != part.mtimeNs) {
    slot_->outcome.problem = Problem::kChanged;
    slot_->outcome.foundSize = static_cast<double>(st.st_size);
  }
}

void ChunkJob::addChunk(Source plain, const Part& part) {
  ChunkResult& result = slot_->results()[slot_->outcome.chunks++];
  codec::digest(settings_.digester, plain, codec::DigestTarget(result.digest));
  result.crc32 = codec::crc32c(plain);
  store(result, plain, isCompressed(part));
  if (isSmall(part))
    result.flags |= kSmall;
}

// What does not shrink is stored as it is (blobs-and-cache.md §2).
void ChunkJob::store(ChunkResult& result, Source plain, bool compress) {
  result.plainSize = static_cast<uint32_t>(plain.size());
  result.storedSize = 0;
  result.flags = 0;
  if (settings_.discard)
    return;
  std::byte* const at = slot_->data().data() + stored_;
  if (compress && !plain.empty()) {
    // The same room for the same chunk wherever it falls: with less, a
    // compressor may find another result.
    const Target room(at, bound(settings_.compressor, plain.size()));
    const codec::Outcome packed =
        settings_.compressor == Compressor::kZstd
            ? codec::zstdCompress(plain, room, settings_.level)
            : codec::lz4Compress(plain, room);
    if (packed.problem == nullptr && packed.size > 0 &&
        packed.size < plain.size()) {
      result.storedSize = static_cast<uint32_t>(packed.size);
      result.flags = kCompressed;
      stored_ += packed.size;
      return;
    }
  }
  if (at != plain.data())
    std::memcpy(at, plain.data(), plain.size());
  result.storedSize = static_cast<uint32_t>(plain.size());
  stored_ += plain.size();
}

}  // namespace nydus::build
