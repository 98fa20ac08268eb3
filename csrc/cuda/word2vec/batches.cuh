// Batches of tokens, for results that repeat: gradients of all windows of a batch from the same
// parameters, then every changed row is summed by one warp, in the order of the corpus.
#pragma once

#include "cuda/word2vec/tokens.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// An example is what meets targets: a context token, or the mean of a window (CBOW). A pair is an
// example in a window; a set, the targets of a window, or of each pair by itself. Places are in
// bytes from the begin of a batch's tables, which do not depend on parameters.
struct BatchesPlan {
    int reach;      // most contexts on each side
    int targets;    // most of a set
    bool softmax;   // the full one: all rows of output, none listed
    bool by_pairs;  // a pair has its own negatives
    int64_t most_tokens, most_pairs, most_sets, most_examples;
    int64_t ids, firsts, windows, pair_windows, codes, weights, target_keys, input_keys;
    int64_t batch_bytes;
    char* tables;     // [batches of a group][batch_bytes]
    float* examples;  // [most_examples, stride] as they are when a batch begins
    float* changes;   // [most_examples, stride]
    float* errors;    // [most_pairs, targets]; [most_examples, vocabulary] of the full softmax
    double* loss;     // [most_pairs], [most_examples]
    int64_t group;    // batches whose tables are made at once
};

struct BatchHead {
    int tokens;        // that are kept: before the batch, in it, behind it
    int first_centre;  // token
    int windows, pairs, sets;
    int64_t examples;
};
struct BatchWindow {
    int begin, end;  // tokens, with the centre among them
    int first_pair;  // CBOW: itself
    int position;    // in the corpus, from the begin of the batch
};

// One batch's tables.
class Batch {
  public:
    SEQFAST_DEVICE Batch(const Word2VecArgs& args, const BatchesPlan& plan, int64_t member)
        : args_(args), plan_(plan), tables_(plan.tables + member * plan.batch_bytes) {}

    SEQFAST_DEVICE BatchHead& head() const { return *at<BatchHead>(0); }
    SEQFAST_DEVICE int& id(int64_t i) const { return at<int>(plan_.ids)[i]; }
    SEQFAST_DEVICE int& first(int64_t i) const { return at<int>(plan_.firsts)[i]; }
    SEQFAST_DEVICE BatchWindow& window(int64_t w) const {
        return at<BatchWindow>(plan_.windows)[w];
    }
    SEQFAST_DEVICE int& pair_window(int64_t i) const { return at<int>(plan_.pair_windows)[i]; }
    SEQFAST_DEVICE int& code(int64_t i) const { return at<int>(plan_.codes)[i]; }
    SEQFAST_DEVICE float& weight(int64_t i) const { return at<float>(plan_.weights)[i]; }
    SEQFAST_DEVICE uint64_t* target_keys() const { return at<uint64_t>(plan_.target_keys); }
    SEQFAST_DEVICE uint64_t* input_keys() const { return at<uint64_t>(plan_.input_keys); }

    SEQFAST_DEVICE int contexts(int64_t w) const { return window(w).end - window(w).begin - 1; }
    SEQFAST_DEVICE int centre(int64_t w) const { return head().first_centre + int(w); }
    SEQFAST_DEVICE int64_t set_of(int64_t w, int64_t pair) const {
        return plan_.by_pairs ? pair : w;
    }
    // The token of skip-gram's pair.
    SEQFAST_DEVICE int token_of(int64_t w, int64_t pair) const {
        const int i = window(w).begin + int(pair - window(w).first_pair);
        return i + (i >= centre(w));
    }
    SEQFAST_DEVICE int64_t pair_of(int64_t w, int token) const {
        return window(w).first_pair + (token - window(w).begin) - (token > centre(w));
    }
    // Calls use(w) for the windows that token i is a context of, in order.
    template <class Use>
    SEQFAST_DEVICE void for_windows_of(int i, Use use) const {
        const int c = head().first_centre;
        const int low = i - plan_.reach - c, high = i + plan_.reach - c + 1;
        const int end = high < head().windows ? high : head().windows;
        for (int w = low > 0 ? low : 0; w < end; ++w)
            if (window(w).begin <= i && i < window(w).end && i != c + w) use(w);
    }
    SEQFAST_DEVICE int examples() const { return args_.cbow ? head().windows : head().tokens; }

  private:
    template <class T>
    SEQFAST_DEVICE T* at(int64_t place) const {
        return reinterpret_cast<T*>(tables_ + place);
    }
    const Word2VecArgs& args_;
    const BatchesPlan& plan_;
    char* tables_;
};

constexpr int batch_threads = 256;
constexpr uint64_t no_key = ~uint64_t(0);

// For all threads of a block: fills up to a power of two and sorts.
SEQFAST_DEVICE void sort_keys(uint64_t* keys, int64_t count) {
    int64_t places = 1;
    while (places < count) places *= 2;
    for (int64_t i = count + thread_index(); i < places; i += thread_count()) keys[i] = no_key;
    block_sync();
    for (int64_t run = 2; run <= places; run *= 2) {
        for (int64_t apart = run / 2; apart > 0; apart /= 2) {
            for (int64_t i = thread_index(); i < places / 2; i += thread_count()) {
                const int64_t low = i / apart * 2 * apart + i % apart, high = low + apart;
                const uint64_t a = keys[low], b = keys[high];
                const bool rising = (low & run) == 0;
                if ((a > b) == rising) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            block_sync();
        }
    }
}

// What a batch draws, in a block: tokens, windows, targets, and which entries change the same row.
SEQFAST_KERNEL(batch_threads, 1)
word2vec_tables_kernel(SEQFAST_GRID_CONSTANT Word2VecArgs args,
                       SEQFAST_GRID_CONSTANT BatchesPlan plan, int64_t first_batch) {
    const Batch batch(args, plan, block_x());
    const int64_t begin = (first_batch + block_x()) * kWord2VecBatch;
    const int64_t end = begin + kWord2VecBatch < args.tokens ? begin + kWord2VecBatch : args.tokens;
    if (thread_index() < 32) {
        KeptTokens tokens(args);
        KeptTokens::Group group;
        const int before = tokens.begin(begin, end, plan.reach);
        int head = 0, first = 0, windows = 0;
        while (head - before - windows < plan.reach && tokens.next(group)) {
            if (group.starts) first = head;
            const bool is_centre = group.token >= begin && group.token < end;
            if (group.kept >> lane_index() & 1) {
                const int i = head + count_bits(group.kept & ((1u << lane_index()) - 1));
                batch.id(i) = group.id;
                batch.first(i) = first;
                if (is_centre) batch.window(i - before).position = int(group.token - begin);
            }
            windows += count_bits(group.kept & ballot(is_centre));
            head += count_bits(group.kept);
        }
        if (thread_index() == 0) batch.head() = {head, before, windows, 0, 0, 0};
    }
    block_sync();
    const int windows = batch.head().windows, tokens = batch.head().tokens;

    for (int w = thread_index(); w < windows; w += thread_count()) {
        BatchWindow& window = batch.window(w);
        const int centre = batch.centre(w);
        int reach = reach_of(args, centre_word(args, begin + window.position, 0));
        if (reach > plan.reach) reach = plan.reach;
        const int first = batch.first(centre);
        window.begin = centre - reach > first ? centre - reach : first;
        int last = centre;
        while (last < centre + reach && last + 1 < tokens && batch.first(last + 1) == first) ++last;
        window.end = last + 1;
    }
    block_sync();
    if (thread_index() == 0) {
        int pairs = 0;
        int64_t examples = 0;
        for (int w = 0; w < windows; ++w) {
            batch.window(w).first_pair = pairs;
            pairs += args.cbow ? 1 : batch.contexts(w);
            examples += args.cbow ? batch.contexts(w) > 0 : batch.contexts(w);
        }
        batch.head().pairs = pairs;
        batch.head().sets = plan.by_pairs ? pairs : windows;
        batch.head().examples = examples;
    }
    block_sync();
    for (int w = thread_index(); w < windows; w += thread_count()) {
        const int first = batch.window(w).first_pair;
        const int end_pair = w + 1 < windows ? batch.window(w + 1).first_pair : batch.head().pairs;
        for (int pair = first; pair < end_pair; ++pair) batch.pair_window(pair) = w;
    }
    block_sync();

    const int64_t entries = int64_t(batch.head().sets) * plan.targets;
    for (int64_t entry = thread_index(); entry < entries; entry += thread_count()) {
        const int64_t set = entry / plan.targets;
        int k = int(entry % plan.targets);
        const int64_t w = plan.by_pairs ? batch.pair_window(set) : set;
        const int64_t pair = plan.by_pairs ? set - batch.window(w).first_pair : 0;
        const int64_t place = begin + batch.window(w).position;
        const int centre = batch.id(batch.centre(w));
        const int listed = args.negative > 0 ? args.negative + 1 : 0;
        int code = centre;
        float weight = 1;
        if (k >= listed) {
            k -= listed;
            const int64_t path = args.path_offsets[centre];
            if (path + k < args.path_offsets[centre + 1]) {
                code = ~args.path_nodes[path + k];
                weight = args.path_codes[path + k] ? -1.0f : 1.0f;
            } else {
                weight = 0;
            }
        } else if (k > 0) {
            code = negative_of(
                args, alias_draw(args, centre_word(args, place, pair * args.negative + k)));
            weight = code == centre ? 0.0f : -1.0f;
        }
        if (batch.contexts(w) == 0) weight = 0;
        batch.code(entry) = code;
        batch.weight(entry) = weight;
        const uint64_t row =
            code >= 0 ? uint64_t(code) : uint64_t(args.vocabulary) + uint64_t(~code);
        batch.target_keys()[entry] = weight == 0 ? no_key : row << 32 | uint64_t(entry);
    }
    for (int i = thread_index(); i < tokens; i += thread_count())
        batch.input_keys()[i] = uint64_t(batch.id(i)) << 32 | uint64_t(i);
    if (plan.targets > 0) sort_keys(batch.target_keys(), entries);
    sort_keys(batch.input_keys(), tokens);
}

// ---- Vectors of rows, a warp's lanes side by side ---------------------------------------------

SEQFAST_DEVICE F32x4& vector_at(float* rows, int64_t row, int64_t stride, int64_t i) {
    return reinterpret_cast<F32x4*>(rows + row * stride)[i];
}
SEQFAST_DEVICE int64_t warp_of_grid() {
    return int64_t(block_x()) * (batch_threads / 32) + warp_index();
}
SEQFAST_DEVICE int64_t warps_of_grid() { return int64_t(grid_x()) * (batch_threads / 32); }

// The example as it is now, by all lanes of a warp, each its own columns.
SEQFAST_DEVICE void write_example(const Word2VecArgs& args, const BatchesPlan& plan,
                                  const Batch& batch, int64_t i) {
    for (int64_t v = lane_index(); v < args.stride / 4; v += 32) {
        F32x4 sum{0, 0, 0, 0};
        if (args.cbow) {
            const BatchWindow window = batch.window(i);
            const int centre = batch.centre(i), contexts = batch.contexts(i);
            const float share = args.cbow_mean && contexts > 0 ? 1.0f / float(contexts) : 1.0f;
            for (int token = window.begin; token < window.end; ++token)
                if (token != centre)
                    add_scaled(sum, 1.0f, vector_at(args.input, batch.id(token), args.stride, v));
            sum = {sum.x * share, sum.y * share, sum.z * share, sum.w * share};
        } else {
            sum = vector_at(args.input, batch.id(i), args.stride, v);
        }
        vector_at(plan.examples, i, args.stride, v) = sum;
    }
}

// A warp for each pair: its errors and loss, and, of CBOW, what its contexts get. The rows of
// skip-gram's examples are put aside, since they change while targets still need them.
SEQFAST_DEVICE void find_errors(const Word2VecArgs& args, const BatchesPlan& plan,
                                const Batch& batch, float rate) {
    constexpr int at_once = 8, one = 32 / at_once;
    const int64_t vectors = args.stride / 4;
    if (!args.cbow)
        for (int64_t i = warp_of_grid(); i < batch.head().tokens; i += warps_of_grid())
            write_example(args, plan, batch, i);
    for (int64_t pair = warp_of_grid(); pair < batch.head().pairs; pair += warps_of_grid()) {
        const int64_t w = batch.pair_window(pair), first = batch.set_of(w, pair) * plan.targets;
        if (args.cbow) write_example(args, plan, batch, w);
        double loss = 0;
        for (int t0 = 0; t0 < plan.targets; t0 += at_once) {
            float sums[at_once] = {};
            for (int64_t v = lane_index(); v < vectors; v += 32) {
                const F32x4 row =
                    args.cbow
                        ? vector_at(plan.examples, w, args.stride, v)
                        : vector_at(args.input, batch.id(batch.token_of(w, pair)), args.stride, v);
                SEQFAST_UNROLL
                for (int t = 0; t < at_once; ++t) {
                    if (t0 + t >= plan.targets || batch.weight(first + t0 + t) == 0) continue;
                    float* to = target_row(args, batch.code(first + t0 + t));
                    sums[t] += dot(row, vector_at(to, 0, 0, v));
                }
            }
            const float logit = sum_over_lanes(sums);
            const int t = t0 + lane_index() / one;
            if (lane_index() % one == 0 && t < plan.targets) {
                const float weight = batch.weight(first + t);
                float error = 0;
                if (weight != 0) {
                    const Logistic found = logistic(weight, logit);
                    loss += double(found.loss);
                    error = rate * found.error;
                }
                plan.errors[pair * plan.targets + t] = error;
            }
        }
        loss = sum_over_lanes(loss);
        if (lane_index() == 0) plan.loss[pair] = loss;
        if (!args.cbow) continue;
        warp_sync();
        for (int64_t v = lane_index(); v < vectors; v += 32) {
            F32x4 sum{0, 0, 0, 0};
            for (int t = 0; t < plan.targets; ++t) {
                if (batch.weight(first + t) == 0) continue;
                float* from = target_row(args, batch.code(first + t));
                add_scaled(sum, plan.errors[pair * plan.targets + t], vector_at(from, 0, 0, v));
            }
            vector_at(plan.changes, w, args.stride, v) = sum;
        }
    }
}

// A warp for 128 columns of each of skip-gram's examples: what its windows make of it.
SEQFAST_DEVICE void sum_changes(const Word2VecArgs& args, const BatchesPlan& plan,
                                const Batch& batch) {
    const int64_t vectors = args.stride / 4, parts = (vectors + 31) / 32;
    for (int64_t item = warp_of_grid(); item < batch.head().tokens * parts;
         item += warps_of_grid()) {
        const int i = int(item / parts);
        const int64_t v = item % parts * 32 + lane_index();
        if (v >= vectors) continue;
        F32x4 sum{0, 0, 0, 0};
        batch.for_windows_of(i, [&](int w) {
            const int64_t pair = batch.pair_of(w, i), set = batch.set_of(w, pair);
            for (int t = 0; t < plan.targets; ++t) {
                const int64_t entry = set * plan.targets + t;
                if (batch.weight(entry) == 0) continue;
                add_scaled(sum, plan.errors[pair * plan.targets + t],
                           vector_at(target_row(args, batch.code(entry)), 0, 0, v));
            }
        });
        vector_at(plan.changes, i, args.stride, v) = sum;
    }
}

// ---- The full softmax -------------------------------------------------------------------------

SEQFAST_DEVICE void write_examples(const Word2VecArgs& args, const BatchesPlan& plan,
                                   const Batch& batch) {
    for (int64_t i = warp_of_grid(); i < batch.examples(); i += warps_of_grid())
        write_example(args, plan, batch, i);
}

// A warp for an example and eight rows of output.
SEQFAST_DEVICE void find_logits(const Word2VecArgs& args, const BatchesPlan& plan,
                                const Batch& batch) {
    constexpr int at_once = 8, one = 32 / at_once;
    const int64_t tiles = (args.vocabulary + at_once - 1) / at_once;
    for (int64_t item = warp_of_grid(); item < batch.examples() * tiles; item += warps_of_grid()) {
        const int64_t i = item / tiles, t0 = item % tiles * at_once;
        float sums[at_once] = {};
        for (int64_t v = lane_index(); v < args.stride / 4; v += 32) {
            const F32x4 row = vector_at(plan.examples, i, args.stride, v);
            SEQFAST_UNROLL
            for (int t = 0; t < at_once; ++t)
                if (t0 + t < args.vocabulary)
                    sums[t] += dot(row, vector_at(args.output, t0 + t, args.stride, v));
        }
        const float logit = sum_over_lanes(sums);
        const int64_t t = t0 + lane_index() / one;
        if (lane_index() % one == 0 && t < args.vocabulary)
            plan.errors[i * args.vocabulary + t] = logit;
    }
}

// A warp for an example: errors in the place of its logits, summed over its windows; its loss.
SEQFAST_DEVICE void find_softmax_errors(const Word2VecArgs& args, const BatchesPlan& plan,
                                        const Batch& batch, float rate) {
    for (int64_t i = warp_of_grid(); i < batch.examples(); i += warps_of_grid()) {
        float* const row = plan.errors + i * args.vocabulary;
        float most = -0x1p126f;
        for (int64_t t = lane_index(); t < args.vocabulary; t += 32)
            most = row[t] > most ? row[t] : most;
        SEQFAST_UNROLL
        for (int mask = 16; mask > 0; mask /= 2) {
            const float other = shuffle_xor(most, mask);
            most = other > most ? other : most;
        }
        float part = 0;
        for (int64_t t = lane_index(); t < args.vocabulary; t += 32)
            part += fast_exp(row[t] - most);
        const float sum = sum_over_lanes<1>({part});
        const float log_sum = most + log_plus_one(sum - 1);
        int windows = 0;
        double loss = 0;
        const auto count = [&](int w) {
            ++windows;
            loss += double(log_sum - row[batch.id(batch.centre(w))]);
        };
        if (!args.cbow)
            batch.for_windows_of(int(i), count);
        else if (batch.contexts(i) > 0)
            count(int(i));
        warp_sync();
        for (int64_t t = lane_index(); t < args.vocabulary; t += 32)
            row[t] = -rate * float(windows) * (fast_exp(row[t] - most) / sum);
        warp_sync();
        if (lane_index() == 0) {
            const auto add = [&](int w) { row[batch.id(batch.centre(w))] += rate; };
            if (!args.cbow)
                batch.for_windows_of(int(i), add);
            else if (windows)
                add(int(i));
            plan.loss[i] = loss;
        }
        warp_sync();
    }
}

// A warp for 128 columns of an example: what all rows of output make of it.
SEQFAST_DEVICE void sum_softmax_changes(const Word2VecArgs& args, const BatchesPlan& plan,
                                        const Batch& batch) {
    const int64_t vectors = args.stride / 4, parts = (vectors + 31) / 32;
    for (int64_t item = warp_of_grid(); item < batch.examples() * parts; item += warps_of_grid()) {
        const int64_t i = item / parts, v = item % parts * 32 + lane_index();
        if (v >= vectors) continue;
        F32x4 sum{0, 0, 0, 0};
        for (int64_t t = 0; t < args.vocabulary; ++t)
            add_scaled(sum, plan.errors[i * args.vocabulary + t],
                       vector_at(args.output, t, args.stride, v));
        vector_at(plan.changes, i, args.stride, v) = sum;
    }
}

// ---- The sums of each row -----------------------------------------------------------------------

// The entries of a row stand side by side in the sorted keys; whoever meets the first one has them.
SEQFAST_DEVICE bool is_first_of_row(const uint64_t* keys, int64_t i) {
    return keys[i] != no_key && (i == 0 || keys[i - 1] >> 32 != keys[i] >> 32);
}
template <class Use>
SEQFAST_DEVICE void for_entries(const uint64_t* keys, int64_t count, int64_t i, Use use) {
    for (int64_t at = i; at < count && keys[at] >> 32 == keys[i] >> 32; ++at)
        use(int64_t(keys[at] & 0xFFFFFFFF));
}

// A warp for 128 columns of each changed row of output, nodes and input.
SEQFAST_DEVICE void apply_changes(const Word2VecArgs& args, const BatchesPlan& plan,
                                  const Batch& batch, int64_t number) {
    const int64_t vectors = args.stride / 4, parts = (vectors + 31) / 32;
    const int64_t tokens = batch.head().tokens;
    const int64_t entries =
        plan.softmax ? args.vocabulary : int64_t(batch.head().sets) * plan.targets;
    const int64_t losses = plan.softmax ? batch.examples() : batch.head().pairs;

    for (int64_t item = warp_of_grid(); item < (entries + tokens) * parts;
         item += warps_of_grid()) {
        const int64_t v = item % parts * 32 + lane_index();
        int64_t i = item / parts;
        if (v >= vectors) continue;
        F32x4 sum{0, 0, 0, 0};
        if (i < entries) {
            if (plan.softmax) {
                for (int64_t k = 0; k < batch.examples(); ++k)
                    add_scaled(sum, plan.errors[k * args.vocabulary + i],
                               vector_at(plan.examples, k, args.stride, v));
                add_scaled(vector_at(args.output, i, args.stride, v), 1.0f, sum);
                continue;
            }
            const uint64_t* const keys = batch.target_keys();
            if (!is_first_of_row(keys, i)) continue;
            for_entries(keys, entries, i, [&](int64_t entry) {
                const int64_t set = entry / plan.targets, t = entry % plan.targets;
                int64_t w = set, pair = set, end = set + 1;
                if (plan.by_pairs) {
                    w = batch.pair_window(set);
                } else if (!args.cbow) {
                    pair = batch.window(w).first_pair;
                    end = pair + batch.contexts(w);
                }
                for (; pair < end; ++pair)
                    add_scaled(
                        sum, plan.errors[pair * plan.targets + t],
                        vector_at(plan.examples, args.cbow ? w : int64_t(batch.token_of(w, pair)),
                                  args.stride, v));
            });
            float* to = target_row(args, batch.code(int64_t(keys[i] & 0xFFFFFFFF)));
            add_scaled(vector_at(to, 0, 0, v), 1.0f, sum);
            continue;
        }
        i -= entries;
        const uint64_t* const keys = batch.input_keys();
        if (!is_first_of_row(keys, i)) continue;
        const auto id = int64_t(keys[i] >> 32);
        if (args.locked && args.locked[id]) continue;
        for_entries(keys, tokens, i, [&](int64_t token) {
            if (!args.cbow) {
                add_scaled(sum, 1.0f, vector_at(plan.changes, token, args.stride, v));
                return;
            }
            batch.for_windows_of(int(token), [&](int w) {
                const float share =
                    args.cbow_mean && !args.legacy_cbow ? 1.0f / float(batch.contexts(w)) : 1.0f;
                add_scaled(sum, share, vector_at(plan.changes, w, args.stride, v));
            });
        });
        add_scaled(vector_at(args.input, id, args.stride, v), 1.0f, sum);
    }
    if (warp_of_grid() == 0) {
        double loss = 0;
        for (int64_t i = lane_index(); i < losses; i += 32) loss += plan.loss[i];
        loss = sum_over_lanes(loss);
        if (lane_index() == 0) {
            const int64_t i = number * kWord2VecBatch / kWord2VecRound - args.first_round;
            const bool first = number * kWord2VecBatch % kWord2VecRound == 0;
            args.loss[i] = (first ? 0 : args.loss[i]) + loss;
            args.kept[i] = (first ? 0 : args.kept[i]) + batch.head().windows;
            args.examples[i] = (first ? 0 : args.examples[i]) + batch.head().examples;
        }
    }
}

// Of a cooperative launch: batch after batch, with barriers of the grid between their parts.
template <class Changes>
SEQFAST_DEVICE void walk_batches(const Word2VecArgs& args, const BatchesPlan& plan,
                                 int64_t first_batch, int64_t batches, Changes&& find_changes) {
    for (int64_t member = 0; member < batches; ++member) {
        const Batch batch(args, plan, member);
        const int64_t number = first_batch + member;
        find_changes(batch, learning_rate(args, number * kWord2VecBatch / kWord2VecRound));
        apply_changes(args, plan, batch, number);
        grid_sync();
    }
}

SEQFAST_KERNEL(batch_threads, 1)
word2vec_batches_kernel(SEQFAST_GRID_CONSTANT Word2VecArgs args,
                        SEQFAST_GRID_CONSTANT BatchesPlan plan, int64_t first_batch,
                        int64_t batches) {
    walk_batches(args, plan, first_batch, batches, [&](const Batch& batch, float rate) {
        find_errors(args, plan, batch, rate);
        grid_sync();
        if (!args.cbow) {
            sum_changes(args, plan, batch);
            grid_sync();
        }
    });
}

SEQFAST_KERNEL(batch_threads, 1)
word2vec_softmax_batches_kernel(SEQFAST_GRID_CONSTANT Word2VecArgs args,
                                SEQFAST_GRID_CONSTANT BatchesPlan plan, int64_t first_batch,
                                int64_t batches) {
    walk_batches(args, plan, first_batch, batches, [&](const Batch& batch, float rate) {
        write_examples(args, plan, batch);
        grid_sync();
        find_logits(args, plan, batch);
        grid_sync();
        find_softmax_errors(args, plan, batch, rate);
        grid_sync();
        sum_softmax_changes(args, plan, batch);
        grid_sync();
    });
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
