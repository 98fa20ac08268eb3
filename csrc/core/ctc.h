// CTC decoding: arguments, and the prefixes that a search keeps, as all backends lay them out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/config.h"
#include "core/dtype.h"

namespace seqfast {

// The logarithm of a probability is at most 0, and rounding adds less than this.
constexpr double kCtcMost = 1e-3;

// What both decoders read.
struct CtcInput {
    DType dtype;
    int64_t batch, frames, vocab;
    int64_t row_stride, frame_stride;  // in elements; tokens lie side by side
    const void* log_probs;             // [batch, frames, vocab]
    const int64_t* lengths;            // [batch]; null: all frames
    int64_t blank;
};
template <class F>
void visit(CtcInput& input, F&& f) {
    f("dtype", input.dtype);
    f("batch", input.batch);
    f("frames", input.frames);
    f("vocab", input.vocab);
    f("row_stride", input.row_stride);
    f("frame_stride", input.frame_stride);
    f("log_probs", input.log_probs);
    f("lengths", input.lengths);
    f("blank", input.blank);
}

// -1 where a row is fine, else its first frame with NaN or a number above kCtcMost; nothing else
// is written then.
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
template <class F>
void visit(CtcGreedyArgs& args, F&& f) {
    f("input", args.input);
    f("tokens", args.tokens);
    f("counts", args.counts);
    f("scores", args.scores);
    f("timesteps", args.timesteps);
    f("refused", args.refused);
    f("threads", args.threads);
}

struct CtcBeamArgs {
    CtcInput input;
    int64_t beam_size, n_best;
    int64_t top_n;          // tokens of a frame that count; vocab: all
    double min_log_prob;    // of those that count; -inf: any
    double beam_threshold;  // +inf: none
    // Frames of this call: the first one begins the search, the last one writes the results.
    int64_t frame_begin, frame_end;
    const double* lm;    // [batch, beam_size, vocab], weighted, of each prefix; null: none
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
template <class F>
void visit(CtcBeamArgs& args, F&& f) {
    f("input", args.input);
    f("beam_size", args.beam_size);
    f("n_best", args.n_best);
    f("top_n", args.top_n);
    f("min_log_prob", args.min_log_prob);
    f("beam_threshold", args.beam_threshold);
    f("frame_begin", args.frame_begin);
    f("frame_end", args.frame_end);
    f("lm", args.lm);
    f("source", args.source);
    f("added", args.added);
    f("tokens", args.tokens);
    f("counts", args.counts);
    f("scores", args.scores);
    f("timesteps", args.timesteps);
    f("refused", args.refused);
    f("threads", args.threads);
    f("ranked", args.ranked);
    f("ranks", args.ranks);
}

SEQFAST_INLINE int64_t ctc_length(const CtcInput& input, int64_t row) {
    if (!input.lengths) return input.frames;
    const int64_t length = input.lengths[row];
    return length < 0 ? 0 : length < input.frames ? length : input.frames;
}

// A prefix: another one and its last token. Number 0 is the empty one.
struct CtcNode {
    int32_t parent, token;
    int32_t slot;  // in the beam; -1 outside
    int32_t next;  // on the CPU: of those with the same hash; 0 after the last
};
// Where a token of an alignment begins, and the beginnings before it. Number 0 is none.
struct CtcLink {
    int32_t previous, frame;
};

// The prefixes of a beam; the letters of docs/equations.md.
struct CtcBeams {
    double *blank, *token, *total;            // b, e and their sum, as logarithms
    double *best_blank, *best_token;          // of the best alignment of each kind
    double* lm;                               // weighted
    int32_t *node, *link_blank, *link_token;  // links of the best alignments
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
    int64_t state, nodes, links, beams, stays, size;
};

SEQFAST_INLINE int64_t ctc_align(int64_t bytes) { return (bytes + 63) / 64 * 64; }
SEQFAST_INLINE CtcLayout ctc_layout(const CtcBeamArgs& args) {
    // A frame adds at most one node and one link for each place of the beam.
    const int64_t most = args.input.frames * args.beam_size + 1;
    const int64_t beams = ctc_beams_bytes(args.beam_size);
    CtcLayout at{};
    at.nodes = ctc_align(sizeof(CtcState));
    at.links = at.nodes + ctc_align(most * int64_t(sizeof(CtcNode)));
    at.beams = at.links + ctc_align(most * int64_t(sizeof(CtcLink)));
    at.stays = at.beams + 2 * beams;
    at.size = at.stays + beams;
    return at;
}

// Places of a table that finds prefixes by their hash, for so many frames: a power of two.
SEQFAST_INLINE int64_t ctc_table_size(int64_t frames, int64_t beam_size) {
    int64_t size = 16;
    while (size < frames * beam_size) size *= 2;
    return size;
}
SEQFAST_INLINE int64_t ctc_hash(int32_t parent, int32_t token, int64_t table_size) {
    const uint64_t both =
        static_cast<uint64_t>(static_cast<uint32_t>(parent)) << 32 | static_cast<uint32_t>(token);
    return static_cast<int64_t>((both * 0x9E3779B97F4A7C15u) >> 32) & (table_size - 1);
}

// ---- the equations, prefix by prefix ----

// A score and its place, greater for whoever comes first.
struct CtcRanked {
    double score;
    int64_t place;
};
SEQFAST_INLINE bool operator>(const CtcRanked& a, const CtcRanked& b) {
    return (a.score > b.score) | ((a.score == b.score) & (a.place < b.place));
}

struct CtcEmission {
    double all, best;
    int32_t link;
};
// What a token can follow in the prefix at that place: its repetition only a blank.
SEQFAST_INLINE CtcEmission ctc_emission(const CtcBeams& now, const CtcNode* nodes, int64_t k,
                                        int32_t token) {
    const bool repeats = nodes[now.node[k]].token == token;
    const bool token_wins = !repeats && now.best_token[k] > now.best_blank[k];
    return {repeats ? now.blank[k] : now.total[k],
            token_wins ? now.best_token[k] : now.best_blank[k],
            token_wins ? now.link_token[k] : now.link_blank[k]};
}

// The prefix gets no new token: a blank follows, or its last token again, whose log-probabilities
// these are. Returns what joins stays.token from its parent, where that is in the beam too.
SEQFAST_INLINE double ctc_stay(const CtcBeams& now, const CtcNode* nodes, int64_t k, double blank,
                               double again, const CtcBeams& stays) {
    const double none = -__builtin_inf();
    const CtcNode node = nodes[now.node[k]];
    const bool token_wins = now.best_token[k] > now.best_blank[k];
    stays.blank[k] = now.total[k] + blank;
    stays.best_blank[k] = (token_wins ? now.best_token : now.best_blank)[k] + blank;
    stays.link_blank[k] = (token_wins ? now.link_token : now.link_blank)[k];
    stays.token[k] = now.token[k] + again;
    stays.best_token[k] = now.best_token[k] + again;
    stays.link_token[k] = now.link_token[k];
    const int32_t slot = node.parent < 0 ? -1 : nodes[node.parent].slot;
    if (slot < 0) return none;
    const CtcEmission from = ctc_emission(now, nodes, slot, node.token);
    if (from.best + again > stays.best_token[k]) {
        stays.best_token[k] = from.best + again;
        stays.link_token[k] = ~from.link;  // a new link, if the prefix stays
    }
    return from.all + again;
}

// A place of the next beam for a prefix that stays; the link of its last token is another's care.
SEQFAST_INLINE void ctc_keep(const CtcBeams& now, const CtcBeams& stays, int64_t from,
                             const CtcBeams& next, int64_t k) {
    next.blank[k] = stays.blank[from];
    next.token[k] = stays.token[from];
    next.total[k] = stays.total[from];
    next.best_blank[k] = stays.best_blank[from];
    next.best_token[k] = stays.best_token[from];
    next.lm[k] = now.lm[from];
    next.node[k] = now.node[from];
    next.link_blank[k] = stays.link_blank[from];
}

// A place for a prefix with one token more; its node is another's care, and its last link, before
// which the one returned comes.
SEQFAST_INLINE int32_t ctc_extend(const CtcBeams& now, const CtcNode* nodes, int64_t from,
                                  int32_t token, double log_prob, double lm, const CtcBeams& next,
                                  int64_t k) {
    const CtcEmission emitted = ctc_emission(now, nodes, from, token);
    next.blank[k] = next.best_blank[k] = -__builtin_inf();
    next.token[k] = next.total[k] = emitted.all + log_prob;
    next.best_token[k] = emitted.best + log_prob;
    next.lm[k] = now.lm[from] + lm;
    next.link_blank[k] = 0;
    return emitted.link;
}

// The tokens and where they begin, to results that have room for all frames; how many they are.
SEQFAST_INLINE int64_t ctc_walk(const CtcBeams& last, const CtcNode* nodes, const CtcLink* links,
                                int64_t k, int64_t* tokens, int64_t* timesteps) {
    int64_t count = 0;
    for (int32_t node = last.node[k]; node != 0; node = nodes[node].parent) ++count;
    const bool token_wins = last.best_token[k] > last.best_blank[k];
    int32_t node = last.node[k];
    int32_t link = (token_wins ? last.link_token : last.link_blank)[k];
    for (int64_t i = count - 1; i >= 0; --i) {
        tokens[i] = nodes[node].token;
        timesteps[i] = links[link].frame;
        node = nodes[node].parent;
        link = links[link].previous;
    }
    return count;
}

// How many tokens can extend the prefix at that place of a sorted beam and get into a beam of that
// size, without a language model: a worse one has (place + 1) * (token - 1) better ones before it.
SEQFAST_INLINE int64_t ctc_extensions(int64_t beam_size, int64_t place) {
    return beam_size / (place + 1) + 1;
}

}  // namespace seqfast
