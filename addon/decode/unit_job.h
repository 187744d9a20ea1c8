// Carries out units on one thread:
//
//   stored bytes ── decrypt ── decompress ── check ── pwrite
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "codec/codec.h"
#include "decode/unit_task.h"

namespace nydus::decode {

class UnitJob {
 public:
  // Fills the task's failures.
  void run(UnitTask& task) noexcept;

 private:
  // What could not be had of the unit: every member fails with it.
  struct Problem {
    FailureKind kind;
    int error = 0;
    std::string text;
  };

  void runParts();
  // Each sets `problem_` and returns nothing of use when it fails.
  codec::Source stored();
  codec::Source decrypted(codec::Source stored);
  codec::Source output(codec::Source stored);
  codec::Outcome decompress(codec::Source input, codec::Target into);
  codec::Target room();
  void checkMember(size_t index, codec::Source output);
  void damaged(std::string text);
  bool write(codec::Source bytes, uint64_t position, Problem& problem) const;
  void failAll(const Problem& problem);

  UnitTask* task_ = nullptr;
  std::vector<Problem> problem_;  // at most one
  std::vector<std::byte> stored_;
  std::vector<std::byte> cipher_;
  std::vector<std::byte> plain_;
};

}  // namespace nydus::decode
