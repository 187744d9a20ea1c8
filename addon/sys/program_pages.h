// Memory that a process took to start and does not need any more.
#pragma once

#include <cstddef>

namespace nydus {

// Gives freed memory of malloc's heaps back to the kernel, and unmaps the pages
// of the executable's code and constants; what is used again comes back from
// the page cache, 64 KiB at a time. Most of what a program touched to start it
// never touches again, but it counts as resident memory. Only mappings that
// nobody has written to (no anonymous pages in them). Returns the bytes that
// were resident in those; 0 when /proc tells nothing.
size_t dropProgramPages();

}  // namespace nydus
