// The body of one reply, resolved: extents become pieces of memory and files.
// Nothing that a lane wrote is believed here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "fuse/slot.h"
#include "fuse/transport.h"
#include "sys/file_registry.h"

namespace nydus {

class ReplyBody {
 public:
  // Starts a body; files stay open, see releaseFiles().
  void clear() noexcept {
    pieces_.clear();
    mapped_ = fetched_ = false;
  }
  void addBytes(std::span<const std::byte> bytes);
  // False: there is no such file, or the range is no range.
  [[nodiscard]] bool addExtent(const Extent& extent,
                               std::span<const std::byte> arena);
  [[nodiscard]] std::span<const Piece> pieces() const noexcept {
    return pieces_;
  }
  // A large body of so many bytes was copied within `ns`: whoever decides how
  // the next one is read learns from it.
  void copied(uint64_t bytes, uint64_t ns) const noexcept;
  // Lets go of the files that pieces point into: when a batch is done.
  void releaseFiles() noexcept { files_.clear(); }

 private:
  [[nodiscard]] const FileRef* file(uint32_t id);

  std::vector<Piece> pieces_;
  // Which pieces of files there are: by mappings, by descriptors.
  bool mapped_ = false;
  bool fetched_ = false;
  // Looking one up costs two locked instructions: once per batch will do.
  std::vector<std::pair<uint32_t, FileRef>> files_;
};

}  // namespace nydus
