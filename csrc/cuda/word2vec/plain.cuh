// Windows one after the other: a worker goes through consecutive rounds with the rows around the
// centre in memory of its own, and adds what came of them when they leave.
#pragma once

#include "cuda/word2vec/tokens.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// A worker is a block; each of its warps has 128 columns of all rows, and its own copy of all that
// does not depend on columns, so that only logits are traded. Sizes and places in bytes are from
// the begin of a warp's memory.
struct PlainPlan {
    int warps;        // of a worker
    int row_vectors;  // F32x4 of a row that a warp has
    int reach;        // most contexts on each side
    int slots;        // rows of the ring; one more is the mean of a window of CBOW
    int queue;        // tokens that are known, a power of two
    int targets;      // most of a window
    bool in_shared, draws_ahead;
    int64_t then_rows, now_rows, change_rows;
    int64_t tokens, owners, contexts, target_list, ahead, warp_bytes;
    int64_t shared_bytes;  // of a block, with what its warps share
    char* memory;          // [workers][warps][warp_bytes] where it is not in_shared
    uint32_t* next_chunk;
    int64_t workers, chunks, chunk_rounds;
};

// Of one token in the queue. Numbers of tokens count from the first one a chunk looks at.
struct KeptToken {
    int id, position;  // in the corpus, from the begin of the chunk
    int first;         // token of its sentence
    int slot;
    int before, after;  // the same word in the ring
};
struct RingSlot {
    int id;    // -1: free
    int last;  // token that holds it
};
// A row that a window changes: how many contexts it is.
struct Context {
    int slot;  // as is, or, where it is locked, from -1 down
    float count;
    float most, sum;  // of the full softmax
};
struct Target {
    int row;       // see target_row
    float weight;  // how many targets it is; below 0: with label 0
};

// What is shared by the warps of a block: the next chunk, logits of two tiles; then errors of a
// tile for each warp.
constexpr int64_t plain_errors_at(int warps) { return 16 + (warps > 1 ? 2 * warps * 32 * 4 : 0); }
constexpr int64_t plain_shared_bytes(int warps) {
    return (plain_errors_at(warps) + warps * 40 * 4 + 127) / 128 * 128;
}
constexpr int never = 0x7FFFFFFF;
// Centres whose numbers are drawn at once.
constexpr int centres_ahead = 16;

enum class PlainUse { windows, vectors, any };

// A tile of contexts times targets: their logits at once, so that each lane has one pair.
template <int contexts_, int targets_, PlainUse use_>
struct PlainTile {
    static constexpr int contexts = contexts_, targets = targets_;
    static constexpr PlainUse use = use_;
    static constexpr int sums = contexts * targets > 16  ? 32
                                : contexts * targets > 8 ? 16
                                : contexts * targets > 4 ? 8
                                                         : 4;
    static constexpr int error_stride = (targets + 3) / 4 * 4;
    static_assert(contexts * targets <= sums && contexts * error_stride <= 40);
};

template <class Tile>
class PlainWorker {
  public:
    SEQFAST_DEVICE PlainWorker(const Word2VecArgs& args, const PlainPlan& plan)
        : args_(args), plan_(plan) {
        warp_ = plan.warps > 1 ? warp_index() : 0;
        lane_ = lane_index();
        vector_ = warp_ * 32 + lane_;
        active_ = lane_ < plan.row_vectors && vector_ * 4 < args.stride;
        softmax_ = Tile::use == PlainUse::any && args.negative == 0 && !args.hierarchical;
        vectors_ = Tile::use == PlainUse::vectors ||
                   (Tile::use == PlainUse::any && (args.cbow || !args.shared_negatives));
        if (Tile::use != PlainUse::any || plan.in_shared)
            memory_ = dynamic_shared() + plain_shared_bytes(plan.warps) + warp_ * plan.warp_bytes;
        else
            memory_ = plan.memory + (int64_t(block_x()) * plan.warps + warp_) * plan.warp_bytes;
    }

    SEQFAST_DEVICE void run() {
        for (;;) {
            const int64_t chunk = claim();
            if (chunk >= plan_.chunks) return;
            const int64_t first = args_.first_round + chunk * plan_.chunk_rounds;
            const int64_t last = first + plan_.chunk_rounds;
            run_chunk(first, last < args_.last_round ? last : args_.last_round);
        }
    }

  private:
    const Word2VecArgs& args_;
    const PlainPlan& plan_;
    int warp_, lane_, vector_;
    bool active_, softmax_, vectors_;
    char* memory_;
    int parity_ = 0;

    int head_, entered_, left_;  // tokens known, in the ring, gone
    int first_of_sentence_;
    int64_t chunk_begin_;
    int chunk_tokens_;
    F32x4 coming_;  // the row of the last token that entered, on its way
    int coming_slot_ = -1;

    int round_;  // of the chunk
    float rate_;
    double loss_;
    int kept_, examples_;

    SEQFAST_DEVICE F32x4* row_of(int64_t place, int64_t slot) const {
        return reinterpret_cast<F32x4*>(memory_ + place) + slot * plan_.row_vectors + lane_;
    }
    SEQFAST_DEVICE F32x4& then(int slot) const { return *row_of(plan_.then_rows, slot); }
    SEQFAST_DEVICE F32x4& now(int slot) const { return *row_of(plan_.now_rows, slot); }
    SEQFAST_DEVICE F32x4& change(int i) const { return *row_of(plan_.change_rows, i); }
    SEQFAST_DEVICE KeptToken& token(int i) const {
        return reinterpret_cast<KeptToken*>(memory_ + plan_.tokens)[i & (plan_.queue - 1)];
    }
    SEQFAST_DEVICE RingSlot& owner(int slot) const {
        return reinterpret_cast<RingSlot*>(memory_ + plan_.owners)[slot];
    }
    SEQFAST_DEVICE Context& context(int i) const {
        return reinterpret_cast<Context*>(memory_ + plan_.contexts)[i];
    }
    SEQFAST_DEVICE Target& target(int i) const {
        return reinterpret_cast<Target*>(memory_ + plan_.target_list)[i];
    }
    SEQFAST_DEVICE float* errors() const {
        return reinterpret_cast<float*>(dynamic_shared() + plain_errors_at(plan_.warps)) +
               warp_ * 40;
    }
    // Needed so seldom that they are not kept in registers.
    SEQFAST_DEVICE KeptTokens::State& stream() const {
        return *reinterpret_cast<KeptTokens::State*>(memory_);
    }
    // For the next centres: how far each reaches, then their negatives.
    SEQFAST_DEVICE int* ahead() const { return reinterpret_cast<int*>(memory_ + plan_.ahead); }

    SEQFAST_DEVICE static F32x4 zeros() { return {0, 0, 0, 0}; }
    // Others are adding to it.
    SEQFAST_DEVICE F32x4 load(const float* row) const {
        const U32x4 bits = load_relaxed(reinterpret_cast<const U32x4*>(row) + vector_);
        return {float_of(bits.x), float_of(bits.y), float_of(bits.z), float_of(bits.w)};
    }
    SEQFAST_DEVICE bool is_locked(int id) const { return args_.locked && args_.locked[id]; }

    SEQFAST_DEVICE int64_t claim() {
        auto* const place = reinterpret_cast<uint32_t*>(dynamic_shared());
        if (warp_ == 0) {
            uint32_t mine = 0;
            if (lane_ == 0) mine = atomic_add(plan_.next_chunk, 1u);
            mine = shuffle(mine, 0);
            if (plan_.warps == 1) return mine;
            if (lane_ == 0) *place = mine;
        }
        block_sync();
        const int64_t chunk = *place;
        block_sync();
        return chunk;
    }

    // ---- Tokens, rounds -------------------------------------------------------------------------

    SEQFAST_DEVICE void run_chunk(int64_t first_round, int64_t last_round) {
        chunk_begin_ = first_round * kWord2VecRound;
        const int64_t end = last_round * kWord2VecRound;
        const int64_t chunk_end = end < args_.tokens ? end : args_.tokens;
        chunk_tokens_ = int(chunk_end - chunk_begin_);
        head_ = entered_ = left_ = first_of_sentence_ = 0;
        for (int slot = lane_; slot < plan_.slots; slot += 32) owner(slot).id = -1;
        warp_sync();
        KeptTokens tokens(args_);
        const int first = tokens.begin(chunk_begin_, chunk_end, plan_.reach);
        if (lane_ == 0) stream() = tokens.state;
        warp_sync();
        begin_round(0);
        for (int centre = first;; ++centre) {
            const int i = (centre - first) % centres_ahead;
            if (i == 0) {
                look_ahead(centre + centres_ahead + plan_.reach);
                if (plan_.draws_ahead) draw_ahead(centre);
            }
            if (centre >= head_ || token(centre).position >= chunk_tokens_) break;
            while (round_ < token(centre).position / int(kWord2VecRound)) {
                end_round();
                begin_round(round_ + 1);
            }
            settle();
            while (entered_ < centre + plan_.reach + 1 && entered_ < head_) {
                enter(entered_++);
                settle();
            }
            // Its row arrives while this window is worked on.
            if (entered_ < head_) enter(entered_++);
            run_window(centre, i);
            if (left_ <= centre - plan_.reach) leave(left_++);
        }
        settle();
        while (left_ < entered_) leave(left_++);
        for (;;) {
            end_round();
            if ((round_ + 1) * kWord2VecRound >= chunk_tokens_) break;
            begin_round(round_ + 1);
        }
    }

    SEQFAST_DEVICE void begin_round(int round) {
        round_ = round;
        rate_ = learning_rate(args_, chunk_begin_ / kWord2VecRound + round);
        loss_ = 0;
        kept_ = examples_ = 0;
    }
    SEQFAST_DEVICE void end_round() {
        const double loss = sum_over_lanes(loss_);
        if (warp_ == 0 && lane_ == 0) {
            const int64_t i = chunk_begin_ / kWord2VecRound + round_ - args_.first_round;
            args_.loss[i] = loss;
            args_.kept[i] = kept_;
            args_.examples[i] = examples_;
        }
    }

    // Tokens up to number `wanted` into the queue, where there are as many.
    SEQFAST_DEVICE void look_ahead(int wanted) {
        KeptTokens tokens(args_, stream());
        KeptTokens::Group group;
        warp_sync();
        while (head_ <= wanted && tokens.next(group)) {
            if (group.starts) first_of_sentence_ = head_;
            if (group.kept >> lane_ & 1) {
                const int64_t position = group.token - chunk_begin_;
                KeptToken& to = token(head_ + count_bits(group.kept & ((1u << lane_) - 1)));
                to.id = group.id;
                to.position = int(position < chunk_tokens_ ? position : chunk_tokens_);
                to.first = first_of_sentence_;
            }
            head_ += count_bits(group.kept);
        }
        if (lane_ == 0) stream() = tokens.state;
        warp_sync();
    }

    // What the next centres need, a lane for each.
    SEQFAST_DEVICE void draw_ahead(int centre) {
        const int mine = centre + lane_;
        if (lane_ < centres_ahead && mine < head_ && token(mine).position < chunk_tokens_) {
            const int64_t place = chunk_begin_ + token(mine).position;
            uint32_t words[4];
            for (int k = -1; k < args_.negative; ++k) {
                if ((k + 1) % 4 == 0)
                    draw_words(args_, uint64_t(place), kWindowStream + uint32_t(k + 1) / 4, words);
                const uint32_t word = pick_word(words, (k + 1) % 4);
                if (k < 0)
                    ahead()[lane_] = reach_of(args_, word);
                else
                    ahead()[centres_ahead + lane_ * args_.negative + k] =
                        negative_of(args_, alias_draw(args_, word));
            }
        }
        warp_sync();
    }

    // ---- Rows that come and go ------------------------------------------------------------------

    SEQFAST_DEVICE void enter(int i) {
        const int id = token(i).id;
        int slot = -1, free = -1;
        for (int begin = 0; begin < plan_.slots && slot < 0; begin += 32) {
            const int mine = begin + lane_ < plan_.slots ? owner(begin + lane_).id : -2;
            const uint32_t same = ballot(mine == id), unused = ballot(mine == -1);
            if (same) slot = begin + count_bits(~same & (same - 1));
            if (unused && free < 0) free = begin + count_bits(~unused & (unused - 1));
        }
        const bool is_new = slot < 0;
        if (is_new) {
            slot = free;
            coming_slot_ = slot;
            if (active_) coming_ = load(args_.input + id * args_.stride);
        }
        const int before = is_new ? -1 : owner(slot).last;
        warp_sync();
        if (lane_ == 0) {
            token(i).slot = slot;
            token(i).before = before;
            token(i).after = never;
            if (before >= 0) token(before).after = i;
            owner(slot) = {id, i};
        }
        warp_sync();
    }

    SEQFAST_DEVICE void settle() {
        if (coming_slot_ < 0) return;
        if (active_) now(coming_slot_) = then(coming_slot_) = coming_;
        coming_slot_ = -1;
    }

    SEQFAST_DEVICE void leave(int i) {
        const int slot = token(i).slot, id = token(i).id;
        const bool last = owner(slot).last == i;
        warp_sync();
        if (!last) return;
        if (active_ && !is_locked(id)) {
            const F32x4 a = now(slot), b = then(slot);
            add_vector(args_.input + id * args_.stride + 4 * vector_,
                       {a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w});
        }
        if (lane_ == 0) owner(slot).id = -1;
        warp_sync();
    }

    // ---- A window -------------------------------------------------------------------------------

    SEQFAST_DEVICE static int slot_of(const Context& from) {
        return from.slot < 0 ? ~from.slot : from.slot;
    }
    // A row of the mean, behind the ring.
    SEQFAST_DEVICE int mean_slot() const { return plan_.slots; }

    SEQFAST_DEVICE void run_window(int centre, int i) {
        warp_sync();  // the lists of the window before may be in use
        ++kept_;
        const int id = token(centre).id, first = token(centre).first;
        const int drawn =
            plan_.draws_ahead
                ? ahead()[i]
                : reach_of(args_, centre_word(args_, chunk_begin_ + token(centre).position, 0));
        const int reach = drawn < plan_.reach ? drawn : plan_.reach;
        const int begin = centre - reach > first ? centre - reach : first;
        int end = centre + reach + 1;
        if (end > head_) end = head_;

        const bool by_pairs = vectors_ && !args_.cbow;
        int contexts = 0, rows = 0;
        for (int from = begin; from < end; from += 32) {
            const int other = from + lane_;
            const bool is_context = other < end && other != centre && token(other).first == first;
            bool listed = is_context;
            int count = 1;
            if (is_context && !by_pairs) {
                // A word that is there several times is listed once, where it comes first.
                int before = token(other).before;
                if (before == centre) before = token(before).before;
                listed = before < begin;
                for (int next = token(other).after; listed && next < end; next = token(next).after)
                    count += next != centre && token(next).first == first;
            }
            const uint32_t all = ballot(is_context), mask = ballot(listed);
            if (listed) {
                const int slot = token(other).slot;
                context(rows + count_bits(mask & ((1u << lane_) - 1))) = {
                    is_locked(token(other).id) ? ~slot : slot, float(count), 0, 0};
            }
            contexts += count_bits(all);
            rows += count_bits(mask);
        }
        warp_sync();
        if (contexts == 0) return;
        const bool by_mean = vectors_ && args_.cbow;
        examples_ += by_mean ? 1 : contexts;
        const float share = args_.cbow_mean ? 1.0f / float(contexts) : 1.0f;
        // The mean stands behind the others, as a list of one.
        const int list = by_mean ? 2 * plan_.reach : 0;
        if (by_mean) {
            F32x4 mean = zeros();
            for (int j = 0; j < rows && active_; ++j)
                add_scaled(mean, share * context(j).count, now(slot_of(context(j))));
            if (active_) now(mean_slot()) = mean;
            if (lane_ == 0) context(list) = {mean_slot(), 1, 0, 0};
        }
        const int sets = by_pairs ? contexts : 1;
        for (int j = 0; j < sets; ++j) {
            const int64_t targets = list_targets(id, centre, i, j);
            if (targets == 0) return;  // of a single word there is no path
            update(list + j, vectors_ ? 1 : rows, targets, id, by_mean || targets > Tile::targets);
        }
        if (!by_mean || !active_) return;
        const float scale = args_.legacy_cbow ? 1.0f : share;
        for (int j = 0; j < rows; ++j)
            if (context(j).slot >= 0)
                add_scaled(now(context(j).slot), scale * context(j).count, change(0));
    }

    // How many there are; none are listed where all rows of output are.
    SEQFAST_DEVICE int64_t list_targets(int id, int centre, int i, int pair) {
        if (softmax_) return args_.vocabulary;
        warp_sync();  // the list before may be in use
        int count = 0;
        if (args_.negative > 0) {
            const int64_t place = chunk_begin_ + token(centre).position;
            const int64_t first_word = 1 + int64_t(pair) * args_.negative;
            for (int k = lane_; k <= args_.negative; k += 32) {
                if (k == 0) {
                    target(0) = {id, 1};
                    continue;
                }
                const int row =
                    plan_.draws_ahead
                        ? ahead()[centres_ahead + i * args_.negative + k - 1]
                        : negative_of(args_, alias_draw(args_, centre_word(args_, place,
                                                                           first_word + k - 1)));
                target(k) = {row, row == id ? 0.0f : -1.0f};
            }
            count = args_.negative + 1;
        }
        if (args_.hierarchical) {
            const int64_t begin = args_.path_offsets[id];
            const int steps = int(args_.path_offsets[id + 1] - begin);
            for (int k = lane_; k < steps; k += 32)
                target(count + k) = {~args_.path_nodes[begin + k],
                                     args_.path_codes[begin + k] ? -1.0f : 1.0f};
            count += steps;
        }
        warp_sync();
        if (count > Tile::targets && args_.negative > 1) join_negatives();
        return count;
    }

    // Rows are read tile by tile, so a row must not be in two tiles of a window.
    SEQFAST_DEVICE void join_negatives() {
        for (int from = 1; from <= args_.negative; from += 32) {
            const int k = from + lane_;
            float weight = 0;
            if (k <= args_.negative && target(k).weight != 0) {
                for (int other = 1; other <= args_.negative; ++other) {
                    if (target(other).row != target(k).row) continue;
                    if (other < k) {
                        weight = 0;
                        break;
                    }
                    weight -= 1;
                }
            }
            warp_sync();
            if (k <= args_.negative && target(k).weight != 0) target(k).weight = weight;
            warp_sync();
        }
    }

    // ---- Contexts times targets -----------------------------------------------------------------

    SEQFAST_DEVICE F32x4 load_target(int64_t i, int64_t targets) const {
        if (!active_ || i >= targets) return zeros();
        if (softmax_) return load(args_.output + i * args_.stride);
        const Target listed = target(int(i));
        return listed.weight == 0 ? zeros() : load(target_row(args_, listed.row));
    }

    // The lane's pair of a tile: logit, context and target of that tile.
    struct Pair {
        float logit;
        int context, target;
    };
    SEQFAST_DEVICE Pair logits(int list, int contexts, const F32x4 (&rows)[Tile::targets]) {
        float sums[Tile::sums];
        SEQFAST_UNROLL
        for (int i = Tile::contexts * Tile::targets; i < Tile::sums; ++i) sums[i] = 0;
        SEQFAST_UNROLL
        for (int j = 0; j < Tile::contexts; ++j) {
            F32x4 row = zeros();
            if (j < contexts && active_) row = now(slot_of(context(list + j)));
            SEQFAST_UNROLL
            for (int t = 0; t < Tile::targets; ++t) sums[j * Tile::targets + t] = dot(row, rows[t]);
        }
        float sum = sum_over_lanes(sums);
        if (plan_.warps > 1) {
            auto* const parts = reinterpret_cast<float*>(dynamic_shared() + 16) +
                                parity_ * plan_.warps * 32 + lane_;
            parity_ ^= 1;
            parts[warp_ * 32] = sum;
            block_sync();
            sum = 0;
            for (int w = 0; w < plan_.warps; ++w) sum += parts[w * 32];
        }
        const int i = lane_ / (32 / Tile::sums);
        return {sum, i / Tile::targets, i % Tile::targets};
    }

    // Of the full softmax: the largest logit of each context, and the sum of all powers.
    SEQFAST_DEVICE void sum_softmax(int list, int contexts, int64_t targets) {
        // Lanes with the targets of one context; those of a tile are a power of two.
        constexpr int one = 32 / Tile::sums;
        for (int j = lane_; j < contexts; j += 32) {
            context(list + j).most = -0x1p126f;
            context(list + j).sum = 0;
        }
        warp_sync();
        for (int64_t t0 = 0; t0 < targets; t0 += Tile::targets) {
            F32x4 rows[Tile::targets];
            SEQFAST_UNROLL
            for (int t = 0; t < Tile::targets; ++t) rows[t] = load_target(t0 + t, targets);
            for (int j0 = 0; j0 < contexts; j0 += Tile::contexts) {
                const Pair pair = logits(list + j0, contexts - j0, rows);
                const bool counts = t0 + pair.target < targets;
                float most = counts ? pair.logit : -0x1p126f;
                SEQFAST_UNROLL
                for (int mask = one; mask < one * Tile::targets; mask *= 2) {
                    const float other = shuffle_xor(most, mask);
                    most = most > other ? most : other;
                }
                float sum = counts ? fast_exp(pair.logit - most) : 0.0f;
                SEQFAST_UNROLL
                for (int mask = one; mask < one * Tile::targets; mask *= 2)
                    sum += shuffle_xor(sum, mask);
                if (lane_ % (one * Tile::targets) == 0 && j0 + pair.context < contexts &&
                    pair.context < Tile::contexts) {
                    Context& to = context(list + j0 + pair.context);
                    if (most > to.most) {
                        to.sum = to.sum * fast_exp(to.most - most) + sum;
                        to.most = most;
                    } else {
                        to.sum += sum * fast_exp(most - to.most);
                    }
                }
            }
        }
        warp_sync();
    }

    // What is to be added, but for rows: rate times label less probability, times how many pairs.
    SEQFAST_DEVICE float error_of(const Pair& pair, int list, int contexts, int64_t t0,
                                  int64_t targets, int id) {
        if (pair.context >= contexts || pair.context >= Tile::contexts ||
            t0 + pair.target >= targets)
            return 0;
        const Context& from = context(list + pair.context);
        const bool counts_loss = lane_ % (32 / Tile::sums) == 0;
        if (softmax_) {
            const bool is_centre = t0 + pair.target == id;
            const float logit = pair.logit - from.most;
            if (is_centre && counts_loss)
                loss_ += double(from.count * (log_plus_one(from.sum - 1) - logit));
            const float probability = fast_exp(logit) / from.sum;
            return rate_ * from.count * ((is_centre ? 1.0f : 0.0f) - probability);
        }
        const float weight = target(int(t0) + pair.target).weight;
        const float count = from.count * (weight < 0 ? -weight : weight);
        const Logistic found = logistic(weight < 0 ? -1.0f : 1.0f, pair.logit);
        if (counts_loss) loss_ += double(count * found.loss);
        return rate_ * count * found.error;
    }

    // All from rows as they are: contexts change at the end where `waits`, else targets are a tile.
    SEQFAST_DEVICE void update(int list, int contexts, int64_t targets, int id, bool waits) {
        if (softmax_) {
            warp_sync();
            sum_softmax(list, contexts, targets);
        }
        for (int64_t t0 = 0; t0 < targets; t0 += Tile::targets) {
            F32x4 rows[Tile::targets], sums[Tile::targets];
            SEQFAST_UNROLL
            for (int t = 0; t < Tile::targets; ++t) {
                rows[t] = load_target(t0 + t, targets);
                sums[t] = zeros();
            }
            for (int j0 = 0; j0 < (Tile::use == PlainUse::vectors ? 1 : contexts);
                 j0 += Tile::contexts) {
                const Pair pair = logits(list + j0, contexts - j0, rows);
                const float error = error_of(pair, list + j0, contexts - j0, t0, targets, id);
                if (pair.context < Tile::contexts)
                    errors()[pair.context * Tile::error_stride + pair.target] = error;
                warp_sync();
                SEQFAST_UNROLL
                for (int j = 0; j < Tile::contexts; ++j) {
                    if (j0 + j >= contexts || !active_) break;
                    const int code = context(list + j0 + j).slot;
                    const int slot = code < 0 ? ~code : code;
                    const F32x4 row = now(slot);
                    F32x4 sum = waits ? (t0 > 0 ? change(j0 + j) : zeros()) : row;
                    float error_of_target[Tile::error_stride];
                    load_errors(j, error_of_target);
                    SEQFAST_UNROLL
                    for (int t = 0; t < Tile::targets; ++t) {
                        add_scaled(sum, error_of_target[t], rows[t]);
                        add_scaled(sums[t], error_of_target[t], row);
                    }
                    if (waits)
                        change(j0 + j) = sum;
                    else if (code >= 0)
                        now(slot) = sum;
                }
                warp_sync();
            }
            SEQFAST_UNROLL
            for (int t = 0; t < Tile::targets; ++t) add_to_target(t0 + t, targets, sums[t]);
        }
        if (!waits || !active_ || context(list).slot == mean_slot()) return;
        for (int j = 0; j < contexts; ++j) {
            const int slot = context(list + j).slot;
            if (slot >= 0) add_scaled(now(slot), 1.0f, change(j));
        }
    }

    SEQFAST_DEVICE void load_errors(int j, float (&to)[Tile::error_stride]) const {
        SEQFAST_UNROLL
        for (int t = 0; t < Tile::error_stride; t += 4) {
            const F32x4 four =
                *reinterpret_cast<const F32x4*>(errors() + j * Tile::error_stride + t);
            to[t] = four.x;
            to[t + 1] = four.y;
            to[t + 2] = four.z;
            to[t + 3] = four.w;
        }
    }

    SEQFAST_DEVICE void add_to_target(int64_t i, int64_t targets, F32x4 sum) const {
        if (!active_ || i >= targets) return;
        float* row = args_.output + i * args_.stride;
        if (!softmax_) {
            const Target listed = target(int(i));
            if (listed.weight == 0) return;
            row = target_row(args_, listed.row);
        }
        add_vector(row + 4 * vector_, sum);
    }
};

template <class Tile, int threads>
SEQFAST_KERNEL(threads, 1)
word2vec_plain_kernel(SEQFAST_GRID_CONSTANT Word2VecArgs args,
                      SEQFAST_GRID_CONSTANT PlainPlan plan) {
    PlainWorker<Tile>(args, plan).run();
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
