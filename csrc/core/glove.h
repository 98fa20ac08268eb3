// GloVe: what the kernels are told that count co-occurrences, put them in the order of training and
// train. docs/equations.md has the equations.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/config.h"

namespace seqfast {

// Sums of weights are whole numbers of this many to one, so that they are exact in any order.
constexpr double kCooccurrenceUnit = 4294967296.0;
// Word w is number w / blocks of block w % blocks; an entry names words by their numbers, so that a
// block has at most so many words.
constexpr int64_t kGloveBlockWords = 65536;
// A co-occurrence as training reads it: its count as the upper half, then the numbers of column and
// row in their blocks.
SEQFAST_INLINE int64_t entry_row(uint64_t entry) { return static_cast<int64_t>(entry & 0xFFFF); }
SEQFAST_INLINE int64_t entry_column(uint64_t entry) {
    return static_cast<int64_t>((entry >> 16) & 0xFFFF);
}

// The stream of core/random.h that the entries of tile t are shuffled with: entry k takes word k %
// 4 of the counter (k / 4, low t, high t, kShuffleStream).
constexpr uint32_t kShuffleStream = 0xF3000000u;
// In the same way that of the strata of epoch t.
constexpr uint32_t kStrataStream = 0xF4000000u;

// Rows of the matrix of co-occurrences, from a text or from the runs of its parts.
struct CooccurrenceArgs {
    int64_t vocabulary;

    // a text; or nullptr
    const int32_t* text;    // [tokens] ids, with -1 before, between and behind the sentences
    const int32_t* places;  // [starts[vocabulary]] where in text each word stands, word after word
    const int64_t* starts;  // [vocabulary + 1] of each word in places
    int window;
    bool symmetric;           // else the columns of a row follow its word, never precede it
    const uint64_t* weights;  // [window + 1] by distance, in units; the first is not used

    // runs: each has rows of its own
    int64_t runs;
    const int64_t* run_offsets;  // [runs, vocabulary + 1] of each row in run_columns and run_sums
    const int32_t* run_columns;
    const uint64_t* run_sums;

    // the rows [first_row, last_row)
    int64_t first_row, last_row;
    int64_t* sizes;          // [last_row - first_row] entries of each row; or, where nullptr:
    const int64_t* offsets;  // [last_row - first_row + 1] of each row in what follows
    int32_t* columns;        // rising in each row
    uint64_t* sums;          // in units; or nullptr
    double* values;          // or nullptr

    int threads;
    void* workspace;
    size_t workspace_size;
};
template <class F>
void visit(CooccurrenceArgs& args, F&& f) {
    f("vocabulary", args.vocabulary);
    f("text", args.text);
    f("places", args.places);
    f("starts", args.starts);
    f("window", args.window);
    f("symmetric", args.symmetric);
    f("weights", args.weights);
    f("runs", args.runs);
    f("run_offsets", args.run_offsets);
    f("run_columns", args.run_columns);
    f("run_sums", args.run_sums);
    f("first_row", args.first_row);
    f("last_row", args.last_row);
    f("sizes", args.sizes);
    f("offsets", args.offsets);
    f("columns", args.columns);
    f("sums", args.sums);
    f("values", args.values);
    f("threads", args.threads);
}

// A text with marks between its sentences, and where in it each word stands.
struct TextIndexArgs {
    int64_t vocabulary, sentences;
    const int32_t* ids;      // [offsets[sentences] - offsets[0]]
    const int64_t* offsets;  // [sentences + 1]; the first one is where ids begin
    int32_t* text;           // [tokens + sentences + 1]
    int32_t* places;         // [tokens]
    int64_t* starts;         // [vocabulary + 1]
};
template <class F>
void visit(TextIndexArgs& args, F&& f) {
    f("vocabulary", args.vocabulary);
    f("sentences", args.sentences);
    f("ids", args.ids);
    f("offsets", args.offsets);
    f("text", args.text);
    f("places", args.places);
    f("starts", args.starts);
}

// Entries by tiles: tile (i, j) has the rows of block i and the columns of block j, shuffled.
struct GloveScheduleArgs {
    int64_t vocabulary, blocks;
    const int64_t* offsets;  // [vocabulary + 1]
    const int32_t* columns;  // [offsets[vocabulary]]
    const double* values;    // the same
    int64_t seed;
    int64_t* tiles;     // [blocks * blocks + 1] where each begins in entries
    uint64_t* entries;  // [offsets[vocabulary]]
    int threads;
};
template <class F>
void visit(GloveScheduleArgs& args, F&& f) {
    f("vocabulary", args.vocabulary);
    f("blocks", args.blocks);
    f("offsets", args.offsets);
    f("columns", args.columns);
    f("values", args.values);
    f("seed", args.seed);
    f("tiles", args.tiles);
    f("entries", args.entries);
    f("threads", args.threads);
}

// A round is a stratum s: the tiles (i, (i + s) % blocks), which share no row and no column.
struct GloveArgs {
    int64_t vocabulary, blocks;
    const int64_t* tiles;     // [blocks * blocks + 1]
    const uint64_t* entries;  // [tiles[blocks * blocks]]
    const int32_t* strata;    // [rounds], each below blocks

    int64_t size, stride;  // columns of a vector; floats from row to row, a multiple of 16
    // [vocabulary, stride]: the vector, its bias in column size; squares are 1 behind that
    float *words, *contexts, *word_squares, *context_squares;
    const uint8_t* locked;  // [vocabulary] rows of words and contexts that stay; or nullptr

    double x_max, alpha, learning_rate, clip;
    int64_t rounds;
    double* loss;  // [rounds, blocks] of each tile
    int threads;   // on the CPU
};
template <class F>
void visit(GloveArgs& args, F&& f) {
    f("vocabulary", args.vocabulary);
    f("blocks", args.blocks);
    f("tiles", args.tiles);
    f("entries", args.entries);
    f("strata", args.strata);
    f("size", args.size);
    f("stride", args.stride);
    f("words", args.words);
    f("contexts", args.contexts);
    f("word_squares", args.word_squares);
    f("context_squares", args.context_squares);
    f("locked", args.locked);
    f("x_max", args.x_max);
    f("alpha", args.alpha);
    f("learning_rate", args.learning_rate);
    f("clip", args.clip);
    f("rounds", args.rounds);
    f("loss", args.loss);
    f("threads", args.threads);
}

}  // namespace seqfast
