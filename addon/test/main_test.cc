#include <cstring>
#include <iostream>

#include "test/check.h"

int main(int argc, char** argv) {
  int failed = 0;
  int passed = 0;
  for (const nydus::test::Case& test : nydus::test::cases()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr)
      continue;
    nydus::test::failures = 0;
    std::cerr << test.name << std::endl;
    test.run();
    (nydus::test::failures == 0 ? passed : failed)++;
  }
  std::cerr << passed << " passed, " << failed << " failed" << std::endl;
  return failed == 0 && passed > 0 ? 0 : 1;
}
