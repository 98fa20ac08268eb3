// How words of a text are told apart and counted: what a reader is told.
#pragma once

#include <cstddef>
#include <cstdint>

namespace seqfast {

struct WordReaderArgs {
    bool frozen;        // words that are not known yet are left out
    int64_t max_types;  // most kinds of words; 0: no limit
    int threads;
    size_t part_bytes;  // of the text that a thread works on at a time
};
template <class F>
void visit(WordReaderArgs& args, F&& f) {
    f("frozen", args.frozen);
    f("max_types", args.max_types);
    f("threads", args.threads);
    f("part_bytes", args.part_bytes);
}

}  // namespace seqfast
