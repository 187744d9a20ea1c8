#include "sys/program_pages.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cinttypes>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

namespace nydus {
namespace {

// One entry of /proc/self/smaps (proc(5)).
struct Entry {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  std::string permissions;
  std::string path;
  // KiB; what the entry does not tell counts as written to.
  size_t resident = 0;
  size_t anonymous = SIZE_MAX;
  size_t swapped = SIZE_MAX;
};

std::string programPath() {
  std::array<char, PATH_MAX> path;
  const ssize_t n = ::readlink("/proc/self/exe", path.data(), path.size());
  return n <= 0 ? std::string()
                : std::string(path.data(), static_cast<size_t>(n));
}

bool parseHeader(const std::string& line, Entry& entry) {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  std::array<char, 5> permissions{};
  int pathAt = 0;
  if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %*s %n",
                  &begin, &end, permissions.data(), &pathAt) < 3) {
    return false;
  }
  entry = {};
  entry.begin = begin;
  entry.end = end;
  entry.permissions = permissions.data();
  if (pathAt > 0)
    entry.path = line.substr(static_cast<size_t>(pathAt));
  return true;
}

void parseField(const std::string& line, Entry& entry) {
  size_t kib = 0;
  if (std::sscanf(line.c_str(), "Rss: %zu", &kib) == 1)
    entry.resident = kib;
  if (std::sscanf(line.c_str(), "Anonymous: %zu", &kib) == 1) {
    entry.anonymous = kib;
  }
  if (std::sscanf(line.c_str(), "Swap: %zu", &kib) == 1)
    entry.swapped = kib;
}

size_t drop(const Entry& entry, const std::string& program) {
  if (entry.path != program || entry.anonymous != 0 || entry.swapped != 0) {
    return 0;
  }
  if (entry.permissions != "r-xp" && entry.permissions != "r--p")
    return 0;
  const int status = ::madvise(reinterpret_cast<void*>(entry.begin),
                               entry.end - entry.begin, MADV_DONTNEED);
  return status == 0 ? entry.resident << 10 : 0;
}

}  // namespace

size_t dropProgramPages() {
  // 14 MiB here: what reading and compiling the program took.
  ::malloc_trim(0);
  const std::string program = programPath();
  std::ifstream smaps("/proc/self/smaps");
  if (program.empty() || !smaps)
    return 0;
  size_t dropped = 0;
  Entry entry;
  std::string line;
  while (std::getline(smaps, line)) {
    Entry next;
    if (parseHeader(line, next)) {
      dropped += drop(entry, program);
      entry = next;
    } else {
      parseField(line, entry);
    }
  }
  return dropped + drop(entry, program);
}

}  // namespace nydus
