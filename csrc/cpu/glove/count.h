// Co-occurrences row by row: all that stands around a word is added up in one dense row, which two
// levels of bits say how to find again, rising and without a look at what is zero.
#pragma once

#include "core/glove.h"
#include "cpu/base/arena.h"
#include "cpu/base/range.h"
#include "cpu/base/team.h"

namespace seqfast::cpu::SEQFAST_ISA {

class RowCounter {
  public:
    RowCounter(const CooccurrenceArgs& args, Arena& arena) : args_(args) {
        words_ = ceil_div(args.vocabulary, 64);
        summary_words_ = ceil_div(words_, 64);
        sums_ = arena.take<uint64_t>(args.sizes ? 0 : args.vocabulary);
        bits_ = arena.take<uint64_t>(words_);
        summary_ = arena.take<uint64_t>(summary_words_);
    }

    void begin() {
        if (!args_.sizes) __builtin_memset(sums_, 0, static_cast<size_t>(args_.vocabulary) * 8);
        __builtin_memset(bits_, 0, static_cast<size_t>(words_) * 8);
        __builtin_memset(summary_, 0, static_cast<size_t>(summary_words_) * 8);
    }

    void row(int64_t row) {
        if (args_.sizes) {
            gather<false>(row);
            args_.sizes[row - args_.first_row] = size();
        } else {
            gather<true>(row);
            write(args_.offsets[row - args_.first_row]);
        }
    }

  private:
    const CooccurrenceArgs& args_;
    int64_t words_, summary_words_;
    uint64_t *sums_, *bits_, *summary_;

    template <bool summing>
    SEQFAST_INLINE void add(int64_t column, uint64_t weight) {
        if constexpr (summing) sums_[column] += weight;
        bits_[column >> 6] |= uint64_t(1) << (column & 63);
        summary_[column >> 12] |= uint64_t(1) << (column >> 6 & 63);
    }

    template <bool summing>
    void gather(int64_t row) {
        for (int64_t run = 0; run < args_.runs; ++run) {
            const int64_t* offsets = args_.run_offsets + run * (args_.vocabulary + 1) + row;
            for (int64_t i = offsets[0]; i < offsets[1]; ++i) {
                add<summing>(args_.run_columns[i], args_.run_sums[i]);
            }
        }
        if (!args_.text) return;
        constexpr int64_t ahead = 8;
        const int64_t end = args_.starts[row + 1];
        for (int64_t i = args_.starts[row]; i < end; ++i) {
            if (i + ahead < end) __builtin_prefetch(args_.text + args_.places[i + ahead]);
            const int32_t* centre = args_.text + args_.places[i];
            for (int k = 1; k <= args_.window && centre[k] >= 0; ++k) {
                add<summing>(centre[k], args_.weights[k]);
            }
            if (!args_.symmetric) continue;
            for (int k = 1; k <= args_.window && centre[-k] >= 0; ++k) {
                add<summing>(centre[-k], args_.weights[k]);
            }
        }
    }

    int64_t size() {
        int64_t count = 0;
        each_word([&](int64_t, uint64_t bits) { count += __builtin_popcountll(bits); });
        return count;
    }

    void write(int64_t to) {
        each_word([&](int64_t first, uint64_t bits) {
            for (; bits != 0; bits &= bits - 1, ++to) {
                const int64_t column = first + __builtin_ctzll(bits);
                const uint64_t sum = sums_[column];
                sums_[column] = 0;
                args_.columns[to] = static_cast<int32_t>(column);
                if (args_.sums) args_.sums[to] = sum;
                if (args_.values) args_.values[to] = static_cast<double>(sum) / kCooccurrenceUnit;
            }
        });
    }

    // f(first column, bits) of each word of bits that has any; all are zero afterwards.
    template <class F>
    SEQFAST_INLINE void each_word(F&& f) {
        for (int64_t s = 0; s < summary_words_; ++s) {
            for (uint64_t found = summary_[s]; found != 0; found &= found - 1) {
                const int64_t word = s * 64 + __builtin_ctzll(found);
                f(word * 64, bits_[word]);
                bits_[word] = 0;
            }
            summary_[s] = 0;
        }
    }
};

inline bool count_rows(const CooccurrenceArgs& args, int threads) {
    const size_t own = [&] {
        Arena counting{0};
        RowCounter(args, counting);
        return (counting.used + 127) / 128 * 128;
    }();
    int64_t next = args.first_row;
    return run_team(threads, [&](int thread) {
        Arena part{reinterpret_cast<uintptr_t>(args.workspace) + own * static_cast<size_t>(thread)};
        RowCounter counter(args, part);
        counter.begin();
        const int64_t rows = args.last_row - args.first_row;
        for (;;) {
            // Frequent words come first, and each is work enough; the rare ones go in dozens.
            const int64_t seen = __atomic_load_n(&next, __ATOMIC_RELAXED) - args.first_row;
            const int64_t most = smaller(64, 1 + larger(rows - seen, 0) / (8 * threads));
            const int64_t at_once = seen < 64 && args.first_row == 0 ? 1 : most;
            const int64_t first = __atomic_fetch_add(&next, at_once, __ATOMIC_RELAXED);
            if (first >= args.last_row) break;
            const int64_t last = smaller(first + at_once, args.last_row);
            for (int64_t row = first; row < last; ++row) counter.row(row);
        }
    });
}

inline size_t count_workspace(const CooccurrenceArgs& args) {
    Arena arena{0};
    RowCounter(args, arena);
    return (arena.used + 127) / 128 * 128 * static_cast<size_t>(args.threads);
}

}  // namespace seqfast::cpu::SEQFAST_ISA
