// Glue: a folder read in one call, for the image builder (lib/native.ts,
// addon/sys). Over a million small files the crossings into JavaScript cost
// more than the system calls.
#include <dirent.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <napi.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "args_napi.h"

namespace nydus {
namespace {

// One entry as lib/build/scan-record.ts reads it: this head, then name, link
// target and xattrs (each a XattrHead, name, value), without padding.
struct EntryHead {
  uint64_t device;
  uint64_t inode;
  uint64_t size;
  int64_t mtime;
  uint32_t mtimeNs;
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  uint32_t nlink;
  uint32_t major;
  uint32_t minor;
  uint32_t nameLength;
  uint32_t targetLength;
  uint32_t xattrBytes;
};
static_assert(sizeof(EntryHead) == 72);

struct XattrHead {
  uint32_t nameLength;
  uint32_t valueLength;
};

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

struct Failure {
  int error;
  const char* call;
  std::string path;
};

class Scan {
 public:
  explicit Scan(std::string folder)
      : folder_(std::move(folder)),
        names_(XATTR_LIST_MAX),
        value_(XATTR_SIZE_MAX) {}

  // Throws Failure.
  const std::vector<char>& run() {
    const Dir dir(::opendir(folder_.c_str()));
    if (dir == nullptr)
      throw Failure{errno, "opendir", folder_};
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      // NOLINTNEXTLINE(concurrency-mt-unsafe): this DIR is this call's own.
      const dirent* entry = ::readdir(dir.get());
      if (entry == nullptr) {
        if (errno != 0)
          throw Failure{errno, "readdir", folder_};
        break;
      }
      const std::string_view name(entry->d_name);
      if (name != "." && name != "..")
        names.emplace_back(name);
    }
    // std::string compares bytes as unsigned, as images do.
    std::sort(names.begin(), names.end());
    for (const std::string& name : names)
      add(::dirfd(dir.get()), name);
    return out_;
  }

 private:
  void add(int dirFd, const std::string& name) {
    const std::string path = folder_ + "/" + name;
    struct stat st {};
    if (::fstatat(dirFd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
      throw Failure{errno, "lstat", path};
    const size_t at = out_.size();
    out_.resize(at + sizeof(EntryHead));
    append(name.data(), name.size());
    uint32_t targetLength = 0;
    if (S_ISLNK(st.st_mode)) {
      char target[PATH_MAX];
      const ssize_t n =
          ::readlinkat(dirFd, name.c_str(), target, sizeof target);
      if (n < 0)
        throw Failure{errno, "readlink", path};
      targetLength = static_cast<uint32_t>(n);
      append(target, targetLength);
    }
    const size_t xattrsAt = out_.size();
    addXattrs(path);
    const EntryHead head{
        .device = st.st_dev,
        .inode = st.st_ino,
        .size = static_cast<uint64_t>(st.st_size),
        .mtime = st.st_mtim.tv_sec,
        .mtimeNs = static_cast<uint32_t>(st.st_mtim.tv_nsec),
        .mode = st.st_mode,
        .uid = st.st_uid,
        .gid = st.st_gid,
        .nlink =
            static_cast<uint32_t>(std::min<nlink_t>(st.st_nlink, UINT32_MAX)),
        .major = ::gnu_dev_major(st.st_rdev),
        .minor = ::gnu_dev_minor(st.st_rdev),
        .nameLength = static_cast<uint32_t>(name.size()),
        .targetLength = targetLength,
        .xattrBytes = static_cast<uint32_t>(out_.size() - xattrsAt),
    };
    std::memcpy(out_.data() + at, &head, sizeof head);
  }

  void addXattrs(const std::string& path) {
    const ssize_t length =
        ::llistxattr(path.c_str(), names_.data(), names_.size());
    if (length < 0) {
      if (errno == EOPNOTSUPP)
        return;
      throw Failure{errno, "llistxattr", path};
    }
    for (const char* name = names_.data(); name < names_.data() + length;
         name += std::strlen(name) + 1) {
      const ssize_t n =
          ::lgetxattr(path.c_str(), name, value_.data(), value_.size());
      if (n < 0)
        throw Failure{errno, "lgetxattr", path};
      const XattrHead head{static_cast<uint32_t>(std::strlen(name)),
                           static_cast<uint32_t>(n)};
      append(reinterpret_cast<const char*>(&head), sizeof head);
      append(name, head.nameLength);
      append(value_.data(), head.valueLength);
    }
  }

  void append(const char* from, size_t n) {
    out_.insert(out_.end(), from, from + n);
  }

  std::string folder_;
  std::vector<char> names_;
  std::vector<char> value_;
  std::vector<char> out_;
};

// scanFolder(path): all entries but `.` and `..`, in the order of their names.
Napi::Value scanFolder(const Napi::CallbackInfo& info) {
  const Arguments args(info, "scanFolder");
  try {
    Scan scan(args.name(0, "path"));
    const std::vector<char>& found = scan.run();
    Napi::Uint8Array out = Napi::Uint8Array::New(info.Env(), found.size());
    if (!found.empty())
      std::memcpy(out.Data(), found.data(), found.size());
    return out;
  } catch (const Failure& failure) {
    throwSystem(info.Env(), failure.error, failure.call,
                printable(failure.path));
  }
}

}  // namespace

void registerScan(Napi::Env env, Napi::Object exports) {
  exports.Set("scanFolder", Napi::Function::New<scanFolder>(env, "scanFolder"));
}

}  // namespace nydus
