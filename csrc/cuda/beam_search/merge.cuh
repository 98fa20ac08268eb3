// The second kernel of a step of beam search: a block takes the proposals of a group by falling
// key and makes of them its next living beams and its pool of ended hypotheses.
#pragma once

#include "cuda/beam_search/values.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// Candidates looked at together: after a selection they take the first half of its memory.
constexpr int kChunkMost = kSelectionBatch;

template <class Real>
struct MergeMemory {
    SelectionMemoryOf<KeyOf<Real>> selection;
    Real largest[kBeamWarps];
    int counts[kBeamWarps];
    int32_t slots[kBeamMost];   // codes of the candidates that live on; -1: none
    int32_t chosen[kBeamMost];  // tokens of the sentence's groups so far; -1: none
    // Of a chunk: which of it end; or, competing, how many before each of it do.
    uint16_t ended[kChunkMost + 1];
    uint32_t last;
};

// Where the candidates of a chunk that end are wanted, in the second half of the selection's keys.
template <class Real>
struct Entrants {
    Real* scores;
    int32_t* places;
};
template <class Real>
SEQFAST_DEVICE Entrants<Real> entrants_in(MergeMemory<Real>& memory) {
    auto* scores = reinterpret_cast<Real*>(memory.selection.keys + kChunkMost);
    return {scores, reinterpret_cast<int32_t*>(scores + kChunkMost)};
}

// A group at work: what all threads know of it.
template <class Real>
struct BeamGroup {
    const BeamParams& p;
    MergeMemory<Real>& memory;
    int64_t batch, group, sentence, step;
    int64_t own, first;  // beams of the group; its first one
    int64_t pool;        // where its pool begins in the records
    int64_t length;      // of a hypothesis after this step
    bool last;           // the step is the sentence's last
};

struct Candidate {
    int64_t at;  // among the proposals
    int32_t token, beam;
    bool is_eos;
};

template <class Real>
SEQFAST_DEVICE Candidate candidate_of(const BeamGroup<Real>& g, int32_t code) {
    const BeamPlan& plan = g.p.plan;
    const BeamOptions& o = g.p.args.options;
    const int64_t beam = code / plan.width, place = code % plan.width;
    Candidate c{};
    c.at = ((g.batch * o.groups + g.group) * plan.width + place) * g.own + beam;
    c.token = plan.tokens[c.at];
    c.beam = int32_t(g.first + beam);
    c.is_eos = is_among(g.p.args.eos, o.eos_count, c.token);
    return c;
}

// Hamming diversity (Vijayakumar et al. 2018).
template <class Real>
SEQFAST_DEVICE Real diversity_of(const BeamGroup<Real>& g, int32_t token) {
    const Real diversity = Real(g.p.args.options.diversity);
    if (diversity == 0) return 0;
    int count = 0;
    for (int64_t i = 0; i < g.first; ++i) count += g.memory.chosen[i] == token;
    return rounded_product(diversity, Real(count));
}

template <class Real>
SEQFAST_DEVICE Real total_of(const BeamGroup<Real>& g, const Candidate& c) {
    return reals<Real>(g.p.plan.totals)[c.at] - diversity_of(g, c.token);
}

template <class Real>
SEQFAST_DEVICE Real normalised(const BeamGroup<Real>& g, const Candidate& c) {
    const BeamStepArgs& args = g.p.args;
    int64_t n = g.length - (c.is_eos && !args.options.count_eos ? 1 : 0);
    n = n > 0 ? n : 0;
    return total_of(g, c) / reals<Real>(args.divisor)[n] + reals<Real>(args.addend)[n];
}

// ---- Candidates by falling key ------------------------------------------------------------------

// The next `wanted` of the group's candidates, those behind `above` if there is one.
template <class Real>
SEQFAST_DEVICE void select_candidates(const BeamGroup<Real>& g, BeamSelection<Real>& selection,
                                      int wanted, bool has_above, KeyOf<Real> above) {
    const BeamOptions& o = g.p.args.options;
    const BeamPlan& plan = g.p.plan;
    const Real none = Keys<Real>::minus_infinity();
    const int64_t row = g.batch * o.beams + g.first;
    int most = 0;
    for (int64_t k = thread_index(); k < g.own; k += kSelectionThreads)
        most = plan.counts[row + k] > most ? plan.counts[row + k] : most;
    const int64_t places = block_largest(most, g.memory.counts);
    const Real* orders =
        reals<Real>(plan.orders) + (g.batch * o.groups + g.group) * plan.width * g.own;
    // Proposals of a row fall, so that none of a place means none behind it.
    const bool falling = !o.noise && o.diversity == 0 && o.eos_pool != EosPool::any && !has_above;
    const int64_t count = places * g.own;
    // At first as many as make a limit.
    int64_t size = 2 * wanted < kSelectionBatch ? power_of_two_above(2 * wanted) : kSelectionBatch;
    if (size < kSelectionThreads) size = kSelectionThreads;
    KeyOf<Real> limit{};
    for (int64_t begin = 0; begin < count; begin += size, size = kSelectionBatch) {
        const int before = selection.count();
        block_sync();
        for (int64_t i = 0; i < size && begin + i < count; i += kSelectionThreads) {
            const int64_t at = begin + i + thread_index();
            const int64_t place = at / g.own, beam = at % g.own;
            bool offered = at < count && place < plan.counts[row + beam] && orders[at] > none;
            KeyOf<Real> key{};
            if (offered) {
                const int64_t token = plan.tokens[orders - reals<Real>(plan.orders) + at];
                const Real order = orders[at] - diversity_of(g, int32_t(token));
                key = Keys<Real>::make(order, uint32_t(beam * plan.width + place));
                offered = limit < key && (!has_above || key < above);
            }
            selection.offer(key, offered);
        }
        if (begin == 0) {
            selection.compact();
            if (selection.count() == wanted) limit = selection.key(wanted - 1);
            continue;
        }
        block_sync();
        const bool stop = falling && selection.count() == before;
        block_sync();
        if (stop) break;
        if (selection.compact_if_full()) limit = selection.key(wanted - 1);
    }
    selection.compact();
}

// ---- The pool of ended hypotheses ---------------------------------------------------------------

// An old one of the pool goes from `from` to `to`, by all threads for their own, from the last to
// the first; `to` < 0: it stays. Places only rise.
template <class Real>
SEQFAST_DEVICE void move_pooled(const BeamGroup<Real>& g, int64_t from, int64_t to, bool moves) {
    const BeamStepArgs& args = g.p.args;
    const auto move = [&](auto* array, auto& kept, bool back) {
        if (array == nullptr) return;
        if (back) {
            array[g.pool + to] = kept;
        } else {
            kept = array[g.pool + from];
        }
    };
    Real score{}, total{}, logprob{}, key{};
    int32_t step{}, parent{}, token{};
    const auto all = [&](bool back) {
        move(reals<Real>(args.pool_scores), score, back);
        move(reals<Real>(args.pool_logprobs), total, back);
        move(reals<Real>(args.pool_last), logprob, back);
        move(reals<Real>(args.pool_keys), key, back);
        move(args.pool_steps, step, back);
        move(args.pool_parents, parent, back);
        move(args.pool_tokens, token, back);
    };
    if (moves) all(false);
    block_sync();
    if (moves) all(true);
    block_sync();
}

template <class Real>
SEQFAST_DEVICE void write_pooled(const BeamGroup<Real>& g, int64_t place, const Candidate& c,
                                 Real score) {
    const BeamStepArgs& args = g.p.args;
    const int64_t to = g.pool + place;
    reals<Real>(args.pool_scores)[to] = score;
    reals<Real>(args.pool_logprobs)[to] = total_of(g, c);
    reals<Real>(args.pool_last)[to] = reals<Real>(g.p.plan.logprobs)[c.at];
    if (args.pool_keys != nullptr)
        reals<Real>(args.pool_keys)[to] =
            reals<Real>(g.p.plan.orders)[c.at] - diversity_of(g, c.token);
    args.pool_steps[to] = int32_t(g.step);
    args.pool_parents[to] = c.beam;
    args.pool_tokens[to] = c.token;
}

// How many of `count` falling numbers are larger, or with `equal` not smaller.
template <class Real>
SEQFAST_DEVICE int64_t count_ahead(const Real* falling, int64_t count, Real number, bool equal) {
    return count_front(
        count, [&](int64_t i) { return falling[i] > number || (equal && falling[i] == number); });
}

// Puts the chunk's `entrants` into the pool, behind equal ones, where they are good enough.
template <class Real>
SEQFAST_DEVICE void pool_entrants(const BeamGroup<Real>& g, BeamSelection<Real>& selection,
                                  int64_t entrants) {
    const BeamStepArgs& args = g.p.args;
    const BeamOptions& o = args.options;
    int32_t* const counter = args.pool_counts + g.sentence * o.groups + g.group;
    const int64_t count = *counter;
    if (o.stop == StopRule::first_k && entrants > o.pool - count) entrants = o.pool - count;
    if (entrants <= 0) return;  // the same for all threads
    const Real* pooled = reals<Real>(args.pool_scores) + g.pool;
    const Entrants<Real> of_chunk = entrants_in(g.memory);
    const auto candidate = [&](int64_t i) {
        const uint32_t code = Keys<Real>::place(selection.key(g.memory.ended[i]));
        return candidate_of(g, int32_t(code));
    };
    for (int64_t i = thread_index(); i < entrants; i += kSelectionThreads)
        of_chunk.scores[i] = normalised(g, candidate(i));
    block_sync();
    for (int64_t i = thread_index(); i < entrants; i += kSelectionThreads) {
        const Real score = of_chunk.scores[i];
        int64_t place = count_ahead(pooled, count, score, true);
        for (int64_t j = 0; j < entrants; ++j)
            place += of_chunk.scores[j] > score || (j < i && of_chunk.scores[j] == score);
        of_chunk.places[i] = int32_t(place < o.pool ? place : -1);
    }
    block_sync();
    for (int64_t begin = (count - 1) / kSelectionThreads * kSelectionThreads;
         begin >= 0 && count > 0; begin -= kSelectionThreads) {
        const int64_t from = begin + thread_index();
        int64_t to = from;
        if (from < count) {
            for (int64_t i = 0; i < entrants; ++i) to += of_chunk.scores[i] > pooled[from];
        }
        block_sync();
        move_pooled(g, from, to, from < count && to != from && to < o.pool);
    }
    for (int64_t i = thread_index(); i < entrants; i += kSelectionThreads)
        if (of_chunk.places[i] >= 0)
            write_pooled(g, of_chunk.places[i], candidate(i), of_chunk.scores[i]);
    if (thread_index() == 0)
        *counter = int32_t(count + entrants < o.pool ? count + entrants : o.pool);
    block_sync();
}

// ---- A chunk of candidates ----------------------------------------------------------------------

// How many threads before this one say yes, to two questions at once; and of the block.
struct TwoCounts {
    int first, second, first_all, second_all;
};
template <class Real>
SEQFAST_DEVICE TwoCounts count_before(MergeMemory<Real>& memory, bool first, bool second) {
    const uint32_t firsts = ballot(first), seconds = ballot(second);
    if (lane_index() == 0)
        memory.counts[thread_index() / 32] = count_bits(firsts) | count_bits(seconds) << 16;
    block_sync();
    int before = 0, all = 0;
    for (int warp = 0; warp < kBeamWarps; ++warp) {
        if (warp == thread_index() / 32) before = all;
        all += memory.counts[warp];
    }
    block_sync();
    return {(before & 0xFFFF) + count_bits(firsts & lanes_before()),
            (before >> 16) + count_bits(seconds & lanes_before()), all & 0xFFFF, all >> 16};
}

// Takes candidates by rank; those that end are looked for in the pool, others fill the slots.
template <class Real>
SEQFAST_DEVICE void walk(const BeamGroup<Real>& g) {
    const BeamStepArgs& args = g.p.args;
    const BeamOptions& o = args.options;
    const bool any = o.eos_pool == EosPool::any, in_beam = o.eos_pool == EosPool::inbeam;
    int64_t limit = any ? 0 : o.eos_pool == EosPool::top2k ? 2 * g.own : g.own;
    if (g.last && limit < g.own) limit = g.own;
    const int64_t depth = beam_depth(o), enough = depth > limit ? depth : limit;
    const int wanted = int(enough < kChunkMost ? enough : kChunkMost);
    int64_t rank = 0, slots = 0;
    KeyOf<Real> above{};
    while (true) {
        BeamSelection<Real> selection(g.memory.selection, wanted);
        select_candidates(g, selection, wanted, rank > 0, above);
        const int count = selection.count();
        int64_t entrants = 0;
        for (int begin = 0; begin < count; begin += kSelectionThreads) {
            const int i = begin + thread_index();
            bool takes_slot = false, ends = false, enters = false;
            uint32_t code = 0;
            if (i < count) {
                code = Keys<Real>::place(selection.key(i));
                const Candidate c = candidate_of(g, int32_t(code));
                ends = c.is_eos || g.last;
                enters = ends && (rank + i < limit || (any && c.is_eos));
                takes_slot = in_beam ? rank + i < g.own : !ends;
                if (rank + i == 0 && c.is_eos) {
                    uint8_t* done = args.done + g.sentence * o.groups + g.group;
                    if (*done == 0) *done = 2;
                }
            }
            const TwoCounts counts = count_before(g.memory, takes_slot, enters);
            if (takes_slot && slots + counts.first < g.own)
                g.memory.slots[slots + counts.first] = ends ? -1 : int32_t(code);
            if (enters) g.memory.ended[entrants + counts.second] = uint16_t(i);
            slots += counts.first_all;
            entrants += counts.second_all;
        }
        block_sync();
        pool_entrants(g, selection, entrants);
        rank += count;
        const bool through = (g.last || slots >= g.own) && rank >= limit && !any;
        if (count < wanted || through) break;
        above = selection.key(count - 1);
        block_sync();
    }
    for (int64_t i = slots + thread_index(); i < g.own; i += kSelectionThreads)
        g.memory.slots[i] = -1;
    block_sync();
}

// Ended hypotheses keep their place only while their key is among the group's largest.
template <class Real>
SEQFAST_DEVICE void compete(const BeamGroup<Real>& g) {
    const BeamStepArgs& args = g.p.args;
    const BeamOptions& o = args.options;
    BeamSelection<Real> selection(g.memory.selection, int(g.own));
    select_candidates(g, selection, int(g.own), false, KeyOf<Real>{});
    const int count = selection.count();
    int32_t* const counter = args.pool_counts + g.sentence * o.groups + g.group;
    const int64_t old = *counter;
    // Without noise log-probabilities are what is compared.
    void* const of_pool = args.pool_keys == nullptr ? args.pool_logprobs : args.pool_keys;
    Real* const keys = reals<Real>(of_pool) + g.pool;
    Real* const scores = reals<Real>(args.pool_scores) + g.pool;
    const auto key_at = [&](int i) { return Keys<Real>::value(selection.key(i)); };
    const auto candidate = [&](int i) {
        return candidate_of(g, int32_t(Keys<Real>::place(selection.key(i))));
    };
    const Entrants<Real> of_chunk = entrants_in(g.memory);
    // Which have a place: those whose rank among all is below the group's beams.
    int64_t slots = 0, ended = 0;
    for (int begin = 0; begin < count; begin += kSelectionThreads) {
        const int i = begin + thread_index();
        bool has_place = false, ends = false;
        if (i < count) {
            const int64_t ahead = count_ahead(keys, old, key_at(i), true);
            has_place = i + ahead < g.own;
            ends = candidate(i).is_eos || g.last;
            of_chunk.places[i] = has_place && ends ? int32_t(ahead) : -1;
        }
        const TwoCounts counts = count_before(g.memory, has_place && !ends, has_place && ends);
        if (i < count) {
            if (has_place && !ends)
                g.memory.slots[slots + counts.first] = int32_t(Keys<Real>::place(selection.key(i)));
            if (has_place && ends) of_chunk.places[i] += int32_t(ended + counts.second);
            g.memory.ended[i] = uint16_t(ended + counts.second);
        }
        slots += counts.first_all;
        ended += counts.second_all;
    }
    for (int64_t i = slots + thread_index(); i < g.own; i += kSelectionThreads)
        g.memory.slots[i] = -1;
    if (thread_index() == 0) g.memory.ended[count] = uint16_t(ended);
    block_sync();
    int kept = 0;  // of the old ones, by this thread
    for (int64_t begin = (old - 1) / kSelectionThreads * kSelectionThreads; begin >= 0 && old > 0;
         begin -= kSelectionThreads) {
        const int64_t from = begin + thread_index();
        int64_t to = from;
        bool stays = false;
        if (from < old) {
            const int ahead = count_front(count, [&](int i) { return key_at(i) > keys[from]; });
            to += g.memory.ended[ahead];
            stays = from + ahead < g.own && to < o.pool;
            kept += stays;
        }
        block_sync();
        move_pooled(g, from, to, stays && to != from);
    }
    int64_t now = 0;
    {
        SEQFAST_UNROLL
        for (int distance = 16; distance > 0; distance /= 2) kept += shuffle_xor(kept, distance);
        if (lane_index() == 0) g.memory.counts[thread_index() / 32] = kept;
        block_sync();
        for (int warp = 0; warp < kBeamWarps; ++warp) now += g.memory.counts[warp];
        now = now + ended < o.pool ? now + ended : o.pool;
    }
    for (int i = thread_index(); i < count; i += kSelectionThreads) {
        const int place = of_chunk.places[i];
        if (place < 0 || place >= o.pool) continue;
        const Candidate c = candidate(i);
        write_pooled(g, place, c, normalised(g, c));
    }
    for (int64_t i = now + thread_index(); i < old; i += kSelectionThreads)
        scores[i] = keys[i] = Keys<Real>::minus_infinity();
    if (thread_index() == 0) *counter = int32_t(now);
    block_sync();
}

// ---- A group ------------------------------------------------------------------------------------

// The tokens so far of the beams that were chosen, and what they go on with, into the other half.
template <class Real>
SEQFAST_DEVICE void write_history(const BeamGroup<Real>& g) {
    const BeamStepArgs& args = g.p.args;
    if (args.history == nullptr) return;
    const int64_t rows = args.batch * args.options.beams, capacity = args.history_capacity;
    const int32_t* now = args.history + g.step % 2 * rows * capacity;
    int32_t* then = args.history + (g.step + 1) % 2 * rows * capacity;
    const int64_t length = args.history_start[g.batch] + g.step;
    const int64_t copied = length < capacity ? length : capacity;
    for (int64_t i = thread_index() / 32; i < g.own; i += kBeamWarps) {
        const int64_t row = g.batch * args.options.beams + g.first + i;
        const int32_t* from = now + args.next_rows[row] * capacity;
        int32_t* to = then + row * capacity;
        for (int64_t t = lane_index(); t < copied; t += 32) to[t] = from[t];
        if (lane_index() == 0 && length < capacity) to[length] = int32_t(args.next_tokens[row]);
    }
}

template <class Real>
SEQFAST_DEVICE void stand_still(const BeamGroup<Real>& g) {
    const BeamStepArgs& args = g.p.args;
    for (int64_t i = thread_index(); i < g.own; i += kSelectionThreads) {
        const int64_t row = g.batch * args.options.beams + g.first + i;
        reals<Real>(args.scores)[row] = Keys<Real>::minus_infinity();
        args.next_tokens[row] = args.eos[0];
        args.next_rows[row] = row;
        g.memory.chosen[g.first + i] = -1;
    }
    block_sync();
    write_history(g);
}

// One thread: whether the group is done, and proven so.
template <class Real>
SEQFAST_DEVICE bool is_done(const BeamGroup<Real>& g, Real best, bool& certain) {
    const BeamStepArgs& args = g.p.args;
    const BeamOptions& o = args.options;
    certain = true;
    if (best == Keys<Real>::minus_infinity()) return true;
    const int64_t at = g.sentence * o.groups + g.group;
    const int64_t count = args.pool_counts[at];
    const bool enough = count >= o.wanted;
    const auto reached = [&](const void* divisors, const void* addends) {
        return enough &&
               reals<Real>(args.pool_scores)[g.pool + o.wanted - 1] >=
                   best / reals<Real>(divisors)[g.length] + reals<Real>(addends)[g.length];
    };
    certain = reached(args.certain_divisor, args.certain_addend);
    if (o.eos_pool == EosPool::competing) return false;
    if (o.stop == StopRule::exact) return reached(args.bound_divisor, args.bound_addend);
    if (o.stop == StopRule::first_k) return count >= g.own;
    return args.done[at] == 2 && enough;
}

template <class Real>
SEQFAST_DEVICE void advance(const BeamGroup<Real>& g) {
    const BeamStepArgs& args = g.p.args;
    const BeamOptions& o = args.options;
    const Real none = Keys<Real>::minus_infinity();
    if (o.eos_pool == EosPool::competing) {
        compete(g);
    } else {
        walk(g);
    }
    Real best = none;
    const int64_t record = (g.step * args.sentences + g.sentence) * o.beams;
    for (int64_t i = thread_index(); i < g.own; i += kSelectionThreads) {
        const int64_t beam = g.first + i, row = g.batch * o.beams + beam;
        const int32_t code = g.memory.slots[i];
        int32_t token = args.eos[0], parent = int32_t(g.first), chosen = -1;
        Real total = none, logprob = 0;
        if (code >= 0) {
            const Candidate c = candidate_of(g, code);
            token = chosen = c.token;
            parent = c.beam;
            total = total_of(g, c);
            logprob = reals<Real>(g.p.plan.logprobs)[c.at];
            if (args.keys != nullptr)
                reals<Real>(args.keys)[row] =
                    reals<Real>(g.p.plan.orders)[c.at] - diversity_of(g, c.token);
        }
        best = larger(best, total);
        reals<Real>(args.scores)[row] = total;
        args.next_tokens[row] = token;
        args.next_rows[row] = g.batch * o.beams + parent;
        args.tokens[record + beam] = token;
        args.parents[record + beam] = parent;
        reals<Real>(args.logprobs)[record + beam] = logprob;
        g.memory.chosen[beam] = chosen;
    }
    best = block_largest(best, g.memory.largest);
    write_history(g);
    if (thread_index() == 0) {
        bool certain = false;
        g.memory.last = is_done(g, best, certain) ? 1 : 0;
        if (g.memory.last != 0) {
            args.done[g.sentence * o.groups + g.group] = 1;
            args.certified[g.sentence * o.groups + g.group] = certain ? 1 : 0;
        }
    }
    block_sync();
    if (g.memory.last != 0) {
        for (int64_t i = thread_index(); i < g.own; i += kSelectionThreads)
            reals<Real>(args.scores)[g.batch * o.beams + g.first + i] = none;
    }
    block_sync();
}

// By the last block of all: counts the sentences that go on, and the step.
SEQFAST_DEVICE void count_step(const BeamParams& p, int* memory) {
    const BeamStepArgs& args = p.args;
    const int64_t groups = args.options.groups;
    int living = 0;
    for (int64_t s = thread_index(); s < args.sentences; s += kSelectionThreads) {
        bool goes_on = false;
        for (int64_t g = 0; g < groups && !goes_on; ++g) goes_on = args.done[s * groups + g] != 1;
        living += goes_on;
    }
    SEQFAST_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) living += shuffle_xor(living, distance);
    if (lane_index() == 0) memory[thread_index() / 32] = living;
    block_sync();
    if (thread_index() != 0) return;
    int64_t all = 0;
    for (int warp = 0; warp < kBeamWarps; ++warp) all += memory[warp];
    args.living[0] = all;
    args.step[0] += 1;
}

// Groups of a sentence are one block's, one after the other, where they know of each other.
template <class Real>
SEQFAST_KERNEL(kSelectionThreads, 1)
beam_merge_kernel(SEQFAST_GRID_CONSTANT BeamParams p) {
    const BeamStepArgs& args = p.args;
    const BeamOptions& o = args.options;
    auto& memory = *reinterpret_cast<MergeMemory<Real>*>(dynamic_shared());
    const int64_t together = o.diversity != 0 ? o.groups : 1, own = beams_of_group(o);
    const int64_t units = args.batch * (o.groups / together), step = args.step[0];
    const uint64_t bad_row = *p.plan.bad_row;
    const bool still = stands_still(args) || bad_row != 0;
    for (int64_t unit = block_x(); unit < units && !still; unit += grid_x()) {
        for (int64_t i = 0; i < together; ++i) {
            const int64_t batch = unit * together / o.groups;
            const int64_t group = unit * together % o.groups + i, sentence = args.sentence[batch];
            const int64_t prefix = args.prefix == nullptr ? 0 : args.prefix_lengths[sentence];
            const int64_t length = step + 1 - (o.score_prefix ? 0 : prefix);
            const BeamGroup<Real> g{p,
                                    memory,
                                    batch,
                                    group,
                                    sentence,
                                    step,
                                    own,
                                    group * own,
                                    (sentence * o.groups + group) * o.pool,
                                    length > 0 ? length : 0,
                                    step + 1 == args.max_lengths[sentence]};
            const bool done = args.done[sentence * o.groups + group] == 1;
            block_sync();  // all have read it
            if (done) {
                stand_still(g);
            } else {
                advance(g);
            }
        }
    }
    if (!last_to_arrive(p.plan.finished, grid_x(), &memory.last)) return;
    if (!still) count_step(p, memory.counts);
    if (thread_index() != 0) return;
    // All have read them. The status of an earlier step stays.
    if (still && *args.status == kBeamStepFine)
        *args.status = bad_row != 0 ? int64_t(~bad_row) : kBeamStepOver;
    *p.plan.bad_row = 0;
    *p.plan.finished = 0;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
