#include "sys/file_registry.h"

#include <fcntl.h>

#include <cerrno>

#include "sys/system_error.h"

namespace nydus {

FileRegistry& FileRegistry::process() {
  // Lanes may still look files up while static objects are destroyed.
  static FileRegistry* const registry =
      std::make_unique<FileRegistry>().release();
  return *registry;
}

RegisteredFile* FileRegistry::fileAt(uint32_t slot) noexcept {
  Chunk* chunk = chunks_[slot / kChunkSize].load(std::memory_order_acquire);
  return chunk == nullptr ? nullptr : &(*chunk)[slot % kChunkSize];
}

uint32_t FileRegistry::add(int fd, uint64_t length) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy)
    throw SystemError(errno, "dup");
  Mapping mapping =
      Mapping::ofFile(copy.get(), length, Mapping::Mode::kReadShared);

  const std::lock_guard lock(lock_);
  uint32_t slot = 0;
  if (!freeSlots_.empty()) {
    slot = freeSlots_.front();
    freeSlots_.pop_front();
  } else if (slotsUsed_ < kSlots) {
    slot = slotsUsed_++;
    std::unique_ptr<Chunk>& owner = chunkOwners_[slot / kChunkSize];
    if (owner == nullptr) {
      owner = std::make_unique<Chunk>();
      chunks_[slot / kChunkSize].store(owner.get(), std::memory_order_release);
    }
  } else {
    throw SystemError(ENFILE, "registerFile");
  }
  RegisteredFile* file = fileAt(slot);
  Windows windows({mapping.data(), mapping.size()});
  file->content_.emplace(RegisteredFile::Content{
      std::move(copy), std::move(mapping), std::move(windows)});
  const uint32_t id = file->generation_ * kSlots + slot;
  file->state_.store(uint64_t{id} << 32 | kLive | 1, std::memory_order_release);
  return id;
}

FileRef FileRegistry::acquire(uint32_t id) noexcept {
  RegisteredFile* file = fileAt(id % kSlots);
  if (file == nullptr)
    return {};
  uint64_t state = file->state_.load(std::memory_order_acquire);
  do {
    if (state >> 32 != id || (state & kLive) == 0)
      return {};
  } while (!file->state_.compare_exchange_weak(
      state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire));
  return {this, file};
}

bool FileRegistry::release(uint32_t id) noexcept {
  RegisteredFile* file = fileAt(id % kSlots);
  if (file == nullptr)
    return false;
  uint64_t state = file->state_.load(std::memory_order_acquire);
  do {
    if (state >> 32 != id || (state & kLive) == 0)
      return false;
  } while (!file->state_.compare_exchange_weak(state, state & ~kLive,
                                               std::memory_order_acq_rel,
                                               std::memory_order_acquire));
  drop(file);
  return true;
}

void FileRegistry::drop(RegisteredFile* file) noexcept {
  const uint64_t before = file->state_.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & kUsers) != 1)
    return;
  // The last user of a released file: nobody else can reach its content.
  resident_.forget(file->content_->windows);
  file->content_.reset();
  const auto slot = static_cast<uint32_t>(before >> 32) % kSlots;
  const std::lock_guard lock(lock_);
  if (++file->generation_ < kGenerations)
    freeSlots_.push_back(slot);
}

FileRef::~FileRef() {
  if (file_ != nullptr)
    registry_->drop(file_);
}

const std::byte* FileRef::data(uint64_t offset,
                               uint64_t length) const noexcept {
  RegisteredFile::Content& content = *file_->content_;
  const uint64_t size = content.mapping.size();
  if (offset > size || length > size - offset)
    return nullptr;
  if (!registry_->resident_.admit(content.windows, offset, length)) {
    return nullptr;
  }
  return content.mapping.data() + offset;
}

}  // namespace nydus
