// Which ways through the code an input takes, counted by the compiler's
// -fsanitize-coverage=trace-pc (the sanitizer build of CMakeLists.txt).
#pragma once

#include <cstddef>
#include <cstdint>

namespace nydus::test {

class Coverage {
 public:
  // Forgets what the last input did; all threads count from here on.
  static void begin() noexcept;
  // How many steps the input took that none before it did. They are known
  // from here on.
  static size_t news() noexcept;
};

}  // namespace nydus::test
