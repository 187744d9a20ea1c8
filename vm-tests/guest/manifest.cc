#include "manifest.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <string_view>

namespace guest {
namespace {

std::string quote(std::string_view bytes) {
  std::string out = "\"";
  for (const unsigned char c : bytes) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\b') {
      out += "\\b";
    } else if (c == '\f') {
      out += "\\f";
    } else if (c < 0x20 || c >= 0x7f) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", c);
      // Python, which wrote the expected files, leaves DEL as it is.
      out += c == 0x7f ? "\x7f" : code;
    } else {
      out += static_cast<char>(c);
    }
  }
  return out + '"';
}

std::string hex(std::string_view bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const unsigned char c : bytes) {
    out += digits[c >> 4];
    out += digits[c & 15];
  }
  return out;
}

std::string failure(const char* call) {
  return std::string(call) + ": " + std::strerror(errno);
}

class File {
 public:
  explicit File(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0)
      ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// The digest of a file's bytes, or what failed in `error`.
std::string digest(const std::string& path, off_t size, std::string& error) {
  const File file(path);
  if (file.get() < 0) {
    error = failure("open");
    return {};
  }
  SHA256_CTX context;
  SHA256_Init(&context);
  // Kept between files: fresh pages are dear in an emulated machine.
  thread_local std::vector<char> buffer(256 << 10);
  off_t at = 0;
  for (;;) {
    const ssize_t n = ::read(file.get(), buffer.data(), buffer.size());
    if (n < 0) {
      error = failure("read") + " behind byte " + std::to_string(at);
      return {};
    }
    if (n == 0)
      break;
    SHA256_Update(&context, buffer.data(), static_cast<size_t>(n));
    at += n;
  }
  if (at != size)
    error = "read gave " + std::to_string(at) + " bytes";
  unsigned char out[SHA256_DIGEST_LENGTH];
  SHA256_Final(out, &context);
  return hex({reinterpret_cast<const char*>(out), sizeof out});
}

// `call` is asked for the size first; what it lists can grow in between, so it
// is asked until it fits.
template <typename Call>
bool fetch(Call call, std::string& out) {
  for (;;) {
    const ssize_t size = call(nullptr, 0);
    if (size < 0)
      return false;
    out.resize(static_cast<size_t>(size));
    if (size == 0)
      return true;
    const ssize_t got = call(out.data(), out.size());
    if (got >= 0) {
      out.resize(static_cast<size_t>(got));
      return true;
    }
    if (errno != ERANGE)
      return false;
  }
}

std::string readXattrs(const std::string& path, std::string& error) {
  std::string names;
  if (!fetch(
          [&](char* to, size_t n) { return ::llistxattr(path.c_str(), to, n); },
          names)) {
    if (errno != EOPNOTSUPP)
      error = failure("llistxattr");
    return {};
  }
  std::map<std::string, std::string> xattrs;
  for (size_t at = 0; at < names.size();) {
    const std::string name = names.c_str() + at;
    at += name.size() + 1;
    std::string value;
    if (fetch(
            [&](char* to, size_t n) {
              return ::lgetxattr(path.c_str(), name.c_str(), to, n);
            },
            value))
      xattrs[name] = hex(value);
    else
      error = failure("lgetxattr") + " for " + name;
  }
  if (xattrs.empty())
    return {};
  std::string out;
  for (const auto& [name, value] : xattrs)
    out += (out.empty() ? "{" : ", ") + quote(name) + ": \"" + value + '"';
  return out + '}';
}

const char* typeOf(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return "dir";
    case S_IFREG:
      return "file";
    case S_IFLNK:
      return "symlink";
    case S_IFCHR:
      return "chr";
    case S_IFBLK:
      return "blk";
    case S_IFIFO:
      return "fifo";
    case S_IFSOCK:
      return "sock";
    default:
      return "unknown";
  }
}

Record readEntry(const std::string& path,
                 const std::string& shown,
                 bool& isFolder) {
  Record record{{"path", quote(shown)}};
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) {
    record["error"] = quote(failure("lstat"));
    return record;
  }
  isFolder = S_ISDIR(st.st_mode);
  std::string error;
  record["type"] = quote(typeOf(st.st_mode));
  record["mode"] = std::to_string(st.st_mode & 07777);
  record["uid"] = std::to_string(st.st_uid);
  record["gid"] = std::to_string(st.st_gid);
  record["mtime"] = std::to_string(st.st_mtim.tv_sec);
  if (!isFolder)
    record["nlink"] = std::to_string(st.st_nlink);
  if (S_ISREG(st.st_mode)) {
    record["size"] = std::to_string(st.st_size);
    record["sha256"] = quote(digest(path, st.st_size, error));
  }
  if (S_ISLNK(st.st_mode)) {
    char target[4096];
    const ssize_t n = ::readlink(path.c_str(), target, sizeof target);
    if (n < 0)
      error = failure("readlink");
    else
      record["target"] = quote({target, static_cast<size_t>(n)});
  }
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
    record["rdev"] = "[" + std::to_string(major(st.st_rdev)) + ", " +
                     std::to_string(minor(st.st_rdev)) + "]";
  const std::string xattrs = readXattrs(path, error);
  if (!xattrs.empty())
    record["xattrs"] = xattrs;
  if (!error.empty())
    record["error"] = quote(error);
  return record;
}

// Paths below `root` without it, "" for `root`, each with its record. Sorted by
// bytes, as the map does.
void walk(const std::string& root,
          const std::string& below,
          std::map<std::string, Record>& out) {
  const std::string path = root + below;
  bool isFolder = false;
  Record record = readEntry(path, below.empty() ? "/" : below, isFolder);
  std::set<std::string> names;
  if (isFolder) {
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()),
                                                     ::closedir);
    if (folder == nullptr)
      record["error"] = quote(failure("opendir"));
    while (folder != nullptr) {
      errno = 0;
      const dirent* entry = ::readdir(folder.get());
      if (entry == nullptr) {
        if (errno != 0)
          record["error"] = quote(failure("readdir"));
        break;
      }
      const std::string name = entry->d_name;
      if (name == "." || name == "..")
        continue;
      if (!names.insert(name).second)
        record["error"] = quote("readdir shows " + name + " twice");
    }
  }
  out[below] = std::move(record);
  for (const std::string& name : names)
    walk(root, below + "/" + name, out);
}

// The end of the JSON value that starts at `at`: the position of the comma or
// brace behind it.
size_t endOfValue(const std::string& line, size_t at) {
  int depth = 0;
  bool inString = false;
  for (; at < line.size(); ++at) {
    const char c = line[at];
    if (inString) {
      if (c == '\\')
        ++at;
      else if (c == '"')
        inString = false;
    } else if (c == '"') {
      inString = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (depth > 0 && (c == '}' || c == ']')) {
      --depth;
    } else if (depth == 0 && (c == ',' || c == '}')) {
      return at;
    }
  }
  return std::string::npos;
}

}  // namespace

std::vector<Record> readTree(const std::string& root) {
  std::map<std::string, Record> found;
  walk(root, "", found);
  std::vector<Record> records;
  for (auto& [path, record] : found)
    records.push_back(std::move(record));
  return records;
}

std::string format(const Record& record) {
  std::string out;
  for (const auto& [name, value] : record)
    out += (out.empty() ? "{\"" : ", \"") + name + "\": " + value;
  return out + '}';
}

bool parse(const std::string& line, Record& record) {
  if (line.empty() || line.front() != '{')
    return false;
  for (size_t at = 1;;) {
    const size_t name = line.find('"', at);
    const size_t nameEnd = line.find("\": ", at);
    if (name == std::string::npos || nameEnd == std::string::npos ||
        nameEnd <= name)
      return false;
    const size_t value = nameEnd + 3;
    const size_t end = endOfValue(line, value);
    if (end == std::string::npos)
      return false;
    record[line.substr(name + 1, nameEnd - name - 1)] =
        line.substr(value, end - value);
    if (line[end] == '}')
      return record.contains("path");
    at = end + 1;
  }
}

std::vector<std::string> differences(const std::vector<Record>& expected,
                                     const std::vector<Record>& actual) {
  std::map<std::string, const Record*> left;
  for (const Record& record : actual)
    left[record.at("path")] = &record;
  std::vector<std::string> out;
  for (const Record& want : expected) {
    const std::string& path = want.at("path");
    const auto found = left.find(path);
    if (found == left.end()) {
      out.push_back(path + " is missing");
      continue;
    }
    const Record& have = *found->second;
    left.erase(found);
    std::set<std::string> names;
    for (const auto& [name, value] : want)
      names.insert(name);
    for (const auto& [name, value] : have)
      names.insert(name);
    std::string text;
    for (const std::string& name : names) {
      const auto wanted = want.find(name);
      const auto shown = have.find(name);
      const std::string wantedText =
          wanted == want.end() ? "none" : wanted->second;
      const std::string shownText =
          shown == have.end() ? "none" : shown->second;
      if (wantedText != shownText)
        text += (text.empty() ? ": " : "; ") + name + " is " + shownText +
                ", expected " + wantedText;
    }
    if (!text.empty())
      out.push_back(path + text);
  }
  for (const auto& [path, record] : left)
    out.push_back(path + " should not be there: " + format(*record));
  return out;
}

}  // namespace guest
