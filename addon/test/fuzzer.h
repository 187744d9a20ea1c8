// A fuzzer guided by coverage, for GCC, which has none: whatever takes a new
// way through the code becomes a parent of further inputs.
//
//     fuzz_x CORPUS SECONDS [SEED]   the corpus, then what descends from it
//     fuzz_x --grow CORPUS SECONDS   … and new ways are added to the corpus
//     fuzz_x FILE                    one input, to see again what it does
//
// With clang's -fsanitize=fuzzer the same entry point runs under libFuzzer.
#pragma once

#include <functional>

#include "test/mutator.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace nydus::test {

// Changes something with knowledge of what the bytes mean; `other` is a second
// parent.
using Grammar = std::function<void(Mutator&, Input&, const Input& other)>;

// `seeds`: right inputs; the files of the corpus come on top.
int fuzz(int argc,
         char** argv,
         const std::vector<Input>& seeds,
         const Grammar& grammar);

// What a fuzzer wants to be true ends it when it is not.
void demand(bool condition, const char* what);

}  // namespace nydus::test
