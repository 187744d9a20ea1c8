#include "sys/file_registry.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "sys/system_error.h"
#include "test/check.h"

namespace nydus {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// A file of `size` bytes on disk, without a name, every page of it written.
UniqueFd file(size_t size, char fill) {
  UniqueFd fd(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const std::string page(4096, fill);
  for (size_t at = 0; at < size; at += page.size()) {
    CHECK(::pwrite(fd.get(), page.data(), std::min(page.size(), size - at),
                   static_cast<off_t>(at)) > 0);
  }
  return fd;
}

size_t residentFileBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  size_t kib = 0;
  while (status >> word) {
    if (word == "RssFile:")
      status >> kib;
  }
  return kib << 10;
}

// Reads one byte of each page, as a copy would touch them.
void touch(const std::byte* from, size_t length) {
  for (size_t at = 0; at < length; at += 4096) {
    (void)*reinterpret_cast<const volatile char*>(from + at);
  }
}

TEST(file_registry_gives_bytes_within_the_mapping_only) {
  FileRegistry registry;
  const UniqueFd fd = file(10000, 'a');
  const uint32_t id = registry.add(fd.get(), 9000);
  const FileRef ref = registry.acquire(id);
  CHECK(static_cast<bool>(ref));
  CHECK(ref.fd() != fd.get());
  const std::byte* data = ref.data(4095, 4905);
  CHECK(data != nullptr && std::to_integer<char>(data[4904]) == 'a');
  CHECK(ref.data(9000, 0) != nullptr);
  CHECK(ref.data(4095, 4906) == nullptr);
  CHECK(ref.data(9001, 0) == nullptr);
  CHECK(ref.data(~uint64_t{0}, 2) == nullptr);
  CHECK(ref.data(1, ~uint64_t{0}) == nullptr);
}

TEST(file_registry_never_uses_an_id_again) {
  FileRegistry registry;
  const UniqueFd fd = file(10, 'a');
  CHECK(!registry.acquire(0));
  CHECK(!registry.acquire(1));
  CHECK(!registry.acquire(~uint32_t{0}));
  const uint32_t first = registry.add(fd.get(), 10);
  CHECK_EQ(first, 1u);
  CHECK(registry.release(first));
  CHECK(!registry.release(first));
  const uint32_t second = registry.add(fd.get(), 10);
  CHECK(second != first);
  CHECK(!registry.acquire(first));
  CHECK(static_cast<bool>(registry.acquire(second)));
}

TEST(file_registry_keeps_a_file_until_its_last_user) {
  FileRegistry registry;
  const UniqueFd fd = file(10, 'a');
  const uint32_t id = registry.add(fd.get(), 10);
  int copy = -1;
  {
    FileRef ref = registry.acquire(id);
    copy = ref.fd();
    CHECK(registry.release(id));
    CHECK(!registry.acquire(id));
    CHECK(std::to_integer<char>(ref.data(0, 10)[9]) == 'a');
    CHECK(::fcntl(copy, F_GETFD) != -1);
  }
  CHECK(::fcntl(copy, F_GETFD) == -1);
}

TEST(file_registry_holds_65535_files_and_says_so_then) {
  FileRegistry registry;
  const UniqueFd fd = file(0, 'a');
  // Every registered file takes a descriptor, so the limit of this process
  // comes first: the message must be about that, and nothing may leak.
  std::vector<uint32_t> ids;
  int error = 0;
  try {
    while (ids.size() < 70000)
      ids.push_back(registry.add(fd.get(), 0));
  } catch (const SystemError& thrown) {
    error = thrown.error();
  }
  CHECK(error == EMFILE || (error == ENFILE && ids.size() == 65535));
  for (const uint32_t id : ids)
    CHECK(registry.release(id));
  CHECK(registry.add(fd.get(), 0) > 0);
}

TEST(file_registry_survives_lookups_during_release) {
  FileRegistry registry(2 * kMiB);
  constexpr size_t kFiles = 8;
  std::atomic<uint32_t> ids[kFiles] = {};
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> found{0};
  std::vector<UniqueFd> fds;
  for (size_t i = 0; i < kFiles; i++) {
    fds.push_back(file(kMiB + 4096 * i, static_cast<char>('a' + i)));
  }
  std::vector<std::jthread> readers;
  for (unsigned seed = 0; seed < 3; seed++) {
    readers.emplace_back([&, seed] {
      uint64_t random = seed + 1;
      while (!stop.load()) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const size_t i = (random >> 33) % kFiles;
        const FileRef ref = registry.acquire(ids[i].load());
        if (!ref)
          continue;
        const uint64_t offset = (random >> 40) % kMiB;
        char got = 0;
        const size_t length = (random & 1) != 0 ? 1 : 80 << 10;
        const std::byte* data =
            offset + length <= kMiB ? ref.data(offset, length) : nullptr;
        if (data != nullptr) {
          got = std::to_integer<char>(data[length - 1]);
        } else if (::pread(ref.fd(), &got, 1, static_cast<off_t>(offset)) !=
                   1) {
          got = 0;
        }
        found++;
        // Ids of place i always meant file i; another's byte is a wrong file.
        if (got != static_cast<char>('a' + i))
          wrong++;
      }
    });
  }
  for (int round = 0; round < 3000; round++) {
    const size_t i = round % kFiles;
    const uint32_t old = ids[i].exchange(registry.add(fds[i].get(), kMiB));
    if (old != 0)
      CHECK(registry.release(old));
  }
  stop = true;
  readers.clear();
  CHECK_EQ(wrong.load(), 0u);
  CHECK(found.load() > 0);
  for (std::atomic<uint32_t>& id : ids)
    CHECK(registry.release(id.load()));
}

TEST(file_registry_bounds_resident_memory) {
  FileRegistry registry(4 * kMiB);
  const UniqueFd fd = file(64 * kMiB, 'a');
  const uint32_t id = registry.add(fd.get(), 64 * kMiB);
  const FileRef ref = registry.acquire(id);
  const size_t before = residentFileBytes();
  int mapped = 0;
  for (int pass = 0; pass < 3; pass++) {
    for (size_t at = 0; at < 64 * kMiB; at += 128 << 10) {
      const std::byte* data = ref.data(at, 128 << 10);
      if (data != nullptr)
        touch(data, 128 << 10);
      mapped += data != nullptr ? 1 : 0;
    }
  }
  // Other code of the test may have become resident too: 1 MiB for that.
  CHECK(residentFileBytes() < before + 5 * kMiB);
  // Sequential reads get a window at their second read of it.
  CHECK(mapped >= 3 * 512 * 7 / 8);
}

TEST(file_registry_gives_windows_to_small_reads_while_there_is_room) {
  FileRegistry registry(2 * kMiB);
  const UniqueFd fd = file(4 * kMiB, 'a');
  const FileRef ref = registry.acquire(registry.add(fd.get(), 4 * kMiB));
  CHECK(ref.data(0, 4096) != nullptr);
  CHECK(ref.data(kMiB, 4096) != nullptr);
  CHECK(ref.data(2 * kMiB, 4096) == nullptr);
  CHECK(ref.data(4096, 4096) != nullptr);
  // A large read takes a window away, from either of the two.
  CHECK(ref.data(3 * kMiB, 256 << 10) != nullptr);
  const int left = (ref.data(0, 4096) != nullptr ? 1 : 0) +
                   (ref.data(kMiB, 4096) != nullptr ? 1 : 0);
  CHECK_EQ(left, 1);
}

TEST(file_registry_gives_windows_to_reads_that_go_on) {
  FileRegistry registry(kMiB);
  const UniqueFd fd = file(3 * kMiB, 'a');
  const FileRef ref = registry.acquire(registry.add(fd.get(), 3 * kMiB));
  CHECK(ref.data(0, 4096) != nullptr);
  CHECK(ref.data(kMiB + 8192, 4096) == nullptr);
  CHECK(ref.data(kMiB, 4096) == nullptr);
  CHECK(ref.data(kMiB + 4096, 4096) != nullptr);
  CHECK(ref.data(kMiB + 65536, 4096) != nullptr);
  CHECK(ref.data(0, 4096) == nullptr);
}

TEST(file_registry_gives_windows_to_reads_that_come_from_the_one_before) {
  FileRegistry registry(kMiB);
  const UniqueFd fd = file(3 * kMiB, 'a');
  const FileRef ref = registry.acquire(registry.add(fd.get(), 3 * kMiB));
  CHECK(ref.data(kMiB - 4096, 4096) != nullptr);
  CHECK(ref.data(2 * kMiB, 4096) == nullptr);
  CHECK(ref.data(kMiB, 4096) != nullptr);
  CHECK(ref.data(kMiB - 4096, 4096) == nullptr);
}

TEST(file_registry_lets_a_hot_window_replace_an_idle_one) {
  FileRegistry registry(kMiB);
  const UniqueFd fd = file(2 * kMiB, 'a');
  const FileRef ref = registry.acquire(registry.add(fd.get(), 2 * kMiB));
  CHECK(ref.data(0, 4096) != nullptr);
  int refused = 0;
  while (refused < 10000 && ref.data(kMiB, 4096) == nullptr)
    refused++;
  CHECK(refused > 100 && refused < 1000);
  CHECK(ref.data(0, 4096) == nullptr);
}

}  // namespace
}  // namespace nydus
