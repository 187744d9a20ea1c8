// The pages of the program's own file that this process has mapped.
#pragma once

#include <cstddef>

namespace nydus {

// Unmaps the pages of the executable's code and constants; what is used again
// comes back from the page cache, 64 KiB at a time. Most of what a program
// touched to start it never touches again, but it counts as resident memory.
// Only mappings that nobody has written to (no anonymous pages in them).
// Returns the bytes that were resident in them; 0 when /proc tells nothing.
size_t dropProgramPages();

}  // namespace nydus
