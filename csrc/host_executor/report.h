// Words for what went wrong: text, names, and who waits where.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "host_executor/grid.h"

namespace seqfast::host_executor {

__attribute__((format(printf, 1, 2))) std::string text(const char* format, ...);

inline bool same(const Site& a, const Site& b) {
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

const char* name_of(Collective kind);
std::string name_of(const Block& block);

// The running thread's launch ends with this error; with a report of who waits where.
[[noreturn]] __attribute__((format(printf, 4, 5))) void fail(const char* name, Site site,
                                                             bool with_report, const char* format,
                                                             ...);

// Blocks whose threads wait in the same places are one paragraph.
std::string who_waits(const std::vector<Block*>& blocks);

}  // namespace seqfast::host_executor
