// CTC decoding: arguments, and the prefixes that a search keeps, as all backends lay them out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/config.h"
#include "core/dtype.h"

namespace seqfast {

// What both decoders read.
struct CtcInput {
    DType dtype;
    int64_t batch, frames, vocab;
    int64_t row_stride, frame_stride;  // in elements; tokens lie side by side
    const void* log_probs;             // [batch, frames, vocab]
    const int64_t* lengths;            // [batch]; null: all frames
    int64_t blank;
};

// -1 where a row is fine, else its first frame with NaN or +inf; nothing else is written then.
struct CtcGreedyArgs {
    CtcInput input;
    int64_t* tokens;     // [batch, frames]; -1 behind the last
    int64_t* counts;     // [batch]
    double* scores;      // [batch]
    int64_t* timesteps;  // [batch, frames]; -1 behind the last
    int64_t* refused;    // [batch]
    char* workspace;     // on the CPU
    int threads;         // there
};

struct CtcBeamArgs {
    CtcInput input;
    int64_t beam_size, n_best;
    int64_t top_n;          // tokens of a frame that count; vocab: all
    double min_log_prob;    // of those that count; -inf: any
    double beam_threshold;  // +inf: none
    // Frames of this call: the first one begins the search, the last one writes the results.
    int64_t frame_begin, frame_end;
    const double* lm;  // [batch, beam_size, vocab], weighted, of each prefix; null: none
    int64_t* source;     // [batch, beam_size] or null: where each prefix, or what it extends, stood
    int64_t* added;      // [batch, beam_size] or null: the token that extends it; -1 where none
    int64_t* tokens;     // [batch, n_best, frames]; -1 behind the last
    int64_t* counts;     // [batch, n_best]
    double* scores;      // [batch, n_best]; -inf where there are fewer
    int64_t* timesteps;  // [batch, n_best, frames]; -1 behind the last
    int64_t* refused;    // [batch]
    char* workspace;     // aligned to 64
    int threads;         // on the CPU
    // On a GPU: the tokens of each frame, the most probable first.
    const int64_t* ranked;  // [batch, frames, ranks]
    int64_t ranks;
};

SEQFAST_INLINE int64_t ctc_length(const CtcInput& input, int64_t row) {
    if (!input.lengths) return input.frames;
    const int64_t length = input.lengths[row];
    return length < 0 ? 0 : length < input.frames ? length : input.frames;
}

// A prefix: another one and its last token. Number 0 is the empty one.
struct CtcNode {
    int32_t parent, token;
    int32_t slot;  // in the beam; -1 outside
    int32_t next;  // of those with the same hash; 0 after the last
};
// Where a token of an alignment begins, and the beginnings before it. Number 0 is none.
struct CtcLink {
    int32_t previous, frame;
};

// The prefixes of a beam; the letters of docs/equations.md.
struct CtcBeams {
    double *blank, *token, *total;             // b, e and their sum, as logarithms
    double *best_blank, *best_token;           // of the best alignment of each kind
    double* lm;                                // weighted
    int32_t *node, *link_blank, *link_token;   // links of the best alignments
};

SEQFAST_INLINE int64_t ctc_padded(int64_t beam_size) { return (beam_size + 15) / 16 * 16; }
SEQFAST_INLINE int64_t ctc_beams_bytes(int64_t beam_size) {
    return ctc_padded(beam_size) * int64_t(6 * sizeof(double) + 3 * sizeof(int32_t));
}
SEQFAST_INLINE CtcBeams ctc_beams_at(char* memory, int64_t beam_size) {
    const int64_t size = ctc_padded(beam_size);
    double* numbers = reinterpret_cast<double*>(memory);
    int32_t* places = reinterpret_cast<int32_t*>(numbers + 6 * size);
    return {numbers,
            numbers + size,
            numbers + 2 * size,
            numbers + 3 * size,
            numbers + 4 * size,
            numbers + 5 * size,
            places,
            places + size,
            places + 2 * size};
}

// What a row's search keeps from call to call.
struct CtcState {
    int64_t count;         // prefixes in the beam
    int64_t nodes, links;  // used
    int64_t half;          // which of the two beams holds them
};

// Places in a row's memory, in bytes; each aligned to 64.
struct CtcLayout {
    int64_t state, nodes, heads, links, beams, stays, size;
};

// Heads of the lists of nodes with the same hash, for so many frames: a power of two.
SEQFAST_INLINE int64_t ctc_heads(int64_t frames, int64_t beam_size) {
    int64_t heads = 16;
    while (heads < frames * beam_size) heads *= 2;
    return heads;
}
SEQFAST_INLINE int64_t ctc_align(int64_t bytes) { return (bytes + 63) / 64 * 64; }
SEQFAST_INLINE CtcLayout ctc_layout(const CtcBeamArgs& args) {
    // A frame adds at most one node and one link for each place of the beam.
    const int64_t most = args.input.frames * args.beam_size + 1;
    const int64_t beams = ctc_beams_bytes(args.beam_size);
    CtcLayout at{};
    at.nodes = ctc_align(sizeof(CtcState));
    at.links = at.nodes + ctc_align(most * int64_t(sizeof(CtcNode)));
    at.heads = at.links + ctc_align(most * int64_t(sizeof(CtcLink)));
    at.beams =
        at.heads + ctc_align(ctc_heads(args.input.frames, args.beam_size) * int64_t(sizeof(int32_t)));
    at.stays = at.beams + 2 * beams;
    at.size = at.stays + beams;
    return at;
}

// Which list of nodes a prefix is in.
SEQFAST_INLINE int64_t ctc_hash(int32_t parent, int32_t token, int64_t heads) {
    const uint64_t both = static_cast<uint64_t>(static_cast<uint32_t>(parent)) << 32 |
                          static_cast<uint32_t>(token);
    return static_cast<int64_t>((both * 0x9E3779B97F4A7C15u) >> 32) & (heads - 1);
}
// The number of that prefix; 0 where nobody has seen it.
SEQFAST_INLINE int32_t ctc_find(const CtcNode* nodes, const int32_t* heads, int64_t head_count,
                                int32_t parent, int32_t token) {
    int32_t node = heads[ctc_hash(parent, token, head_count)];
    while (node != 0 && (nodes[node].parent != parent || nodes[node].token != token))
        node = nodes[node].next;
    return node;
}

// How many tokens can extend the prefix at that place of a sorted beam and get into a beam of that
// size, without a language model: a worse one has (place + 1) * (token - 1) better ones before it.
SEQFAST_INLINE int64_t ctc_extensions(int64_t beam_size, int64_t place) {
    return beam_size / (place + 1) + 1;
}

}  // namespace seqfast
