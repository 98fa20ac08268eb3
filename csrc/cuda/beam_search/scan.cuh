// The first kernel of a step of beam search: a block reads its part of a row of logits once, for
// the sum of exponentials and the largest; the last one of a row makes proposals of what all found.
#pragma once

#include "cuda/beam_search/values.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// Of a column of a tile.
constexpr uint8_t kFlagSeen = 1;     // penalised
constexpr uint8_t kFlagBlocked = 2;  // must not be chosen
constexpr uint8_t kFlagEos = 4;      // an EOS that is proposed in any case

template <class Real>
struct ScanMemory {
    SelectionMemoryOf<KeyOf<Real>> selection;
    Real largest[kBeamWarps];
    uint32_t arrived;
    uint8_t flags[kBeamTile];
};

template <class T>
struct BeamRow {
    using Real = typename RealOf<T>::type;
    const T* logits;
    const uint8_t* allowed;  // or nullptr
    const int32_t* history;  // or nullptr
    int64_t history_length;
    int64_t row, batch, beam, group, sentence, step;
    Real scale, score;
    bool given;     // its token stands in the prefix
    bool no_eos;    // too short to end
    bool only_eos;  // must end
};

template <class T>
SEQFAST_DEVICE BeamRow<T> beam_row(const BeamParams& p, int64_t row) {
    using Real = typename RealOf<T>::type;
    const BeamStepArgs& args = p.args;
    const BeamOptions& o = args.options;
    BeamRow<T> r{};
    r.row = row;
    r.batch = row / o.beams;
    r.beam = row % o.beams;
    r.group = r.beam / beams_of_group(o);
    r.sentence = args.sentence[r.batch];
    r.step = args.step[0];
    r.logits = static_cast<const T*>(args.logits) + row * args.logits_stride;
    r.allowed = args.allowed == nullptr ? nullptr : args.allowed + row * args.allowed_stride;
    if (args.history != nullptr) {
        const int64_t rows = args.batch * o.beams;
        r.history = args.history + (r.step % 2 * rows + row) * args.history_capacity;
        const int64_t length = args.history_start[r.batch] + r.step;
        r.history_length = length < args.history_capacity ? length : args.history_capacity;
    }
    r.scale = Real(p.plan.scale);
    r.score = reals<Real>(args.scores)[row];
    const int64_t prefix = args.prefix == nullptr ? 0 : args.prefix_lengths[r.sentence];
    r.given = r.step < prefix;
    r.no_eos = r.step - (o.score_prefix ? 0 : prefix) < o.min_length;
    r.only_eos = o.force_eos && r.step + 1 == args.max_lengths[r.sentence];
    return r;
}

// ---- Edits --------------------------------------------------------------------------------------

// Keskar et al. 2019.
template <class Real>
SEQFAST_DEVICE Real penalised(const BeamOptions& o, Real x) {
    const Real penalty = Real(o.repetition_penalty);
    return x < 0 ? rounded_product(x, penalty) : x / penalty;
}

// -log(-log(1 - v)) of a uniform v in (0, 1).
SEQFAST_DEVICE float gumbel_of(uint32_t word, float) {
    const bool small = word < 0x80000000u;
    const float part = (float(small ? word : ~word) + 0.5f) * 0x1p-32f;
    return -logarithm(-(small ? log_plus_one(-part) : logarithm(part)));
}
SEQFAST_DEVICE double gumbel_of(uint32_t word, double) {
    return -logarithm(-log_plus_one(-((double(word) + 0.5) * 0x1p-32)));
}
template <class T>
SEQFAST_DEVICE void gumbel_words(const BeamParams& p, const BeamRow<T>& r, uint32_t index,
                                 uint32_t (&words)[4]) {
    words[0] = index;
    words[1] = uint32_t(r.sentence * p.args.options.beams + r.beam);
    words[2] = uint32_t(r.step);
    words[3] = kGumbelStream;
    const uint64_t key = uint64_t(p.args.seed[0]);
    philox<ScalarWords>(words, uint32_t(key), uint32_t(key >> 32));
}

// Whether what `n` - 1 tokens at the end were followed by before stands at `begin`.
template <class T>
SEQFAST_DEVICE bool repeats_ngram(const BeamRow<T>& r, int64_t begin, int64_t n) {
    const int32_t* end = r.history + r.history_length - n + 1;
    for (int64_t i = 0; i + 1 < n; ++i)
        if (r.history[begin + i] != end[i]) return false;
    return true;
}

// By all threads: what the columns of the tile are. Threads may write the same flag twice.
template <class T>
SEQFAST_DEVICE void set_flags(const BeamParams& p, const BeamRow<T>& r, int64_t tile,
                              uint8_t* flags) {
    const BeamStepArgs& args = p.args;
    const BeamOptions& o = args.options;
    const int64_t columns = o.vocabulary - tile < kBeamTile ? o.vocabulary - tile : kBeamTile;
    const auto flag = [&](int64_t token, uint8_t value) {
        if (token >= tile && token < tile + columns) flags[token - tile] = value;
    };
    const uint32_t all = r.only_eos ? 0x01010101u * kFlagBlocked : 0u;
    for (int i = 4 * thread_index(); i < kBeamTile; i += 4 * kSelectionThreads)
        *reinterpret_cast<uint32_t*>(flags + i) = all;
    block_sync();
    if (r.only_eos) {
        for (int64_t i = thread_index(); i < o.eos_count; i += kSelectionThreads)
            flag(args.eos[i], 0);
        block_sync();
    }
    if (o.repetition_penalty != 1) {
        for (int64_t i = thread_index(); i < r.history_length; i += kSelectionThreads) {
            const int64_t at = r.history[i] - tile;
            if (at >= 0 && at < columns && flags[at] != kFlagBlocked) flags[at] = kFlagSeen;
        }
        block_sync();
    }
    for (int64_t i = thread_index(); i < o.banned_count; i += kSelectionThreads)
        flag(args.banned[i], kFlagBlocked);
    if (r.no_eos) {
        for (int64_t i = thread_index(); i < o.eos_count; i += kSelectionThreads)
            flag(args.eos[i], kFlagBlocked);
    }
    const int64_t n = o.no_repeat_ngram;
    if (n > 0) {
        for (int64_t i = thread_index(); i + n <= r.history_length; i += kSelectionThreads) {
            const int64_t token = r.history[i + n - 1];
            if (token >= tile && token < tile + columns && repeats_ngram(r, i, n))
                flag(token, kFlagBlocked);
        }
    }
    block_sync();
    if (o.eos_pool == EosPool::any) {
        for (int64_t i = thread_index(); i < o.eos_count; i += kSelectionThreads) {
            const int64_t at = args.eos[i] - tile;
            if (at >= 0 && at < columns && flags[at] != kFlagBlocked) flags[at] |= kFlagEos;
        }
        block_sync();
    }
}

// ---- A tile -------------------------------------------------------------------------------------

// Which column of a tile a thread's i-th logit is; batches follow each other. With edits four of
// them share a counter of the random numbers.
template <bool edited>
SEQFAST_DEVICE uint32_t beam_column(int i) {
    const uint32_t t = uint32_t(thread_index());
    return edited ? uint32_t(i / 4 * (4 * kSelectionThreads) + i % 4 * 16) + t / 16 * 64 + t % 16
                  : uint32_t(i * kSelectionThreads) + t;
}

// The logits of a tile, on their way; behind the end any.
template <class T, bool edited>
SEQFAST_DEVICE void load_tile(const BeamRow<T>& r, uint32_t tile, uint32_t columns,
                              T (&raw)[kBeamPerThread]) {
    const T* from = r.logits + tile;
    if (tile + kBeamTile <= columns) {
        SEQFAST_UNROLL
        for (int i = 0; i < kBeamPerThread; ++i) raw[i] = from[beam_column<edited>(i)];
        return;
    }
    SEQFAST_UNROLL
    for (int i = 0; i < kBeamPerThread; ++i) {
        raw[i] = T{};
        if (tile + beam_column<edited>(i) < columns) raw[i] = from[beam_column<edited>(i)];
    }
}

// Scaled, -inf behind the end.
template <class T, bool edited, class Real>
SEQFAST_DEVICE void scale_tile(const BeamRow<T>& r, uint32_t tile, uint32_t columns,
                               const T (&raw)[kBeamPerThread], Real (&x)[kBeamPerThread]) {
    SEQFAST_UNROLL
    for (int i = 0; i < kBeamPerThread; ++i) x[i] = rounded_product(to_float(raw[i]), r.scale);
    if (tile + kBeamTile <= columns) return;
    SEQFAST_UNROLL
    for (int i = 0; i < kBeamPerThread; ++i)
        if (tile + beam_column<edited>(i) >= columns) x[i] = Keys<Real>::minus_infinity();
}

// A warp's sum of exponentials; NaN if a thread calls its numbers bad, or has NaN or +inf.
template <class Real>
SEQFAST_DEVICE void write_sum(const BeamParams& p, int64_t row, uint32_t tile, bool bad,
                              const Real (&x)[kBeamPerThread]) {
    const Real none = Keys<Real>::minus_infinity();
    Real largest = none;
    SEQFAST_UNROLL
    for (int i = 0; i < kBeamPerThread; ++i) largest = larger(largest, x[i]);
    const Real from = largest == none ? 0 : largest;
    Real sum = bad ? Keys<Real>::nan() : 0;
    SEQFAST_UNROLL
    for (int i = 0; i < kBeamPerThread; ++i) sum += fast_exp(x[i] - from);
    Real of_warp = largest;
    SEQFAST_UNROLL
    for (int distance = 16; distance > 0; distance /= 2)
        of_warp = larger(of_warp, shuffle_xor(of_warp, distance));
    sum *= fast_exp(largest - (of_warp == none ? 0 : of_warp));
    SEQFAST_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) sum += shuffle_xor(sum, distance);
    if (lane_index() == 0) {
        Real* to = reals<Real>(p.plan.sums) +
                   ((row * p.plan.tiles + tile / kBeamTile) * kBeamWarps + thread_index() / 32) * 2;
        to[0] = of_warp;
        to[1] = sum;
    }
}

// What edits find on their way through a tile.
struct TileEdits {
    uint32_t late;  // a bit for each number that is proposed by way of the late list
    bool bad;       // NaN or +inf
};

// -inf where a token must not be chosen; with penalties if the sum wants them.
template <class T, class Real>
SEQFAST_DEVICE TileEdits edit_tile(const BeamParams& p, const BeamRow<T>& r, uint32_t tile,
                                   const uint8_t* flags, Real (&x)[kBeamPerThread]) {
    const BeamOptions& o = p.args.options;
    const Real none = Keys<Real>::minus_infinity();
    TileEdits edits{0, false};
    SEQFAST_UNROLL
    for (int i = 0; i < kBeamPerThread; ++i) {
        const uint32_t at = beam_column<true>(i), token = tile + at;
        if (token >= uint32_t(o.vocabulary)) continue;
        edits.bad |= !(x[i] < -none);
        const uint8_t flag = flags[at];
        if (flag == kFlagBlocked || (r.allowed != nullptr && !r.allowed[token])) {
            x[i] = none;
        } else if (flag != 0 && x[i] > none) {
            edits.late |= 1u << i;
            if (o.renormalize && (flag & kFlagSeen)) x[i] = penalised(o, x[i]);
        }
    }
    return edits;
}

// Hands on what is late, which is then out of the selection, and adds noise to the others.
template <class T, class Real>
SEQFAST_DEVICE void finish_edits(const BeamParams& p, const BeamRow<T>& r, uint32_t tile,
                                 const uint8_t* flags, uint32_t late, Real (&x)[kBeamPerThread]) {
    if (late != 0) {
        SEQFAST_UNROLL
        for (int i = 0; i < kBeamPerThread; ++i) {
            if (!(late >> i & 1)) continue;
            const uint32_t at = beam_column<true>(i);
            const uint32_t place = atomic_add(p.plan.late_counts + r.row, 1u);
            p.plan.late_tokens[r.row * p.plan.late + place] =
                (tile + at) * 2 + (flags[at] & kFlagSeen);
            x[i] = Keys<Real>::minus_infinity();
        }
    }
    if (!p.args.options.noise) return;
    SEQFAST_NO_UNROLL
    for (int quarter = 0; quarter < kBeamPerThread / 4; ++quarter) {
        uint32_t words[4];
        gumbel_words(p, r, unit_counter(tile + beam_column<true>(4 * quarter)).index, words);
        Real noise[4];
        SEQFAST_UNROLL
        for (int i = 0; i < 4; ++i) noise[i] = gumbel_of(words[i], Real());
        SEQFAST_UNROLL
        for (int i = 0; i < kBeamPerThread; ++i)  // all, so that they stay in registers
            if (i / 4 == quarter) x[i] += noise[i % 4];
    }
}

// ---- A row --------------------------------------------------------------------------------------

struct BeamEntry {
    int32_t token;
    bool seen;
};
SEQFAST_DEVICE BeamEntry beam_entry(uint32_t code) { return {int32_t(code / 2), (code & 1) != 0}; }

template <class Real>
struct BeamNumbers {
    Real logprob, edited, order;
};

template <bool edited, class T, class Real>
SEQFAST_DEVICE BeamNumbers<Real> beam_numbers(const BeamParams& p, const BeamRow<T>& r, Real sum,
                                              BeamEntry entry) {
    const BeamOptions& o = p.args.options;
    Real x = rounded_product(to_float(r.logits[entry.token]), r.scale);
    BeamNumbers<Real> found{};
    found.logprob = found.edited = found.order = x - sum;
    if (edited && entry.seen) {
        if (o.renormalize) found.logprob = penalised(o, x) - sum;
        found.edited = o.renormalize ? found.logprob : penalised(o, found.edited);
        found.order = found.edited;
    }
    if (edited && o.noise) {
        const uint32_t word =
            word_of_unit(p.args.seed[0], uint32_t(entry.token),
                         uint32_t(r.sentence * o.beams + r.beam), uint32_t(r.step), kGumbelStream);
        found.order += gumbel_of(word, Real());
    }
    return found;
}

// A Gumbel variable `key`, the largest of its row `largest`, given that it is `wanted`:
// Kool et al. 2019. In double: float32 has no digits left where `key` is nearly `largest`.
template <class Real>
SEQFAST_DEVICE Real conditioned(double key, double largest, Real wanted) {
    if (key == Keys<double>::minus_infinity()) return Keys<Real>::minus_infinity();
    if (key == largest) return wanted;
    const double v = double(wanted) - key + log_plus_one(-fast_exp(key - largest));
    const double magnitude = v < 0 ? -v : v;
    return Real(double(wanted) - (v > 0 ? v : 0) - log_plus_one(fast_exp(-magnitude)));
}

// log of the sum of exponentials; NaN where a number of the row is NaN or +inf, 0 where all are
// -inf. Every warp for itself, in an order that no launch changes.
template <class Real>
SEQFAST_DEVICE Real beam_log_sum(const BeamParams& p, int64_t row) {
    const Real none = Keys<Real>::minus_infinity();
    const int64_t count = p.plan.tiles * kBeamWarps;
    const Real* from = reals<Real>(p.plan.sums) + row * count * 2;
    Real largest = none, sum = 0;
    for (int64_t i = lane_index(); i < count; i += 32) largest = larger(largest, from[2 * i]);
    SEQFAST_UNROLL
    for (int distance = 16; distance > 0; distance /= 2)
        largest = larger(largest, shuffle_xor(largest, distance));
    const Real against = largest == none ? 0 : largest;
    for (int64_t i = lane_index(); i < count; i += 32)
        sum += rounded_product(from[2 * i + 1], fast_exp(from[2 * i] - against));
    SEQFAST_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) sum += shuffle_xor(sum, distance);
    return sum == 0 ? 0 : against + logarithm(sum);
}

// The largest of all parts of the row stand in `selection` afterwards.
template <class T, class Real>
SEQFAST_DEVICE void gather_parts(const BeamParams& p, const BeamRow<T>& r,
                                 BeamSelection<Real>& selection) {
    const int proposals = int(p.plan.proposals);
    const int64_t count = p.plan.splits * proposals;
    const KeyOf<Real>* from = static_cast<const KeyOf<Real>*>(p.plan.keys) + r.row * count;
    KeyOf<Real> limit{};
    selection.clear();
    for (int64_t begin = 0; begin < count; begin += kSelectionBatch) {
        for (int i = 0; i < kSelectionBatch && begin + i < count; i += kSelectionThreads) {
            const int64_t at = begin + i + thread_index();
            const KeyOf<Real> key = at < count ? from[at] : KeyOf<Real>{};
            selection.offer(key, limit < key);
        }
        if (selection.compact_if_full()) limit = selection.key(proposals - 1);
    }
    selection.compact();
}

// Adds what waited for the row's sum; keys are then the values to go by.
template <bool edited, class T, class Real>
SEQFAST_DEVICE void add_late(const BeamParams& p, const BeamRow<T>& r, Real sum, int64_t late,
                             BeamSelection<Real>& selection) {
    const uint32_t* from = p.plan.late_tokens + r.row * p.plan.late;
    const int count = selection.count();
    block_sync();  // all have read it before any offers more
    for (int i = thread_index(); i < count; i += kSelectionThreads) {
        const uint32_t code = Keys<Real>::place(selection.key(i));
        selection.keys()[i] =
            Keys<Real>::make(beam_numbers<edited>(p, r, sum, beam_entry(code)).order, code);
    }
    for (int64_t begin = 0; begin < late; begin += kSelectionBatch) {
        for (int i = 0; i < kSelectionBatch && begin + i < late; i += kSelectionThreads) {
            const int64_t at = begin + i + thread_index();
            KeyOf<Real> key{};
            if (at < late) {
                const Real order = beam_numbers<edited>(p, r, sum, beam_entry(from[at])).order;
                key = Keys<Real>::make(order, from[at]);
            }
            selection.offer(key, at < late);
        }
        selection.compact_if_full();
    }
    selection.compact();
}

// By the last block of a row: proposals, from the sums and keys of all.
template <bool edited, class T, class Real>
SEQFAST_DEVICE void propose(const BeamParams& p, const BeamRow<T>& r, Real* largest_memory,
                            BeamSelection<Real>& selection) {
    const BeamStepArgs& args = p.args;
    const BeamOptions& o = args.options;
    const Real none = Keys<Real>::minus_infinity();
    const int64_t own = beams_of_group(o);
    const int64_t first =
        (r.batch * o.groups + r.group) * p.plan.width * own + r.beam % own;  // then own apart
    const auto write = [&](int64_t place, Real total, Real order, Real logprob, int32_t token) {
        const int64_t to = first + place * own;
        reals<Real>(p.plan.totals)[to] = total;
        reals<Real>(p.plan.orders)[to] = order;
        reals<Real>(p.plan.logprobs)[to] = logprob;
        p.plan.tokens[to] = token;
    };
    const Real sum = beam_log_sum<Real>(p, r.row);
    int32_t* const count = p.plan.counts + r.row;
    if (!(sum == sum)) {
        if (thread_index() == 0) {
            atomic_max(p.plan.bad_row, ~uint64_t(r.row));
            *count = 0;
        }
        return;
    }
    if (r.given) {
        const int32_t token = args.prefix[r.sentence * args.prefix_capacity + r.step];
        const bool is_token = token >= 0 && token < o.vocabulary;
        if (thread_index() == 0) {
            *count = is_token ? 1 : 0;
            if (is_token) {
                const Real logprob = beam_numbers<edited>(p, r, sum, {token, false}).logprob;
                const Real total = o.score_prefix ? r.score + logprob : r.score;
                const Real key = args.keys == nullptr ? total : reals<Real>(args.keys)[r.row];
                write(0, total, total > none ? key : total, logprob, token);
            }
        }
        return;
    }
    if (p.plan.splits > 1) gather_parts<T, Real>(p, r, selection);
    const int64_t late = !edited || p.plan.late == 0 ? 0 : int64_t(p.plan.late_counts[r.row]);
    if (edited && late > 0) add_late<edited>(p, r, sum, late, selection);
    const int found = selection.count();
    const auto entry_at = [&](int i) {
        return beam_entry(uint32_t(Keys<Real>::place(selection.key(i))));
    };
    Real largest = none;
    if (edited && o.noise) {
        for (int i = thread_index(); i < found; i += kSelectionThreads)
            largest = larger(largest, beam_numbers<edited>(p, r, sum, entry_at(i)).order);
        largest = r.score + block_largest(largest, largest_memory);
    }
    const auto write_entry = [&](int64_t place, BeamEntry entry) {
        const BeamNumbers<Real> numbers = beam_numbers<edited>(p, r, sum, entry);
        const Real total = r.score + numbers.edited;
        Real order = total;
        if (edited && o.noise)
            order = conditioned(r.score + numbers.order, largest, reals<Real>(args.keys)[r.row]);
        write(place, total, order, numbers.logprob, entry.token);
    };
    for (int i = thread_index(); i < found; i += kSelectionThreads) write_entry(i, entry_at(i));
    const bool any = p.plan.width > p.plan.proposals;
    if (thread_index() == 0) *count = int32_t(any ? p.plan.width : found);
    if constexpr (edited) {
        if (!any) return;
        for (int64_t i = found + thread_index(); i < p.plan.width; i += kSelectionThreads)
            write(i, none, none, 0, args.eos[0]);
        block_sync();
        // An EOS that is not among the largest is proposed behind them.
        for (int64_t i = thread_index(); i < late; i += kSelectionThreads) {
            const uint32_t code = p.plan.late_tokens[r.row * p.plan.late + i];
            const BeamEntry entry = beam_entry(code);
            int64_t place = 0;
            while (place < o.eos_count && args.eos[place] < entry.token) ++place;
            if (place == o.eos_count || args.eos[place] != entry.token) continue;
            const Real order = beam_numbers<edited>(p, r, sum, entry).order;
            if (found == p.plan.proposals &&
                Keys<Real>::make(order, code) < selection.key(found - 1))
                write_entry(p.plan.proposals + place, entry);
        }
    }
}

template <class T, bool edited>
SEQFAST_KERNEL(kSelectionThreads, (sizeof(T) == 8 ? 2 : 4) - (edited ? 1 : 0))
beam_scan_kernel(SEQFAST_GRID_CONSTANT BeamParams p) {
    using Real = typename RealOf<T>::type;
    const BeamStepArgs& args = p.args;
    const BeamOptions& o = args.options;
    const BeamPlan& plan = p.plan;
    auto& memory = *reinterpret_cast<ScanMemory<Real>*>(dynamic_shared());
    const int proposals = int(plan.proposals);
    const int64_t units = args.batch * o.beams * plan.splits;
    const uint32_t columns = uint32_t(o.vocabulary);  // below 2^31
    if (stands_still(args)) return;
    for (int64_t unit = block_x(); unit < units; unit += grid_x()) {
        const int64_t row = unit / plan.splits, split = unit % plan.splits;
        const BeamRow<T> r = beam_row<T>(p, row);
        if (!(r.score > Keys<Real>::minus_infinity()) ||
            args.done[r.sentence * o.groups + r.group] == 1) {
            if (split == 0 && thread_index() == 0) plan.counts[row] = 0;
            continue;
        }
        const uint32_t begin = uint32_t(split * plan.tiles / plan.splits * kBeamTile);
        const uint32_t end = uint32_t((split + 1) * plan.tiles / plan.splits * kBeamTile);
        BeamSelection<Real> selection(memory.selection, proposals);
        Real limit = Keys<Real>::lowest();
        T raw[kBeamPerThread];
        if (!edited) load_tile<T, edited>(r, begin, columns, raw);
        for (uint32_t tile = begin; tile < end; tile += kBeamTile) {
            Real x[kBeamPerThread];
            if (edited) load_tile<T, edited>(r, tile, columns, raw);
            scale_tile<T, edited>(r, tile, columns, raw, x);
            // The next one travels while this one is looked at; edits leave no registers for it.
            if (!edited && tile + kBeamTile < end)
                load_tile<T, edited>(r, tile + kBeamTile, columns, raw);
            if (!edited || r.given) {
                write_sum(p, row, tile, false, x);
                if (r.given) continue;
            }
            if constexpr (edited) {
                set_flags(p, r, tile, memory.flags);
                TileEdits edits{0, false};
                SEQFAST_NO_UNROLL
                for (int turn = 0; turn < 2; ++turn) {
                    if ((turn == 1) == o.renormalize) {
                        write_sum(p, row, tile, edits.bad, x);
                    } else {
                        edits = edit_tile(p, r, tile, memory.flags, x);
                    }
                }
                finish_edits(p, r, tile, memory.flags, edits.late, x);
            }
            if (tile == begin && proposals <= kBeamTile / 4)
                limit = larger(first_limit(proposals, selection, x,
                                           [](int i) { return beam_column<edited>(i); }),
                               Keys<Real>::lowest());
            const auto place_of = [&](int i) { return (tile + beam_column<edited>(i)) * 2; };
            offer_tile(proposals, selection, x, place_of, limit);
        }
        selection.compact();
        bool last = true;
        if (plan.splits > 1) {
            if (!r.given) {
                auto* to = static_cast<KeyOf<Real>*>(plan.keys) + unit * proposals;
                for (int i = thread_index(); i < proposals; i += kSelectionThreads)
                    to[i] = i < selection.count() ? selection.key(i) : KeyOf<Real>{};
            }
            last = last_to_arrive(plan.arrived + row, plan.splits, &memory.arrived);
        }
        if (last) {
            propose<edited>(p, r, memory.largest, selection);
            block_sync();
            if (thread_index() == 0) {
                plan.arrived[row] = 0;
                if (plan.late > 0) plan.late_counts[row] = 0;
            }
        }
        block_sync();
    }
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
