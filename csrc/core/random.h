// Random numbers by counter: Philox4x32-10, the same on every backend and for any number of
// threads.
#pragma once

#include <cstdint>

#include "core/config.h"
#include "core/dtype.h"

namespace seqfast {

// J. Salmon, M. Moraes, R. Dror, D. Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
// Ops: Word, and multiply(word, factor, high, low), the two halves of a product of 32 bits by 32.
template <class Ops>
SEQFAST_INLINE void philox(typename Ops::Word (&counter)[4], uint32_t key_low, uint32_t key_high) {
    using Word = typename Ops::Word;
    for (int round = 0; round < 10; ++round) {
        Word high0, low0, high1, low1;
        Ops::multiply(counter[0], 0xD2511F53u, high0, low0);
        Ops::multiply(counter[2], 0xCD9E8D57u, high1, low1);
        counter[0] = high1 ^ counter[1] ^ key_low;
        counter[1] = low1;
        counter[2] = high0 ^ counter[3] ^ key_high;
        counter[3] = low0;
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
}

struct ScalarWords {
    using Word = uint32_t;
    static SEQFAST_INLINE void multiply(Word a, uint32_t b, Word& high, Word& low) {
        const uint64_t product = static_cast<uint64_t>(a) * b;
        high = static_cast<uint32_t>(product >> 32);
        low = static_cast<uint32_t>(product);
    }
};

// What a number is drawn for; part of its counter, so that no two uses share one.
enum class Draw : uint32_t {
    hidden_dropout = 0,  // of h, or of c instead; step 0: one mask per sequence
    update_dropout = 1,
    zoneout_hidden = 2,
    zoneout_cell = 3,
    input_dropout = 4,   // step 0: one mask per sequence
    output_dropout = 5,  // between layers
    weight_dropout = 6,
    other = 7,
};

SEQFAST_INLINE uint32_t stream_of(Draw draw, int layer, int direction) {
    return (static_cast<uint32_t>(layer) * 2 + static_cast<uint32_t>(direction)) * 8 +
           static_cast<uint32_t>(draw);
}

// Where unit `unit` of (row, step, stream) finds its word: counter (index, row, step, stream),
// word `word` of four. 64 units share 16 counters, so that a vector's words are all of use.
struct UnitCounter {
    uint32_t index;
    int word;
};
SEQFAST_INLINE UnitCounter unit_counter(uint32_t unit) {
    return {unit / 64 * 16 + unit % 16, static_cast<int>(unit / 16 % 4)};
}

// A word below it (of its upper 24 bits) is an event of probability p.
SEQFAST_INLINE uint32_t event_threshold(double probability) {
    return static_cast<uint32_t>(probability * 16777216.0);
}

SEQFAST_INLINE uint32_t word_of_unit(int64_t seed, uint32_t unit, uint32_t row, uint32_t step,
                                     uint32_t stream) {
    const UnitCounter at = unit_counter(unit);
    uint32_t counter[4] = {at.index, row, step, stream};
    const uint64_t key = static_cast<uint64_t>(seed);
    philox<ScalarWords>(counter, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
    return at.word == 0   ? counter[0]
           : at.word == 1 ? counter[1]
           : at.word == 2 ? counter[2]
                          : counter[3];
}

SEQFAST_INLINE bool event_at(int64_t seed, uint32_t unit, uint32_t row, uint32_t step,
                             uint32_t stream, uint32_t threshold) {
    return (word_of_unit(seed, unit, row, step, stream) >> 8) < threshold;
}

// output = input, or 0 by an event, else times 1 / (1 - probability); contiguous.
struct DropoutArgs {
    DType dtype;
    int64_t steps, rows, units;
    const void* input;  // [steps, rows, units]
    void* output;       // the same; may be input
    double probability;
    const int64_t* seed;  // one number, where the other arrays are
    uint32_t stream;
    bool per_step;  // else one mask [rows, units], that of step 0
    int threads;    // on the CPU
};
template <class F>
void visit(DropoutArgs& args, F&& f) {
    f("dtype", args.dtype);
    f("steps", args.steps);
    f("rows", args.rows);
    f("units", args.units);
    f("input", args.input);
    f("output", args.output);
    f("probability", args.probability);
    f("seed", args.seed);
    f("stream", args.stream);
    f("per_step", args.per_step);
    f("threads", args.threads);
}

}  // namespace seqfast
