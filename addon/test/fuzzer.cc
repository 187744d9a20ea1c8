#include "test/fuzzer.h"

#include <fcntl.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "test/coverage.h"

namespace nydus::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr size_t kMaxInput = 8192;
constexpr int kMaxChanges = 6;

Input read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const Input& input) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(input.data()),
             static_cast<std::streamsize>(input.size()));
}

// FNV-1a, as a file's name.
std::string nameOf(const Input& input) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint8_t byte : input)
    hash = (hash ^ byte) * 0x100000001b3;
  char text[20];
  std::snprintf(text, sizeof text, "%016llx",
                static_cast<unsigned long long>(hash));
  return text;
}

// What is being tried, and where it goes when the program dies of it.
Input current;
std::string crashPath;

void keepCurrent() {
  const int fd = ::open(crashPath.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd < 0 || ::write(fd, current.data(), current.size()) < 0)
    return;
  std::fprintf(stderr, "the input that did it: %s\n", crashPath.c_str());
}

class Run {
 public:
  Run(Grammar grammar, uint64_t seed)
      : grammar_(std::move(grammar)), mutator_(seed) {}

  // True: the input takes a way that none before it took.
  bool add(Input input) {
    current = std::move(input);
    Coverage::begin();
    LLVMFuzzerTestOneInput(current.data(), current.size());
    runs_++;
    if (Coverage::news() == 0)
      return false;
    parents_.push_back(current);
    return true;
  }
  Input child() {
    Input input = mutator_.of(parents_);
    for (uint32_t n = 1 + mutator_.pick(kMaxChanges); n > 0; n--) {
      const Input& other = mutator_.of(parents_);
      if (mutator_.oneIn(3))
        mutator_.changeBytes(input, other);
      else
        grammar_(mutator_, input, other);
    }
    if (input.size() > kMaxInput)
      input.resize(kMaxInput);
    return input;
  }
  void end(const char* program) const {
    std::printf("%s: %llu inputs, %zu ways\n", program,
                static_cast<unsigned long long>(runs_), parents_.size());
  }

 private:
  const Grammar grammar_;
  Mutator mutator_;
  std::vector<Input> parents_;
  uint64_t runs_ = 0;
};

}  // namespace

int fuzz(int argc,
         char** argv,
         const std::vector<Input>& seeds,
         const Grammar& grammar) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool grow = !arguments.empty() && arguments[0] == "--grow";
  if (grow)
    arguments.erase(arguments.begin());
  if (arguments.size() == 1 && !grow) {
    const Input input = read(arguments[0]);
    return LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  if (arguments.size() < 2) {
    std::fprintf(stderr, "%s [--grow] CORPUS SECONDS [SEED] | FILE\n", argv[0]);
    return 2;
  }
  const fs::path corpus = arguments[0];
  const std::chrono::duration<double> seconds(
      std::strtod(arguments[1].c_str(), nullptr));
  const uint64_t seed = arguments.size() > 2
                            ? std::strtoull(arguments[2].c_str(), nullptr, 10)
                            : 1;
  crashPath = fs::temp_directory_path() /
              (fs::path(argv[0]).filename().string() + ".input");
  __sanitizer_set_death_callback(keepCurrent);
  ::signal(SIGABRT, [](int) {
    keepCurrent();
    ::_exit(1);
  });
  Run run(grammar, seed);
  for (const Input& input : seeds)
    run.add(input);
  if (fs::is_directory(corpus)) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(corpus))
      files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files)
      run.add(read(file));
  }
  const auto stop = Clock::now() + seconds;
  while (Clock::now() < stop) {
    Input child = run.child();
    if (run.add(child) && grow) {
      fs::create_directories(corpus);
      write(corpus / nameOf(child), child);
    }
  }
  run.end(argv[0]);
  return 0;
}

void demand(bool condition, const char* what) {
  if (condition)
    return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

}  // namespace nydus::test
