// One step of beam search for a team of threads: one pass over the logits, then a merge of each
// sentence; docs/equations.md has the rules, seqfast/reference/beam_search.py the twin.
#pragma once

#include "core/beam_search.h"
#include "cpu/base/arena.h"
#include "cpu/base/exponentials.h"
#include "cpu/base/range.h"
#include "cpu/base/storage.h"
#include "cpu/beam_search/candidates.h"
#include "cpu/beam_search/gumbel.h"

namespace seqfast::cpu::SEQFAST_ISA {

// Columns whose maximum is kept: what cannot matter is passed over in the second look.
constexpr int64_t kBeamBlock = 256;
// Blocks that are summed in one go, whoever does it: so a sum depends on its row alone.
constexpr int64_t kBeamTile = 32;

template <class Storage>
class BeamStep {
  public:
    using Real = RealOf<Storage>;
    using V = Vector<Real>;
    static constexpr int lanes = kLanes<Real>;

    // `threads`: of the team, at most args.threads, for whom the workspace is.
    BeamStep(const BeamStepArgs& args, int threads)
        : args_(args), o_(args.options), threads_(threads) {
        Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
        take(arena);
    }

    static size_t workspace(const BeamStepArgs& args) {
        BeamStepArgs sizes = args;
        sizes.workspace = nullptr;
        return BeamStep(sizes, args.threads).used_;
    }

    // By one thread, before the others work; false: there is nothing to do but read the status.
    bool begin() {
        step_ = *args_.step;
        bad_row_ = rows_total_;
        if (step_ >= args_.capacity) {
            *args_.status = kBeamStepOver;
            return false;
        }
        half_ = step_ % 2 == 0 ? 0 : 1;
        living_ = 0;
        const Real* scores = static_cast<const Real*>(args_.scores);
        for (int64_t row = 0; row < rows_total_; ++row) {
            if (scores[row] > -kInfinity<Real>) rows_[living_++] = row;
        }
        return true;
    }

    // By every thread of the team, which meets at the barrier.
    template <class Meeting>
    void work(int thread, Meeting& barrier) {
        if (edit_capacity_ > 0) {
            const Range part = part_of(living_, threads_, thread);
            for (int64_t i = part.begin; i < part.end; ++i) collect_edits(rows_[i]);
            barrier.wait();
        }
        each_tile(thread, [&](int64_t row, int64_t tile) { sum_tile(row, tile); });
        barrier.wait();
        if (__atomic_load_n(&bad_row_, __ATOMIC_RELAXED) < rows_total_) return;
        if (o_.noise) {
            each_tile(thread, [&](int64_t row, int64_t tile) { perturb_tile(row, tile); });
            barrier.wait();
        }
        const Range part = part_of(args_.batch, threads_, thread);
        for (int64_t b = part.begin; b < part.end; ++b) advance(b, scratch_[thread]);
    }

    // By one thread, after all have worked.
    void finish() {
        if (bad_row_ < rows_total_) {
            *args_.status = bad_row_;
            return;
        }
        *args_.status = kBeamStepFine;
        ++*args_.step;
        *args_.living = 0;
        for (int64_t s = 0; s < args_.sentences; ++s) {
            bool living = false;
            for (int64_t g = 0; g < o_.groups; ++g) living |= args_.done[s * o_.groups + g] != 1;
            *args_.living += living;
        }
    }

    // Numbers to look at: where there are few, threads are not worth waking.
    static int64_t elements(const BeamStepArgs& args) {
        return args.batch * args.options.beams * args.options.vocabulary;
    }

  private:
    // A beam of the next step.
    struct Slot {
        Real score, key, logprob;
        int64_t token, parent;  // parent < 0: none
    };
    // What one thread has for itself.
    struct Scratch {
        Candidate<Real>*group, *row, *limits;
        Slot* slots;
        int32_t* chosen;  // by earlier groups, rising
        int64_t chosen_count;
    };
    struct Value {
        Real score, logprob;
    };
    enum class Kind { free, forced, ending };

    void take(Arena& arena) {
        rows_total_ = args_.batch * o_.beams;
        own_ = o_.beams / o_.groups;
        blocks_ = ceil_div(o_.vocabulary, kBeamBlock);
        tiles_ = ceil_div(blocks_, kBeamTile);
        proposals_ = beam_proposals(o_);
        depth_ = beam_depth(o_);
        direct_ = !o_.noise && o_.diversity == 0;
        inverse_temperature_ = static_cast<Real>(1 / o_.temperature);
        const bool remembers = o_.repetition_penalty != 1 || o_.no_repeat_ngram > 0;
        edit_capacity_ = o_.banned_count + (o_.min_length > 0 ? o_.eos_count : 0) +
                         (remembers ? 2 * args_.history_capacity : 0);
        rows_ = arena.take<int64_t>(rows_total_);
        log_sums_ = arena.take<Real>(rows_total_);
        maxima_ = arena.take<Real>(rows_total_ * blocks_);
        sums_ = arena.take<ExpSum<Real>>(rows_total_ * tiles_);
        edits_ = arena.take<uint64_t>(rows_total_ * edit_capacity_);
        edit_counts_ = arena.take<int64_t>(edit_capacity_ > 0 ? rows_total_ : 0);
        scratch_ = arena.take<Scratch>(args_.threads);
        const int64_t widest = larger(proposals_, depth_);
        for (int t = 0; t < args_.threads; ++t) {
            const Scratch scratch = {
                arena.take<Candidate<Real>>(Best<Real>::buffer(depth_) + own_ * o_.eos_count),
                arena.take<Candidate<Real>>(Best<Real>::buffer(proposals_)),
                arena.take<Candidate<Real>>(Best<Real>::buffer(widest) + own_ * o_.eos_count),
                arena.take<Slot>(own_),
                arena.take<int32_t>(o_.beams),
                0,
            };
            if (args_.workspace) scratch_[t] = scratch;
        }
        used_ = arena.used;
    }

    template <class Body>
    void each_tile(int thread, Body&& body) {
        const Range part = part_of(living_ * tiles_, threads_, thread);
        for (int64_t i = part.begin; i < part.end; ++i) body(rows_[i / tiles_], i % tiles_);
    }

    int64_t sentence_of(int64_t b) const { return args_.sentence[b]; }
    bool is_prefixed(int64_t sentence) const {
        return args_.prefix && step_ < args_.prefix_lengths[sentence];
    }
    bool is_last(int64_t sentence) const { return step_ + 1 == args_.max_lengths[sentence]; }
    Kind kind_of(int64_t sentence) const {
        if (is_prefixed(sentence)) return Kind::forced;
        return o_.force_eos && is_last(sentence) ? Kind::ending : Kind::free;
    }
    // Tokens of the prefix that neither score nor length knows of.
    int64_t given(int64_t sentence) const {
        return o_.score_prefix || !args_.prefix ? 0 : args_.prefix_lengths[sentence];
    }
    bool is_eos(int64_t token) const {
        for (int64_t e = 0; e < o_.eos_count; ++e) {
            if (args_.eos[e] == token) return true;
        }
        return false;
    }
    bool is_allowed(int64_t row, int64_t token) const {
        return !args_.allowed || args_.allowed[row * args_.allowed_stride + token];
    }

    // ---- edits: tokens whose values are not what the logits say ----

    // token << 1 | banned; so sorted, a ban comes before a penalty of the same token.
    void collect_edits(int64_t row) {
        const int64_t b = row / o_.beams, sentence = sentence_of(b);
        uint64_t* edits = edits_ + row * edit_capacity_;
        int64_t count = 0;
        const auto edit = [&](int64_t token, bool banned) {
            if (static_cast<uint64_t>(token) < static_cast<uint64_t>(o_.vocabulary)) {
                edits[count++] = static_cast<uint64_t>(token) << 1 | banned;
            }
        };
        if (args_.history && (o_.repetition_penalty != 1 || o_.no_repeat_ngram > 0)) {
            const int32_t* history =
                args_.history + (half_ * rows_total_ + row) * args_.history_capacity;
            const int64_t length = args_.history_start[b] + step_, n = o_.no_repeat_ngram;
            if (o_.repetition_penalty != 1) {
                for (int64_t i = 0; i < length; ++i) edit(history[i], false);
            }
            for (int64_t begin = 0; n > 0 && begin + n <= length; ++begin) {
                const int32_t* last = history + length - n + 1;
                int64_t same = 0;
                while (same < n - 1 && history[begin + same] == last[same]) ++same;
                if (same == n - 1) edit(history[begin + n - 1], true);
            }
        }
        for (int64_t i = 0; i < o_.banned_count; ++i) edit(args_.banned[i], true);
        if (o_.min_length > 0 && step_ - given(sentence) < o_.min_length) {
            for (int64_t e = 0; e < o_.eos_count; ++e) edit(args_.eos[e], true);
        }
        sort_keys(edits, count);
        int64_t kept = 0;
        for (int64_t i = 0; i < count; ++i) {
            if (kept == 0 || edits[i] >> 1 != edits[kept - 1] >> 1) edits[kept++] = edits[i];
        }
        edit_counts_[row] = kept;
    }

    int64_t edit_count(int64_t row) const { return edit_capacity_ > 0 ? edit_counts_[row] : 0; }

    // The first of the falling edits whose token is below; so many are not.
    int64_t edits_from(int64_t row, int64_t token) const {
        const uint64_t* edits = edits_ + row * edit_capacity_;
        return count_while(edit_count(row),
                           [&](int64_t i) { return static_cast<int64_t>(edits[i] >> 1) >= token; });
    }

    Real edited(int64_t row, int64_t token, Real x) const {
        if (!is_allowed(row, token)) return -kInfinity<Real>;
        const int64_t place = edits_from(row, token) - 1;
        const uint64_t* edits = edits_ + row * edit_capacity_;
        if (place < 0 || static_cast<int64_t>(edits[place] >> 1) != token) return x;
        if (edits[place] & 1) return -kInfinity<Real>;
        const Real penalty = static_cast<Real>(o_.repetition_penalty);
        return rounded(x < 0 ? x * penalty : x / penalty);
    }

    bool has_edits(int64_t row, int64_t block) const {
        if (args_.allowed) return true;
        if (edit_count(row) == 0) return false;
        return edits_from(row, block * kBeamBlock) != edits_from(row, (block + 1) * kBeamBlock);
    }

    // Takes them out of the block: they are looked at one by one.
    const Real* without_edits(int64_t row, int64_t block, const Real* x, Real* buffer) const {
        const int64_t first = block * kBeamBlock;
        const int64_t count = smaller(kBeamBlock, o_.vocabulary - first);
        if (x != buffer) __builtin_memcpy(buffer, x, kBeamBlock * sizeof(Real));
        if (args_.allowed) {
            const uint8_t* allowed = args_.allowed + row * args_.allowed_stride + first;
            for (int64_t c = 0; c < count; ++c) {
                buffer[c] = allowed[c] ? buffer[c] : -kInfinity<Real>;
            }
        }
        const uint64_t* edits = edits_ + row * edit_capacity_;
        const int64_t end = edit_count(row) > 0 ? edits_from(row, first) : 0;
        for (int64_t i = end > 0 ? edits_from(row, first + kBeamBlock) : 0; i < end; ++i) {
            buffer[static_cast<int64_t>(edits[i] >> 1) - first] = -kInfinity<Real>;
        }
        return buffer;
    }

    // ---- the pass over the logits ----

    const Storage* logits_of(int64_t row) const {
        return static_cast<const Storage*>(args_.logits) + row * args_.logits_stride;
    }

    // A block over the temperature, -inf behind the row's end: in the buffer or where it is.
    SEQFAST_INLINE const Real* fetch(int64_t row, int64_t block, Real* buffer) const {
        const Storage* from = logits_of(row) + block * kBeamBlock;
        const int64_t count = smaller(kBeamBlock, o_.vocabulary - block * kBeamBlock);
        if constexpr (std::is_same_v<Storage, Real>) {
            if (count == kBeamBlock && inverse_temperature_ == 1) return from;
        }
        const V scale = broadcast(inverse_temperature_);
        int64_t c = 0;
        for (; c + lanes <= count; c += lanes) {
            store(buffer + c, load<Real>(from + c, std::integral_constant<int, lanes>{}) * scale);
        }
        for (; c < count; ++c) buffer[c] = widen(from[c]) * inverse_temperature_;
        for (; c < kBeamBlock; ++c) buffer[c] = -kInfinity<Real>;
        return buffer;
    }

    void sum_tile(int64_t row, int64_t tile) {
        alignas(64) Real buffer[kBeamBlock];
        const int64_t end = smaller(blocks_, (tile + 1) * kBeamTile);
        const bool is_free = kind_of(sentence_of(row / o_.beams)) == Kind::free;
        ExpSummer<Real, kBeamBlock> summer;
        bool bad = false;
        for (int64_t block = tile * kBeamTile; block < end; ++block) {
            const bool edits = is_free && has_edits(row, block);
            const Real* x = fetch(row, block, buffer);
            if (edits && o_.renormalize) {
                for (int64_t c = 0; c < kBeamBlock; ++c) bad |= !(x[c] < kInfinity<Real>);
                x = without_edits(row, block, x, buffer);
            }
            Real largest = summer.largest_of(x);
            summer.add(x, largest);
            if (edits && !o_.renormalize) {
                largest = summer.largest_of(without_edits(row, block, x, buffer));
            }
            maxima_[row * blocks_ + block] = largest;
        }
        const ExpSum<Real> sum = summer.result();
        sums_[row * tiles_ + tile] = sum;
        if (bad || sum.sum != sum.sum) note_bad_row(row);
    }

    void note_bad_row(int64_t row) {
        int64_t before = __atomic_load_n(&bad_row_, __ATOMIC_RELAXED);
        while (row < before && !__atomic_compare_exchange_n(&bad_row_, &before, row, true,
                                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        }
    }

    // A product that is not fused with the sum it goes into, as in the blocks.
    static Real rounded(Real product) {
        volatile Real kept = product;
        return kept;
    }

    Real logit(int64_t row, int64_t token) const {
        return rounded(static_cast<Real>(widen(logits_of(row)[token])) * inverse_temperature_);
    }

    // In the order of columns, then of edits: the same whoever summed them.
    Real log_sum(int64_t row, Kind kind) const {
        const ExpSum<Real>* sums = sums_ + row * tiles_;
        const bool ending = o_.renormalize && kind == Kind::ending;
        double largest = -kInfinity<double>, sum = 0;
        for (int64_t t = 0; !ending && t < tiles_; ++t) {
            largest = sums[t].largest > largest ? sums[t].largest : largest;
        }
        each_edited(row, kind, [&](double x) { largest = x > largest ? x : largest; });
        if (largest == -kInfinity<double>) return -kInfinity<Real>;
        for (int64_t t = 0; !ending && t < tiles_; ++t) {
            sum += sums[t].sum * exp_of(sums[t].largest - largest);
        }
        each_edited(row, kind, [&](double x) { sum += exp_of(x - largest); });
        return static_cast<Real>(largest + log_of(sum));
    }

    // What the softmax has beside the blocks.
    template <class Body>
    void each_edited(int64_t row, Kind kind, Body&& body) const {
        if (!o_.renormalize || kind == Kind::forced) return;
        each_alone(row, kind, [&](int64_t token) { body(edited(row, token, logit(row, token))); });
    }

    // Tokens that are candidates by themselves, not in blocks.
    template <class Body>
    void each_alone(int64_t row, Kind kind, Body&& body) const {
        if (kind == Kind::ending) {
            for (int64_t e = 0; e < o_.eos_count; ++e) body(args_.eos[e]);
            return;
        }
        const uint64_t* edits = edits_ + row * edit_capacity_;
        for (int64_t i = edit_count(row) - 1; i >= 0; --i) {
            if (!(edits[i] & 1)) body(static_cast<int64_t>(edits[i] >> 1));
        }
    }

    // The log-probability that is chosen by and the one that is reported.
    Value value_of(int64_t row, int64_t token, Real log_sum) const {
        const Real x = logit(row, token);
        if (log_sum == -kInfinity<Real>) return {-kInfinity<Real>, -kInfinity<Real>};
        if (o_.renormalize) {
            const Real y = edited(row, token, x) - log_sum;
            return {y, y};
        }
        return {edited(row, token, x - log_sum), x - log_sum};
    }

    DrawAt draw_at(int64_t row) const {
        const int64_t stream_row = sentence_of(row / o_.beams) * o_.beams + row % o_.beams;
        return {*args_.seed, static_cast<uint32_t>(stream_row), static_cast<uint32_t>(step_),
                kGumbelStream};
    }

    Real gumbel_of(int64_t row, int64_t token) const {
        Real variables[kDrawUnits] = {};
        add_gumbel(variables, draw_at(row), token / kDrawUnits);
        return variables[token % kDrawUnits];
    }

    // What the tokens of a block are compared by, those taken out at -inf.
    void values_of(int64_t row, int64_t block, Real log_sum, Real* buffer) const {
        const Real* x = fetch(row, block, buffer);
        for (int64_t c = 0; c < kBeamBlock; ++c) buffer[c] = x[c] - log_sum;
        if (has_edits(row, block)) without_edits(row, block, buffer, buffer);
        if (!o_.noise) return;
        for (int64_t g = 0; g < kBeamBlock / kDrawUnits; ++g) {
            add_gumbel(buffer + g * kDrawUnits, draw_at(row),
                       block * (kBeamBlock / kDrawUnits) + g);
        }
    }

    void perturb_tile(int64_t row, int64_t tile) {
        const Kind kind = kind_of(sentence_of(row / o_.beams));
        if (kind != Kind::free) return;
        const Real sum = log_sum(row, kind);
        if (sum == -kInfinity<Real>) return;
        alignas(64) Real buffer[kBeamBlock];
        const int64_t end = smaller(blocks_, (tile + 1) * kBeamTile);
        for (int64_t block = tile * kBeamTile; block < end; ++block) {
            values_of(row, block, sum, buffer);
            maxima_[row * blocks_ + block] = ExpSummer<Real, kBeamBlock>::largest_of(buffer);
        }
    }

    // ---- candidates of rows and groups ----

    Real* scores(int64_t b) const { return static_cast<Real*>(args_.scores) + b * o_.beams; }
    Real* keys(int64_t b) const { return static_cast<Real*>(args_.keys) + b * o_.beams; }

    // The largest value of a block, as values_of will have it.
    Real largest_value(int64_t row, int64_t block) const {
        const Real largest = maxima_[row * blocks_ + block];
        return o_.noise ? largest : largest - log_sums_[row];
    }

    bool has_values(int64_t row) const { return log_sums_[row] > -kInfinity<Real>; }

    // The `wanted`-th largest of blocks' maxima, each of which is a candidate's key.
    Real limit_of(int64_t first_row, int64_t rows, const Real* bases, int64_t wanted,
                  Candidate<Real>* buffer) const {
        Best<Real> best(buffer, wanted);
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t row = first_row + r;
            const Real base = bases ? bases[r] : Real(0);
            if (base == -kInfinity<Real> || !has_values(row)) continue;
            for (int64_t block = 0; block < blocks_; ++block) {
                const Real key = base + largest_value(row, block);
                if (key >= best.limit()) best.push({key, r, Real(0), block});
            }
        }
        const int64_t count = best.finish();
        return count < wanted ? -kInfinity<Real> : buffer[wanted - 1].key();
    }

    // The second look is at few blocks, which the caches may have lost: all are sent for at once.
    void fetch_ahead(int64_t first_row, const Real* bases, Real limit) const {
        if (limit == kLowest<Real>) return;  // nearly all of them
        for (int64_t r = 0; r < own_; ++r) {
            const int64_t row = first_row + r;
            if (bases[r] == -kInfinity<Real> || !has_values(row)) continue;
            for (int64_t block = 0; block < blocks_; ++block) {
                if (!(bases[r] + largest_value(row, block) >= limit)) continue;
                const Storage* from = logits_of(row) + block * kBeamBlock;
                constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(Storage));
                for (int64_t c = 0; c < kBeamBlock; c += line) __builtin_prefetch(from + c);
            }
        }
    }

    // Every candidate of a row that `best` may want; keys are `base` + value.
    void look_through(int64_t row, int64_t beam, Kind kind, Real base, Best<Real>& best) const {
        const Real log_sum = log_sums_[row];
        if (!has_values(row)) return;
        if (kind == Kind::free) {
            alignas(64) Real buffer[kBeamBlock];
            for (int64_t block = 0; block < blocks_; ++block) {
                if (!(base + largest_value(row, block) >= best.limit())) continue;
                values_of(row, block, log_sum, buffer);
                look_at_block(buffer, block * kBeamBlock, beam, base, best);
            }
        }
        each_alone(row, kind, [&](int64_t token) {
            Real value = value_of(row, token, log_sum).score;
            if (value == -kInfinity<Real>) return;
            if (o_.noise) value += gumbel_of(row, token);
            best.push({base + value, beam, value, token});
        });
    }

    SEQFAST_INLINE void look_at_block(const Real* values, int64_t first, int64_t beam, Real base,
                                      Best<Real>& best) const {
        constexpr int vectors = static_cast<int>(kBeamBlock) / lanes;
        constexpr int at_once = vectors < 32 ? vectors : 32;
        for (int v = 0; v < vectors; v += at_once) {
            const V limit = broadcast(best.limit());
            each_lane_where<at_once, Real>(
                [&](int i) { return base + load(values + (v + i) * lanes) >= limit; },
                [&](int i, int lane) {
                    const int64_t c = (v + i) * lanes + lane;
                    best.push({base + values[c], beam, values[c], first + c});
                });
        }
    }

    // Sampling without replacement (Kool et al. 2019): a Gumbel variable, given that the largest of
    // its row is `wanted`.
    static Real conditioned(double key, double largest, double wanted) {
        if (key == largest) return static_cast<Real>(wanted);
        const double v = wanted - key + log_of(1 - exp_of(key - largest));
        const double above = v > 0 ? v : 0;
        return static_cast<Real>(wanted - above - log_of(1 + exp_of(v > 0 ? -v : v)));
    }

    Real diversity_penalty(const Scratch& own, int64_t token) const {
        if (o_.diversity == 0) return 0;
        return rounded(static_cast<Real>(o_.diversity) *
                       static_cast<Real>(times_chosen(own, token)));
    }
    int64_t times_chosen(const Scratch& own, int64_t token) const {
        return chosen_below(own, token + 1) - chosen_below(own, token);
    }
    int64_t chosen_below(const Scratch& own, int64_t token) const {
        return count_while(own.chosen_count, [&](int64_t i) { return own.chosen[i] < token; });
    }

    // Of a candidate: its hypothesis' score, and its own log-probability.
    Value candidate_value(int64_t b, int64_t beam, Kind kind, int64_t token,
                          const Scratch& own) const {
        const int64_t row = b * o_.beams + beam;
        const Real score = scores(b)[beam];
        Value value = {};
        if (kind == Kind::forced) {
            const Real x = logit(row, token);
            const Real plain = has_values(row) ? x - log_sums_[row] : -kInfinity<Real>;
            value = {o_.score_prefix ? score + plain : score, plain};
        } else {
            value = value_of(row, token, log_sums_[row]);
            value.score = score + value.score;
        }
        value.score -= diversity_penalty(own, token);
        return value;
    }

    // The candidates of a group in order, in own.group; returns how many.
    int64_t collect(int64_t b, int64_t group, Kind kind, Scratch& own) {
        const int64_t first = group * own_, row0 = b * o_.beams;
        const int64_t sentence = sentence_of(b);
        Best<Real> best(own.group, depth_);
        for (int64_t k = first; k < first + own_; ++k) {
            if (scores(b)[k] > -kInfinity<Real>) log_sums_[row0 + k] = log_sum(row0 + k, kind);
        }
        if (direct_ && kind == Kind::free) {
            best.raise(limit_of(row0 + first, own_, scores(b) + first, depth_, own.limits));
            fetch_ahead(row0 + first, scores(b) + first, best.limit());
        }
        int64_t ends = 0;  // EOS whatever their rank, in own.limits
        for (int64_t k = first; k < first + own_; ++k) {
            const Real score = scores(b)[k];
            if (score == -kInfinity<Real>) continue;
            if (kind == Kind::forced) {
                propose_prefix(b, k, args_.prefix[sentence * args_.prefix_capacity + step_], best,
                               own);
            } else if (direct_) {
                look_through(row0 + k, k, kind, score, best);
                if (o_.eos_pool != EosPool::any) continue;
                for (int64_t e = 0; e < o_.eos_count; ++e) {
                    const Real value = value_of(row0 + k, args_.eos[e], log_sums_[row0 + k]).score;
                    own.limits[ends++] = {score + value, k, value, args_.eos[e]};
                }
            } else {
                propose(b, k, kind, best, ends, own);
            }
        }
        int64_t count = best.finish();
        return o_.eos_pool == EosPool::any ? with_ends(own, count, ends) : count;
    }

    void propose_prefix(int64_t b, int64_t k, int64_t token, Best<Real>& best, Scratch& own) const {
        if (static_cast<uint64_t>(token) >= static_cast<uint64_t>(o_.vocabulary)) return;
        const Value value = candidate_value(b, k, Kind::forced, token, own);
        Real key = value.score;
        if (o_.noise && key > -kInfinity<Real>) {
            key = keys(b)[k] - diversity_penalty(own, token);
        }
        if (key > -kInfinity<Real>) best.push({key, k, Real(0), token});
    }

    // The row's own best first, as their keys are not simply sums.
    void propose(int64_t b, int64_t k, Kind kind, Best<Real>& best, int64_t& ends, Scratch& own) {
        const int64_t row = b * o_.beams + k;
        Best<Real> mine(own.row, proposals_);
        if (kind == Kind::free) {
            mine.raise(limit_of(row, 1, nullptr, proposals_, own.limits + ends));
        }
        look_through(row, k, kind, Real(0), mine);
        const int64_t count = mine.finish();
        if (count == 0) return;
        const Real score = scores(b)[k], largest = own.row[0].value();
        const auto keyed = [&](int64_t token, Real value) {
            Real key = value_of(row, token, log_sums_[row]).score + score;
            if (o_.noise && key > -kInfinity<Real>) {
                key = conditioned(score + value, score + largest, keys(b)[k]);
            }
            return Candidate<Real>(key - diversity_penalty(own, token), k, value, token);
        };
        for (int64_t i = 0; i < count; ++i)
            best.push(keyed(own.row[i].token(), own.row[i].value()));
        if (o_.eos_pool != EosPool::any) return;
        for (int64_t e = 0; e < o_.eos_count; ++e) {
            Real value = value_of(row, args_.eos[e], log_sums_[row]).score;
            if (o_.noise) value += gumbel_of(row, args_.eos[e]);
            own.limits[ends++] = keyed(args_.eos[e], value);
        }
    }

    // Those EOS that are not among the candidates already.
    int64_t with_ends(Scratch& own, int64_t count, int64_t ends) const {
        const int64_t before = count;
        for (int64_t e = 0; e < ends; ++e) {
            const Candidate<Real> end = own.limits[e];
            if (end.key() == -kInfinity<Real>) continue;
            const int64_t place =
                count_while(before, [&](int64_t i) { return own.group[i] > end; });
            if (place == before || end > own.group[place]) own.group[count++] = end;
        }
        if (count > before) sort_keys(own.group, count);
        return count;
    }

    // ---- what becomes of them ----

    void advance(int64_t b, Scratch& own) {
        const int64_t sentence = sentence_of(b);
        own.chosen_count = 0;
        for (int64_t group = 0; group < o_.groups; ++group) {
            if (args_.done[sentence * o_.groups + group] == 1) {
                stand_still(b, group);
            } else {
                advance_group(b, sentence, group, own);
            }
        }
        write_history(b);
    }

    void stand_still(int64_t b, int64_t group) {
        for (int64_t k = group * own_; k < (group + 1) * own_; ++k) {
            scores(b)[k] = -kInfinity<Real>;
            args_.next_tokens[b * o_.beams + k] = args_.eos[0];
            args_.next_rows[b * o_.beams + k] = b * o_.beams + k;
        }
    }

    // One group's places in the pool of ended hypotheses.
    struct Pool {
        Real *scores, *logprobs, *last, *keys;
        int32_t *steps, *parents, *tokens, *count;
    };
    Pool pool_of(int64_t sentence, int64_t group) const {
        const int64_t index = sentence * o_.groups + group, at = index * o_.pool;
        return {static_cast<Real*>(args_.pool_scores) + at,
                static_cast<Real*>(args_.pool_logprobs) + at,
                static_cast<Real*>(args_.pool_last) + at,
                args_.pool_keys ? static_cast<Real*>(args_.pool_keys) + at : nullptr,
                args_.pool_steps + at,
                args_.pool_parents + at,
                args_.pool_tokens + at,
                args_.pool_counts + index};
    }

    static void insert(Real* array, int64_t place, int64_t last, Real value) {
        for (int64_t i = last; i > place; --i) array[i] = array[i - 1];
        array[place] = value;
    }
    static void insert(int32_t* array, int64_t place, int64_t last, int64_t value) {
        for (int64_t i = last; i > place; --i) array[i] = array[i - 1];
        array[place] = static_cast<int32_t>(value);
    }

    void insert(const Pool& pool, int64_t place, const Candidate<Real>& candidate,
                const Value& value, Real score) const {
        const int64_t last = o_.pool - 1;
        insert(pool.scores, place, last, score);
        insert(pool.logprobs, place, last, value.score);
        insert(pool.last, place, last, value.logprob);
        if (pool.keys) insert(pool.keys, place, last, candidate.key());
        insert(pool.steps, place, last, step_);
        insert(pool.parents, place, last, candidate.beam());
        insert(pool.tokens, place, last, candidate.token());
        if (*pool.count < o_.pool) ++*pool.count;
    }

    Real normalised(Real score, int64_t length, bool eos) const {
        const int64_t n = larger(length - (eos && !o_.count_eos), 0);
        return score / static_cast<const Real*>(args_.divisor)[n] +
               static_cast<const Real*>(args_.addend)[n];
    }

    // Behind equal ones, where it is good enough.
    void keep(const Pool& pool, const Candidate<Real>& candidate, const Value& value,
              Real score) const {
        const int64_t count = *pool.count;
        if (count == o_.pool && (o_.stop == StopRule::first_k || score <= pool.scores[count - 1])) {
            return;
        }
        int64_t place = 0;
        for (int64_t i = 0; i < count; ++i) place += pool.scores[i] >= score;
        insert(pool, smaller(place, o_.pool - 1), candidate, value, score);
    }

    int64_t rank_limit(bool last) const {
        const int64_t limit = o_.eos_pool == EosPool::top2k ? 2 * own_
                              : o_.eos_pool == EosPool::any ? 0
                                                            : own_;
        return last ? larger(limit, own_) : limit;
    }

    void advance_group(int64_t b, int64_t sentence, int64_t group, Scratch& own) {
        const Kind kind = kind_of(sentence);
        const bool last = is_last(sentence);
        const int64_t count = collect(b, group, kind, own);
        const int64_t length = larger(step_ + 1 - given(sentence), 0);
        uint8_t& done = args_.done[sentence * o_.groups + group];
        const Pool pool = pool_of(sentence, group);
        int64_t filled = 0;
        const auto fill = [&](const Candidate<Real>& c, const Value& value) {
            own.slots[filled++] = {value.score, c.key(), value.logprob, c.token(), c.beam()};
        };
        if (o_.eos_pool == EosPool::competing) {
            compete(b, kind, pool, count, length, last, own, fill, filled);
        } else {
            const int64_t limit = rank_limit(last);
            for (int64_t rank = 0; rank < count; ++rank) {
                const Candidate<Real> c = own.group[rank];
                const bool eos = is_eos(c.token());
                if (eos || last) {
                    if (rank < limit || (o_.eos_pool == EosPool::any && eos)) {
                        const Value value = candidate_value(b, c.beam(), kind, c.token(), own);
                        keep(pool, c, value, normalised(value.score, length, eos));
                    }
                    if (o_.eos_pool == EosPool::inbeam && rank < own_) {
                        own.slots[filled++] = {-kInfinity<Real>, 0, 0, 0, -1};
                    }
                } else if (filled < own_) {
                    fill(c, candidate_value(b, c.beam(), kind, c.token(), own));
                }
            }
            if (count > 0 && is_eos(own.group[0].token()) && done == 0) done = 2;
        }
        for (; filled < own_; ++filled) own.slots[filled] = {-kInfinity<Real>, 0, 0, 0, -1};
        const Real best = write_beams(b, sentence, group, own);
        stop(b, sentence, group, length, best);
    }

    // Ended hypotheses keep their place only while their key is among the group's largest.
    template <class Fill>
    void compete(int64_t b, Kind kind, const Pool& pool, int64_t count, int64_t length, bool last,
                 Scratch& own, Fill&& fill, const int64_t& filled) const {
        Real* keys = pool.keys ? pool.keys : pool.logprobs;
        int64_t places = own_, kept = 0;
        for (int64_t i = 0; i < count; ++i) {
            const Candidate<Real> c = own.group[i];
            for (; kept < *pool.count && places > 0 && keys[kept] >= c.key(); ++kept) --places;
            if (places == 0) break;
            --places;
            const Value value = candidate_value(b, c.beam(), kind, c.token(), own);
            const bool eos = is_eos(c.token());
            if (eos || last) {
                insert(pool, kept++, c, value, normalised(value.score, length, eos));
            } else {
                fill(c, value);
            }
        }
        const int64_t most = own_ - filled;
        if (*pool.count > most) {
            *pool.count = static_cast<int32_t>(most);
            for (int64_t i = most; i < o_.pool; ++i) pool.scores[i] = keys[i] = -kInfinity<Real>;
        }
    }

    // Returns the best score among the group's living beams.
    Real write_beams(int64_t b, int64_t sentence, int64_t group, Scratch& own) {
        const int64_t first = group * own_, row0 = b * o_.beams;
        Real best = -kInfinity<Real>;
        for (int64_t i = 0; i < own_; ++i) {
            Slot slot = own.slots[i];
            const int64_t k = first + i;
            if (slot.parent < 0) {
                slot = {-kInfinity<Real>, 0, 0, args_.eos[0], first};
            } else {
                best = slot.score > best ? slot.score : best;
                if (o_.noise) keys(b)[k] = slot.key;
                if (o_.diversity != 0) note_chosen(own, static_cast<int32_t>(slot.token));
            }
            const int64_t record = (step_ * args_.sentences + sentence) * o_.beams + k;
            scores(b)[k] = slot.score;
            args_.next_tokens[row0 + k] = slot.token;
            args_.next_rows[row0 + k] = row0 + slot.parent;
            args_.tokens[record] = static_cast<int32_t>(slot.token);
            args_.parents[record] = static_cast<int32_t>(slot.parent);
            static_cast<Real*>(args_.logprobs)[record] = slot.logprob;
        }
        return best;
    }

    static void note_chosen(Scratch& own, int32_t token) {
        int64_t place = own.chosen_count++;
        for (; place > 0 && own.chosen[place - 1] > token; --place) {
            own.chosen[place] = own.chosen[place - 1];
        }
        own.chosen[place] = token;
    }

    void stop(int64_t b, int64_t sentence, int64_t group, int64_t length, Real best) {
        const int64_t index = sentence * o_.groups + group, count = args_.pool_counts[index];
        uint8_t& done = args_.done[index];
        const bool enough = count >= o_.wanted, dead = best == -kInfinity<Real>;
        const auto reached = [&](const void* divisor, const void* addend) {
            const Real* scores = static_cast<const Real*>(args_.pool_scores) + index * o_.pool;
            return enough &&
                   scores[o_.wanted - 1] >= best / static_cast<const Real*>(divisor)[length] +
                                                static_cast<const Real*>(addend)[length];
        };
        bool ends = dead;
        if (!dead && o_.eos_pool != EosPool::competing) {
            ends = o_.stop == StopRule::exact     ? reached(args_.bound_divisor, args_.bound_addend)
                   : o_.stop == StopRule::first_k ? count >= own_
                                                  : done == 2 && enough;
        }
        if (!ends) return;
        done = 1;
        args_.certified[index] = dead || reached(args_.certain_divisor, args_.certain_addend);
        for (int64_t k = group * own_; k < (group + 1) * own_; ++k) {
            scores(b)[k] = -kInfinity<Real>;
        }
    }

    void write_history(int64_t b) const {
        if (!args_.history) return;
        const int64_t length = args_.history_start[b] + step_, capacity = args_.history_capacity;
        const int64_t* next_rows = args_.next_rows + b * o_.beams;
        for (int64_t k = 0; k < o_.beams; ++k) {
            const int32_t* from = args_.history + (half_ * rows_total_ + next_rows[k]) * capacity;
            int32_t* to = args_.history + ((1 - half_) * rows_total_ + b * o_.beams + k) * capacity;
            __builtin_memcpy(to, from, static_cast<size_t>(smaller(length, capacity)) * 4);
            if (length < capacity) {
                to[length] = static_cast<int32_t>(args_.next_tokens[b * o_.beams + k]);
            }
        }
    }

    const BeamStepArgs& args_;
    const BeamOptions& o_;
    int threads_;
    int64_t rows_total_, own_, blocks_, tiles_, proposals_, depth_, edit_capacity_;
    bool direct_;
    Real inverse_temperature_;
    size_t used_;
    int64_t step_ = 0, half_ = 0, living_ = 0, bad_row_ = 0;

    int64_t* rows_;         // [living_] rows with a hypothesis
    Real* log_sums_;        // [batch * beams]
    Real* maxima_;          // [batch * beams, blocks]
    ExpSum<Real>* sums_;    // [batch * beams, tiles]
    uint64_t* edits_;       // [batch * beams, edit_capacity_]
    int64_t* edit_counts_;  // [batch * beams]
    Scratch* scratch_;      // [threads]
};

}  // namespace seqfast::cpu::SEQFAST_ISA
