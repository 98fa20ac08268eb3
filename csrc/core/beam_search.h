// One step of batched beam search, and the walk back along its pointers: arguments and rules that
// all backends share. docs/equations.md has the rules; seqfast/reference/beam_search.py the
// twin.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/config.h"
#include "core/dtype.h"
#include "core/random.h"

namespace seqfast {

// Real below: double for float64 logits, else float.

// What a hypothesis that has just ended needs to be kept.
enum class EosPool : int {
    topk = 0,       // its rank among the candidates of its group is below the group's beams
    top2k = 1,      // ... below twice that
    any = 2,        // nothing: every living beam's EOS is
    inbeam = 3,     // as topk, and it takes a beam's place in this step
    competing = 4,  // ended and living ones compete by key for one set of places (stochastic beams)
};

// When a group of a sentence is done, beside having no living beam.
enum class StopRule : int {
    exact = 0,     // `wanted` are kept and no living one can reach the worst of those
    first_k = 1,   // as many are kept as the group has beams; none gives way to a later one
    top_beam = 2,  // the best candidate of a step ended, and `wanted` are kept
};

struct BeamOptions {
    int64_t beams, groups, vocabulary;  // beams of a sentence, a multiple of groups
    EosPool eos_pool;
    StopRule stop;
    int64_t pool, wanted;       // ended hypotheses kept by a group; see StopRule
    int64_t min_length;         // tokens before an EOS
    int64_t no_repeat_ngram;    // 0: off
    double temperature;         // divides the logits
    double repetition_penalty;  // 1: off
    double diversity;           // for each beam of the sentence's earlier groups that chose a token
    bool renormalize;           // penalties and bans before the softmax, else after it
    bool force_eos;             // a row's last step may choose EOS alone
    bool score_prefix;          // given tokens count in log-probability and length
    bool count_eos;             // EOS counts in the length
    bool noise;                 // Gumbel: keys are perturbed log-probabilities
    int64_t eos_count, banned_count;
};
template <class F>
void visit(BeamOptions& options, F&& f) {
    f("beams", options.beams);
    f("groups", options.groups);
    f("vocabulary", options.vocabulary);
    f("eos_pool", options.eos_pool);
    f("stop", options.stop);
    f("pool", options.pool);
    f("wanted", options.wanted);
    f("min_length", options.min_length);
    f("no_repeat_ngram", options.no_repeat_ngram);
    f("temperature", options.temperature);
    f("repetition_penalty", options.repetition_penalty);
    f("diversity", options.diversity);
    f("renormalize", options.renormalize);
    f("force_eos", options.force_eos);
    f("score_prefix", options.score_prefix);
    f("count_eos", options.count_eos);
    f("noise", options.noise);
    f("eos_count", options.eos_count);
    f("banned_count", options.banned_count);
}

// Living beams are numbered [batch, beams], groups one after another; records [sentences, ...] keep
// every sentence, also those that have left the batch. A living beam that is none has score -inf.
struct BeamStepArgs {
    DType dtype;
    BeamOptions options;
    int64_t batch, sentences, capacity;  // capacity: most steps
    int threads;

    const void* logits;  // [batch * beams, vocabulary], rows logits_stride apart
    int64_t logits_stride;
    const uint8_t* allowed;  // [batch * beams, vocabulary], rows allowed_stride apart; or nullptr
    int64_t allowed_stride;

    const int32_t* eos;             // [eos_count], rising
    const int32_t* banned;          // [banned_count], rising
    const int64_t* sentence;        // [batch] its row in the records
    const int32_t* max_lengths;     // [sentences] most steps, prefix included; 1..capacity
    const int32_t* prefix;          // [sentences, prefix_capacity] tokens to begin with; or nullptr
    const int32_t* prefix_lengths;  // [sentences]
    int64_t prefix_capacity;
    // Of a hypothesis of length n (0..capacity): score = log-probability / divisor + addend.
    const void* divisor;  // Real [capacity + 1]
    const void* addend;   // Real [capacity + 1]
    // The same of the best that a living one of length n may still become: as the stop rule has
    // it, and as it is certain.
    const void* bound_divisor;    // Real [capacity + 1]
    const void* bound_addend;     // Real [capacity + 1]
    const void* certain_divisor;  // Real [capacity + 1]
    const void* certain_addend;   // Real [capacity + 1]
    const int64_t* seed;          // [1]

    int64_t* step;     // [1] steps done; counted on by the step itself
    void* scores;      // Real [batch, beams] log-probabilities
    void* keys;        // Real [batch, beams] with noise: what is compared; else nullptr
    int32_t* history;  // [2, batch, beams, history_capacity] tokens so far, this step's half first
                       // when `step` is even; or nullptr
    const int32_t* history_start;  // [batch] tokens in it before step 0
    int64_t history_capacity;
    int64_t* next_tokens;  // [batch, beams] the tokens just chosen; eos[0] where there is none
    int64_t* next_rows;  // [batch, beams] flat index [batch * beams] of the beam each goes on from

    // Records.
    int32_t* tokens;      // [capacity, sentences, beams]
    int32_t* parents;     // [capacity, sentences, beams] a beam of the same sentence
    void* logprobs;       // Real [capacity, sentences, beams] of the token alone
    void* pool_scores;    // Real [sentences, groups, pool], falling (competing: by key); -inf: free
    void* pool_logprobs;  // Real [sentences, groups, pool]
    void* pool_last;      // Real [sentences, groups, pool] log-probability of the last token
    void* pool_keys;      // Real [sentences, groups, pool] with noise; else nullptr
    int32_t* pool_steps;  // [sentences, groups, pool] the step of the last token
    int32_t* pool_parents;  // [sentences, groups, pool] the beam before it
    int32_t* pool_tokens;   // [sentences, groups, pool] the last token
    int32_t* pool_counts;   // [sentences, groups]
    uint8_t* done;          // [sentences, groups] 1: done; 2: not, but a best candidate has ended
    uint8_t* certified;     // [sentences, groups] done, and no living one could still have won
    int64_t* living;        // [1] sentences with a group that is not done
    // [1] first living row with NaN or +inf among its logits; kBeamStepFine; kBeamStepOver. But for
    // the second nothing has changed.
    int64_t* status;

    void* workspace;
    size_t workspace_size;
};
template <class F>
void visit(BeamStepArgs& args, F&& f) {
    f("dtype", args.dtype);
    f("options", args.options);
    f("batch", args.batch);
    f("sentences", args.sentences);
    f("capacity", args.capacity);
    f("threads", args.threads);
    f("eos", args.eos);
    f("banned", args.banned);
    f("sentence", args.sentence);
    f("max_lengths", args.max_lengths);
    f("prefix", args.prefix);
    f("prefix_lengths", args.prefix_lengths);
    f("prefix_capacity", args.prefix_capacity);
    f("divisor", args.divisor);
    f("addend", args.addend);
    f("bound_divisor", args.bound_divisor);
    f("bound_addend", args.bound_addend);
    f("certain_divisor", args.certain_divisor);
    f("certain_addend", args.certain_addend);
    f("seed", args.seed);
    f("step", args.step);
    f("scores", args.scores);
    f("keys", args.keys);
    f("history", args.history);
    f("history_start", args.history_start);
    f("history_capacity", args.history_capacity);
    f("next_tokens", args.next_tokens);
    f("next_rows", args.next_rows);
    f("tokens", args.tokens);
    f("parents", args.parents);
    f("logprobs", args.logprobs);
    f("pool_scores", args.pool_scores);
    f("pool_logprobs", args.pool_logprobs);
    f("pool_last", args.pool_last);
    f("pool_keys", args.pool_keys);
    f("pool_steps", args.pool_steps);
    f("pool_parents", args.pool_parents);
    f("pool_tokens", args.pool_tokens);
    f("pool_counts", args.pool_counts);
    f("done", args.done);
    f("certified", args.certified);
    f("living", args.living);
    f("status", args.status);
}

// What is new in each step; the rest stays from one to the next.
struct BeamLogits {
    DType dtype;
    const void* logits;
    int64_t logits_stride;
    const uint8_t* allowed;
    int64_t allowed_stride;
};
template <class F>
void visit(BeamLogits& input, F&& f) {
    f("dtype", input.dtype);
    f("logits", input.logits);
    f("logits_stride", input.logits_stride);
    f("allowed", input.allowed);
    f("allowed_stride", input.allowed_stride);
}

// The walk back: ended hypotheses of the records to sequences.
struct BeamBacktrackArgs {
    int64_t sentences, beams, hypotheses, capacity, length;  // length: of the results
    bool wide;                                               // Real is double
    const int32_t* tokens;                                   // [capacity, sentences, beams]
    const int32_t* parents;                                  // [capacity, sentences, beams]
    const void* logprobs;                                    // Real [capacity, sentences, beams]
    const int32_t* last_steps;    // [sentences, hypotheses]; -1: no such hypothesis
    const int32_t* last_parents;  // [sentences, hypotheses]
    const int32_t* last_tokens;   // [sentences, hypotheses]
    const void* last_logprobs;    // Real [sentences, hypotheses]
    int64_t pad;
    int64_t* out_tokens;   // [sentences, hypotheses, length]; pad behind the end
    int64_t* out_parents;  // [sentences, hypotheses, length] the beam each token went on from; -1
    void* out_logprobs;    // Real [sentences, hypotheses, length]; 0 behind the end
    int threads;
};
template <class F>
void visit(BeamBacktrackArgs& args, F&& f) {
    f("sentences", args.sentences);
    f("beams", args.beams);
    f("hypotheses", args.hypotheses);
    f("capacity", args.capacity);
    f("length", args.length);
    f("wide", args.wide);
    f("tokens", args.tokens);
    f("parents", args.parents);
    f("logprobs", args.logprobs);
    f("last_steps", args.last_steps);
    f("last_parents", args.last_parents);
    f("last_tokens", args.last_tokens);
    f("last_logprobs", args.last_logprobs);
    f("pad", args.pad);
    f("out_tokens", args.out_tokens);
    f("out_parents", args.out_parents);
    f("out_logprobs", args.out_logprobs);
    f("threads", args.threads);
}

// Tokens that a row proposes, as many as can matter: of a row's candidates at most `eos_count` end,
// and none ranks behind its group's beams (or twice those) but is of use; earlier groups' tokens
// may push others ahead.
SEQFAST_INLINE int64_t beam_proposals(const BeamOptions& o) {
    const int64_t own = o.beams / o.groups;
    int64_t wanted = own + o.eos_count;
    if (o.eos_pool == EosPool::top2k && wanted < 2 * own) wanted = 2 * own;
    if (o.diversity != 0) wanted += o.beams - own;
    return wanted < o.vocabulary ? wanted : o.vocabulary;
}

// Of a group's candidates no more than these can matter: its beams are filled by so many that do
// not end, and each of its beams may have all EOS before those.
SEQFAST_INLINE int64_t beam_depth(const BeamOptions& o) {
    return o.beams / o.groups * (1 + o.eos_count);
}

constexpr int64_t kBeamStepFine = -1;
constexpr int64_t kBeamStepOver = -2;  // all steps that there is room for are done

constexpr uint32_t kGumbelStream = 15;  // stream_of(Draw::other, 0, 1)

}  // namespace seqfast
