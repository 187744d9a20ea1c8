#include "sys/fault_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

namespace nydus {
namespace {

// The handler reads this table while other threads change it, so its memory
// stays for ever and every field is an atomic. `end` is written last and
// cleared first: a range counts while end != 0.
struct Range {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<size_t> pageSize{0};
  std::atomic<uint32_t> faults{0};
};

constexpr size_t kChunkSize = 1024;
constexpr size_t kChunks = 1024;
using Chunk = std::array<Range, kChunkSize>;

std::atomic<Chunk*> chunks[kChunks];
std::atomic<uint32_t> rangesUsed{0};  // ids 1 … rangesUsed were handed out
std::atomic<uint64_t> totalFaults{0};
size_t systemPageSize = 4096;
struct sigaction previousAction;

// Static TLS: the dynamic kind may allocate at its first use, which a signal
// handler must not. Volatile: the handler changes it between any two
// instructions of the same thread.
__attribute__((tls_model(
    "initial-exec"))) thread_local volatile uint64_t faultsOfThread = 0;

// Taken by add and remove only.
std::mutex tableLock;

std::vector<FaultGuard::Id>& freeIds() {
  static std::vector<FaultGuard::Id> ids;
  return ids;
}

Range* rangeOf(FaultGuard::Id id) noexcept {
  if (id == FaultGuard::kNone || id > rangesUsed.load())
    return nullptr;
  const uint32_t index = id - 1;
  return &(*chunks[index / kChunkSize].load())[index % kChunkSize];
}

// Async-signal-safe. True when the access may be tried again.
bool patch(uintptr_t address) noexcept {
  const uint32_t used = rangesUsed.load();
  for (uint32_t id = 1; id <= used; id++) {
    Range* range = rangeOf(id);
    const uintptr_t end = range->end.load();
    if (end == 0 || address >= end || address < range->begin.load())
      continue;
    const size_t size = range->pageSize.load();
    // Changed meanwhile: what was read belongs to two different ranges.
    if (range->end.load() != end)
      continue;
    void* page = reinterpret_cast<void*>(address & ~(size - 1));
    if (::mmap(page, size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
      return false;
    }
    range->faults.fetch_add(1);
    totalFaults.fetch_add(1);
    faultsOfThread = faultsOfThread + 1;
    return true;
  }
  return false;
}

void onBusError(int signal, siginfo_t* info, void* context) {
  const int savedErrno = errno;
  // si_code <= 0: somebody sent it, no access failed.
  const bool patched =
      info->si_code > 0 && patch(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = savedErrno;
  if (patched)
    return;
  if ((previousAction.sa_flags & SA_SIGINFO) != 0) {
    previousAction.sa_sigaction(signal, info, context);
  } else if (previousAction.sa_handler != SIG_DFL &&
             previousAction.sa_handler != SIG_IGN) {
    previousAction.sa_handler(signal);
  } else {
    // The access is repeated after return, and then ends the process with
    // the right signal and address in its core dump; a sent signal is raised
    // again.
    ::signal(signal, SIG_DFL);
    if (info->si_code <= 0)
      ::raise(signal);
  }
}

void install() {
  systemPageSize = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction action = {};
  action.sa_sigaction = onBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &previousAction);
}

}  // namespace

FaultGuard::Id FaultGuard::add(const void* address,
                               size_t length,
                               size_t pageSize) {
  static std::once_flag installed;
  std::call_once(installed, install);
  const std::lock_guard lock(tableLock);
  Id id = kNone;
  if (!freeIds().empty()) {
    id = freeIds().back();
    freeIds().pop_back();
  } else {
    const uint32_t index = rangesUsed.load();
    if (index >= kChunks * kChunkSize) {
      throw std::length_error("too many mappings are guarded");
    }
    // Never freed: the handler may be reading it at any time.
    if (index % kChunkSize == 0) {
      chunks[index / kChunkSize].store(std::make_unique<Chunk>().release());
    }
    id = index + 1;
    rangesUsed.store(id);
  }
  Range* range = rangeOf(id);
  range->begin.store(reinterpret_cast<uintptr_t>(address));
  range->pageSize.store(pageSize == 0 ? systemPageSize : pageSize);
  range->faults.store(0);
  range->end.store(reinterpret_cast<uintptr_t>(address) + length);
  return id;
}

void FaultGuard::remove(Id id) noexcept {
  const std::lock_guard lock(tableLock);
  Range* range = rangeOf(id);
  if (range == nullptr || range->end.load() == 0)
    return;
  range->end.store(0);
  freeIds().push_back(id);
}

uint64_t FaultGuard::faults() noexcept {
  return totalFaults.load();
}

uint32_t FaultGuard::rangeFaults(Id id) noexcept {
  const Range* range = rangeOf(id);
  return range == nullptr ? 0 : range->faults.load();
}

uint64_t FaultGuard::threadFaults() noexcept {
  return faultsOfThread;
}

}  // namespace nydus
