// The dirty bitmap of a live migration: one bit per 4 KiB of guest physical
// memory, in a front-end's file, written by other processes too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/fd.h"
#include "base/mmap.h"
#include "base/result.h"
#include "sys/fault_guard.h"

namespace nydus {

class DirtyLog {
 public:
  // `size` and `offset` in bytes, as in VHOST_USER_SET_LOG_BASE. Fails when
  // the log has no bit for guest addresses up to `memoryEnd`.
  static Result<std::shared_ptr<const DirtyLog>> map(uint64_t size,
                                                     uint64_t offset,
                                                     UniqueFd fd,
                                                     uint64_t memoryEnd);
  ~DirtyLog();
  DirtyLog(const DirtyLog&) = delete;
  DirtyLog& operator=(const DirtyLog&) = delete;

  // Marks the pages of [gpa, gpa + length); what lies beyond the log is left
  // out.
  void mark(uint64_t gpa, uint64_t length) const noexcept;
  [[nodiscard]] bool covers(uint64_t memoryEnd) const noexcept;

 private:
  DirtyLog(Mmap mapping, size_t lead, uint64_t size);

  Mmap mapping_;
  std::byte* bits_;
  uint64_t size_;
  FaultGuard::Id guard_;
};

}  // namespace nydus
