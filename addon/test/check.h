// The native tests' harness: TEST(name) { CHECK(…); CHECK_EQ(got, wanted); }.
// All test/*_test.cc make one program (target core_test); it runs the tests
// whose names contain its first argument, or all, and exits 1 when one failed.
#pragma once

#include <atomic>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace nydus::test {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

// Failed checks of the test that runs, on any thread.
inline std::atomic<int> failures = 0;

inline void fail(const char* file, int line, const std::string& what) {
  failures++;
  std::cerr << "  " << file << ":" << line << ": " << what << "\n";
}

struct Registration {
  Registration(const char* name, void (*run)()) {
    cases().push_back({name, run});
  }
};

template <typename A, typename B>
void checkEqual(const A& got,
                const B& wanted,
                const char* text,
                const char* file,
                int line) {
  if (got == wanted)
    return;
  std::ostringstream out;
  out << text << ": got " << +got << ", wanted " << +wanted;
  fail(file, line, out.str());
}

}  // namespace nydus::test

#define TEST(name)                                                       \
  static void test_##name();                                             \
  static const nydus::test::Registration registered_##name(#name,        \
                                                           test_##name); \
  static void test_##name()

#define CHECK(condition)                                 \
  do {                                                   \
    if (!(condition))                                    \
      nydus::test::fail(__FILE__, __LINE__, #condition); \
  } while (false)

// Numbers only.
#define CHECK_EQ(got, wanted) \
  nydus::test::checkEqual(got, wanted, #got, __FILE__, __LINE__)
