// What a file tree looks like, as records of the fixtures' format: one JSON
// object a path, keys and paths sorted.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace guest {

// Field name to JSON text. Byte strings are Latin-1: every byte is the code
// point of the same number.
using Record = std::map<std::string, std::string>;

// Records of everything below `root`, `root` itself first as "/". What cannot
// be looked at or read gets a field "error" that says why, so that a walk never
// ends early.
std::vector<Record> readTree(const std::string& root);

// One line without its line end.
std::string format(const Record& record);

// The reverse of `format`, for any order of keys. Nothing when the line is not
// such an object.
bool parse(const std::string& line, Record& record);

// What `actual` shows otherwise than `expected`, one line a path; empty when
// they are equal.
std::vector<std::string> differences(const std::vector<Record>& expected,
                                     const std::vector<Record>& actual);

}  // namespace guest
