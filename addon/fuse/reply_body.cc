#include "fuse/reply_body.h"

#include <algorithm>
#include <cmath>

#include "base/bytes.h"
#include "fuse/session.h"

namespace nydus {
namespace {

// Files of a batch that are searched before the registry is asked.
constexpr size_t kRecent = 8;

bool isOffset(double offset) {
  return offset >= 0 && offset <= static_cast<double>(kMaxExact) &&
         std::trunc(offset) == offset;
}

}  // namespace

void ReplyBody::addBytes(std::span<const std::byte> bytes) {
  if (bytes.empty())
    return;
  Piece piece;
  piece.data = bytes.data();
  piece.length = static_cast<uint32_t>(bytes.size());
  pieces_.push_back(piece);
}

bool ReplyBody::addExtent(const Extent& extent,
                          std::span<const std::byte> arena) {
  if (extent.length == 0)
    return true;
  Piece piece;
  piece.length = extent.length;
  if (extent.file != kFileZero) {
    if (!isOffset(extent.offset))
      return false;
    piece.offset = static_cast<uint64_t>(extent.offset);
    if (extent.file == kFileArena) {
      if (!fits(piece.offset, piece.length, arena.size()))
        return false;
      piece.data = arena.data() + piece.offset;
    } else {
      const FileRef* found = file(extent.file);
      if (found == nullptr)
        return false;
      piece.data = found->data(piece.offset, piece.length);
      piece.fd = found->fd();
      mapped_ = mapped_ || piece.data != nullptr;
      fetched_ = fetched_ || piece.data == nullptr;
    }
  }
  pieces_.push_back(piece);
  return true;
}

void ReplyBody::copied(uint64_t bytes, uint64_t ns) const noexcept {
  if (mapped_ == fetched_)
    return;
  FileRegistry::process().largeReads().took(
      mapped_ ? LargeReads::Way::kMapped : LargeReads::Way::kRead, bytes, ns);
}

const FileRef* ReplyBody::file(uint32_t id) {
  for (size_t i = 0; i < std::min(files_.size(), kRecent); i++) {
    const auto& [known, ref] = files_[files_.size() - 1 - i];
    if (known == id)
      return &ref;
  }
  FileRef ref = FileRegistry::process().acquire(id);
  if (!ref)
    return nullptr;
  return &files_.emplace_back(id, std::move(ref)).second;
}

}  // namespace nydus
