// Word vectors: what a call of the training kernels is told, and the counters its numbers are drawn
// by. docs/equations.md has the equations.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/config.h"

namespace seqfast {

// The learning rate and the statistics go by rounds: this many tokens of the corpus one after
// another, wherever sentences end.
constexpr int64_t kWord2VecRound = 256;
// With `deterministic` so many tokens are a batch: more would overshoot at the root of a hierarchy,
// which every window of a batch moves the same way.
constexpr int64_t kWord2VecBatch = 32;

// Streams of numbers; the last word of a counter. The others are (low and high word of a position
// in the corpus or of its group, epoch).
constexpr uint32_t kSubsampleStream = 0xF0000000u;
constexpr uint32_t kWindowStream = 0xF1000000u;  // + the number of the counter: up to 2^24
constexpr uint32_t kFirstVectorStream = 0xF2000000u;

// Where token p finds the word that tells whether it is kept: 64 tokens share 16 counters.
struct TokenCounter {
    uint64_t group;
    int word;
};
SEQFAST_INLINE TokenCounter subsample_counter(int64_t token) {
    const uint64_t p = static_cast<uint64_t>(token);
    return {p / 64 * 16 + p % 16, static_cast<int>(p / 16 % 4)};
}
// Word w of a centre token is word w % 4 of the counter (low p, high p, epoch, kWindowStream + w /
// 4): 0 shrinks the window, 1 + k is negative k (of pair j: 1 + j * negative + k).

struct Word2VecArgs {
    // the corpus: ids sorted by falling count
    int64_t tokens, sentences, vocabulary;
    const int32_t* ids;      // [tokens]
    const int64_t* offsets;  // [sentences + 1], from 0 to tokens

    // the model; without negatives and hierarchy: the full softmax
    int64_t size, stride;  // of a row: columns, and floats from row to row, a multiple of 16
    bool cbow, hierarchical, shared_negatives;
    bool shrink_windows, cbow_mean, legacy_cbow;
    int window, negative;
    bool deterministic;

    // tables
    const uint32_t* keep;  // [vocabulary] kept where its word is at most this; or nullptr
    const uint32_t* alias_threshold;  // [vocabulary] with negatives
    const int32_t* alias;             // [vocabulary]
    const int64_t* path_offsets;      // [vocabulary + 1] with a hierarchy
    const int32_t* path_nodes;        // [path_offsets[vocabulary]], each below vocabulary - 1
    const uint8_t* path_codes;        // the same; 0 or 1
    int64_t longest_path;
    const uint8_t* locked;  // [vocabulary] rows of input that stay as they are; or nullptr

    // parameters; columns from size to stride are 0 and stay 0
    float* input;   // [vocabulary, stride]
    float* output;  // [vocabulary, stride] with negatives or softmax
    float* nodes;   // [vocabulary - 1, stride] with a hierarchy

    // progress: a round r of this epoch is at (tokens_before + r * kWord2VecRound) / tokens_total
    int64_t seed, epoch, tokens_before, tokens_total;
    double alpha, min_alpha;
    int64_t first_round, last_round;  // [first, last) are done

    double* loss;       // [last_round - first_round] summed over the examples of a round
    int64_t* kept;      // [the same] tokens left by subsampling
    int64_t* examples;  // [the same] pairs (skip-gram) or windows (CBOW)
    int threads;        // on the CPU
    void* workspace;
    size_t workspace_size;
};
template <class F>
void visit(Word2VecArgs& args, F&& f) {
    f("tokens", args.tokens);
    f("sentences", args.sentences);
    f("vocabulary", args.vocabulary);
    f("ids", args.ids);
    f("offsets", args.offsets);
    f("size", args.size);
    f("stride", args.stride);
    f("cbow", args.cbow);
    f("hierarchical", args.hierarchical);
    f("shared_negatives", args.shared_negatives);
    f("shrink_windows", args.shrink_windows);
    f("cbow_mean", args.cbow_mean);
    f("legacy_cbow", args.legacy_cbow);
    f("window", args.window);
    f("negative", args.negative);
    f("deterministic", args.deterministic);
    f("keep", args.keep);
    f("alias_threshold", args.alias_threshold);
    f("alias", args.alias);
    f("path_offsets", args.path_offsets);
    f("path_nodes", args.path_nodes);
    f("path_codes", args.path_codes);
    f("longest_path", args.longest_path);
    f("locked", args.locked);
    f("input", args.input);
    f("output", args.output);
    f("nodes", args.nodes);
    f("seed", args.seed);
    f("epoch", args.epoch);
    f("tokens_before", args.tokens_before);
    f("tokens_total", args.tokens_total);
    f("alpha", args.alpha);
    f("min_alpha", args.min_alpha);
    f("first_round", args.first_round);
    f("last_round", args.last_round);
    f("loss", args.loss);
    f("kept", args.kept);
    f("examples", args.examples);
    f("threads", args.threads);
}

// First vectors, from (-0.5, 0.5) / size: column c of row r is drawn by the word of unit c, row r
// and step 0 in core/random.h, and lies in the middle of one of 2^23 intervals.
struct FirstVectorsArgs {
    int64_t rows, size, stride;
    int64_t first_row;  // the number of the first of them
    int64_t seed;
    float* vectors;  // [rows, stride]; columns from size on are left alone
    int threads;
};
template <class F>
void visit(FirstVectorsArgs& args, F&& f) {
    f("rows", args.rows);
    f("size", args.size);
    f("stride", args.stride);
    f("first_row", args.first_row);
    f("seed", args.seed);
    f("vectors", args.vectors);
    f("threads", args.threads);
}

// Of a round of this epoch, on the way from alpha to min_alpha.
SEQFAST_INLINE float learning_rate(const Word2VecArgs& args, int64_t round) {
    const double progress = static_cast<double>(args.tokens_before + round * kWord2VecRound) /
                            static_cast<double>(args.tokens_total);
    const double rate = args.alpha - (args.alpha - args.min_alpha) * progress;
    const double low = args.alpha < args.min_alpha ? args.alpha : args.min_alpha;
    const double high = args.alpha < args.min_alpha ? args.min_alpha : args.alpha;
    return static_cast<float>(rate < low ? low : rate > high ? high : rate);
}

// Contexts on each side at most, out of word 0 of a centre where windows shrink.
SEQFAST_INLINE int shrunk_window(const Word2VecArgs& args, uint32_t word) {
    const uint64_t product = static_cast<uint64_t>(word) * static_cast<uint32_t>(args.window);
    return args.window - static_cast<int>(product >> 32);
}

// A negative, out of a word of its own: first where in the alias table to look.
struct AliasDraw {
    int32_t place;
    uint32_t fraction;
};
SEQFAST_INLINE AliasDraw alias_draw(const Word2VecArgs& args, uint32_t word) {
    const uint64_t product = static_cast<uint64_t>(word) * static_cast<uint64_t>(args.vocabulary);
    return {static_cast<int32_t>(product >> 32), static_cast<uint32_t>(product)};
}
SEQFAST_INLINE int32_t negative_of(const Word2VecArgs& args, const AliasDraw& draw) {
    return draw.fraction <= args.alias_threshold[draw.place] ? draw.place : args.alias[draw.place];
}

}  // namespace seqfast
