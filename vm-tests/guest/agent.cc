// The agent that runs in the guest and does what a test or the demo asks for
// over a virtio-serial port.
//
//     host: "ID LENGTH NAME ARG…\n" + LENGTH bytes      guest: "ID STATUS
//     LENGTH\n" + LENGTH bytes
//
// ARGs are percent-encoded; STATUS is 0 or an errno, and then the bytes are its
// message. Every command has its own thread, so that a read that waits for the
// daemon does not hold up the next command. "0 0 LENGTH\n" + the kernel's
// release is sent once at start: a host that sees it again knows that the guest
// was rebooted.
//
// Knows nothing of nydusd: what it needs beyond files and manifests (mount,
// reboot, …) the host asks of the shell.

#include <fcntl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "manifest.h"

namespace {

constexpr size_t kMaxPayload = 64 << 20;
constexpr size_t kMaxDifferences = 12;

struct Failure {
  int error;
  std::string message;
};

[[noreturn]] void fail(const std::string& what, int error = errno) {
  throw Failure{error, what + ": " + std::strerror(error)};
}

uint64_t number(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw Failure{EINVAL, "\"" + text + "\" is not a number"};
  return value;
}

std::string decode(const std::string& word) {
  std::string out;
  for (size_t i = 0; i < word.size(); ++i) {
    unsigned value = 0;
    if (word[i] == '%' && i + 2 < word.size() &&
        std::from_chars(&word[i + 1], &word[i + 3], value, 16).ec ==
            std::errc()) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += word[i];
    }
  }
  return out;
}

struct Request {
  std::vector<std::string> args;
  std::string payload;

  const std::string& arg(size_t i) const {
    if (i >= args.size())
      throw Failure{EINVAL,
                    "argument " + std::to_string(i + 1) + " is missing"};
    return args[i];
  }
};

// Reads until `length` bytes or the end of the file. A read that fails fails as
// a whole, as a program would see it.
std::string readAt(int fd, uint64_t offset, uint64_t length) {
  if (length > kMaxPayload)
    throw Failure{EINVAL, "more than 64 MiB asked for in one read"};
  std::string out(length, '\0');
  size_t got = 0;
  while (got < length) {
    const ssize_t n = ::pread(fd, out.data() + got, length - got,
                              static_cast<off_t>(offset + got));
    if (n < 0)
      fail("read at " + std::to_string(offset + got));
    if (n == 0)
      break;
    got += static_cast<size_t>(n);
  }
  out.resize(got);
  return out;
}

std::string runShell(const Request& request) {
  int output[2];
  if (::pipe2(output, O_CLOEXEC) != 0)
    fail("pipe2");
  const std::string command = request.payload;
  const pid_t child = ::fork();
  if (child < 0)
    fail("fork");
  if (child == 0) {
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, 0);
    ::dup2(output[1], 1);
    ::dup2(output[1], 2);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(output[1]);
  std::string text;
  char buffer[65536];
  for (ssize_t n; (n = ::read(output[0], buffer, sizeof buffer)) > 0;) {
    if (text.size() < kMaxPayload)
      text.append(buffer, static_cast<size_t>(n));
  }
  ::close(output[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  const int code =
      WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return std::to_string(code) + "\n" + text;
}

std::string writeManifest(const Request& request) {
  std::string out;
  for (const guest::Record& record : guest::readTree(request.arg(0)))
    out += guest::format(record) + "\n";
  return out;
}

std::string compareTree(const Request& request) {
  std::vector<guest::Record> expected;
  std::istringstream lines(request.payload);
  for (std::string line; std::getline(lines, line);) {
    guest::Record record;
    if (!guest::parse(line, record))
      throw Failure{EINVAL, "not a manifest record: " + line};
    expected.push_back(std::move(record));
  }
  const std::vector<guest::Record> actual = guest::readTree(request.arg(0));
  const std::vector<std::string> found = guest::differences(expected, actual);
  std::string out =
      std::to_string(actual.size()) + " " + std::to_string(found.size()) + "\n";
  for (size_t i = 0; i < found.size() && i < kMaxDifferences; ++i)
    out += found[i] + "\n";
  return out;
}

std::string openFile(const Request& request) {
  const int fd = ::open(request.arg(0).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    fail("open " + request.arg(0));
  return std::to_string(fd);
}

std::string readFile(const Request& request) {
  return readAt(static_cast<int>(number(request.arg(0))),
                number(request.arg(1)), number(request.arg(2)));
}

std::string closeFile(const Request& request) {
  if (::close(static_cast<int>(number(request.arg(0)))) != 0)
    fail("close");
  return {};
}

const std::map<std::string, std::function<std::string(const Request&)>>
    kCommands = {
        {"sh", runShell},         {"manifest", writeManifest},
        {"compare", compareTree}, {"open", openFile},
        {"read", readFile},       {"close", closeFile},
};

class Channel {
 public:
  explicit Channel(int fd) : fd_(fd) {}

  // A line without its end, or nothing when the port is gone.
  std::optional<std::string> line() {
    for (;;) {
      const size_t end = pending_.find('\n');
      if (end != std::string::npos) {
        std::string out = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        return out;
      }
      if (!fill())
        return std::nullopt;
    }
  }

  std::optional<std::string> bytes(size_t length) {
    while (pending_.size() < length) {
      if (!fill())
        return std::nullopt;
    }
    std::string out = pending_.substr(0, length);
    pending_.erase(0, length);
    return out;
  }

  void send(const std::string& id, int status, const std::string& payload) {
    const std::string frame = id + " " + std::to_string(status) + " " +
                              std::to_string(payload.size()) + "\n" + payload;
    const std::lock_guard lock(sending_);
    for (size_t at = 0; at < frame.size();) {
      const ssize_t n = ::write(fd_, frame.data() + at, frame.size() - at);
      if (n < 0 && errno != EINTR)
        return;
      if (n > 0)
        at += static_cast<size_t>(n);
    }
  }

 private:
  bool fill() {
    char buffer[65536];
    const ssize_t n = ::read(fd_, buffer, sizeof buffer);
    if (n <= 0)
      return n < 0 && errno == EINTR;
    pending_.append(buffer, static_cast<size_t>(n));
    return true;
  }

  const int fd_;
  std::string pending_;
  std::mutex sending_;
};

void serve(Channel& channel,
           const std::string& id,
           const std::string& name,
           const Request& request) {
  try {
    const auto command = kCommands.find(name);
    if (command == kCommands.end())
      throw Failure{ENOSYS, "no command is called " + name};
    channel.send(id, 0, command->second(request));
  } catch (const Failure& failure) {
    channel.send(id, failure.error, failure.message);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2)
    return 2;
  const int port = ::open(argv[1], O_RDWR | O_CLOEXEC);
  if (port < 0) {
    std::perror(argv[1]);
    return 1;
  }
  Channel channel(port);
  utsname system{};
  ::uname(&system);
  channel.send("0", 0, system.release);
  while (const auto line = channel.line()) {
    std::istringstream words(*line);
    std::string id, length, name;
    words >> id >> length >> name;
    Request request;
    for (std::string word; words >> word;)
      request.args.push_back(decode(word));
    const auto payload = channel.bytes(number(length));
    if (!payload)
      break;
    request.payload = *payload;
    std::thread([&channel, id, name, request] {
      serve(channel, id, name, request);
    }).detach();
  }
  return 0;
}
