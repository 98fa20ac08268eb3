// Whole steps of a beam search over a recurrent decoder with attention.
#include "core/decoder.h"

#include "core/cells/cells.h"
#include "cpu/base/exponentials.h"
#include "cpu/base/gemm.h"
#include "cpu/base/simd.h"
#include "cpu/decoder/table.h"
#include "cpu/rnn/team.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

// What is packed once per search, and what one step leaves to the next, lie in the workspace.
// Only living hypotheses are rows of a step: numbered densely, in the order of their flat index.
// Products with the state are made once for each parent that has children. Those of a token's
// embedding are kept, for as many tokens as there is room for: searches repeat themselves.
template <class Real>
class Decoder {
  public:
    static constexpr int lanes = kLanes<Real>;
    using M = Math<Real>;

    explicit Decoder(const DecoderArgs& args) : args_(args), gates_(gates_of(args.cell)) {
        // Few gates leave a panel room for several vectors of units.
        group_ = kPanelVectors / gates_;
        attentional_stride_ = padded<Real>(args.attentional_size);
        memory_stride_ = padded<Real>(args.memory_size);
        score_stride_ = padded<Real>(args.memory_steps);
        key_stride_ = padded<Real>(args.key_size);
        logits_stride_ = padded<Real>(args.vocabulary);
        const int64_t rows = args.rows();

        Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
        progress_ = arena.take<Progress>(1);
        barrier_ = arena.take<Barrier>(1);
        for (int64_t l = 0; l < args.layers; ++l) {
            Layer& layer = layers_[l];
            layer.units = args.layer[l].hidden_size;
            layer.stride = padded<Real>(layer.units);
            layer.blocks = ceil_div(ceil_div(layer.units, lanes), group_);
            // Per block: the state's panel, the input's, that of what is fed behind the embedding;
            // all gates of a unit side by side.
            layer.of_fed = l == 0 ? args.fed_size() : 0;
            layer.of_input = args.input_size(l) - layer.of_fed;
            layer.panel = (layer.units + layer.of_input + layer.of_fed) * width();
            layer.packed = arena.take<Real>(layer.blocks * layer.panel);
            layer.bias_ih = arena.take<Real>(layer.blocks * width());
            layer.bias_hh = arena.take<Real>(layer.blocks * width());
            for (int parity = 0; parity < 2; ++parity) {
                layer.hidden[parity] = arena.take<Real>(rows * layer.stride);
                layer.cell[parity] =
                    arena.take<Real>(has_cell_state(args.cell) ? rows * layer.stride : 0);
            }
            layer.parents = arena.take<const Real*>(rows);
            layer.rows = arena.take<const Real*>(rows);
        }
        for (int parity = 0; parity < 2; ++parity) {
            attentional_[parity] = arena.take<Real>(rows * attentional_stride_);
        }
        fed_parents_ = arena.take<const Real*>(rows);
        attentional_rows_ = arena.take<const Real*>(rows);
        context_ = arena.take<Real>(rows * memory_stride_);
        context_rows_ = arena.take<const Real*>(rows);
        scores_ = arena.take<Real>(rows * score_stride_);
        score_rows_ = arena.take<const Real*>(rows);
        query_ = whole<Real>(args.weight_query ? args.key_size : 0, args.output_size());
        query_packed_ = take_packed(arena, query_);
        query_bias_ = arena.take<Real>(key_stride_);
        score_weight_ = arena.take<Real>(key_stride_);
        queries_ = arena.take<Real>(args.weight_query ? rows * key_stride_ : 0);
        // Of each sentence: its keys as panels, or row by row where there is a tanh between.
        keys_ = whole<Real>(args.memory_steps, args.key_size);
        keys_size_ = args.weight_query ? args.memory_steps * key_stride_ : size_of(keys_);
        keys_packed_ = arena.take<Real>(args.batch * keys_size_);
        values_ = whole<Real>(args.memory_size, args.memory_steps);
        values_packed_ = arena.take<Real>(args.batch * size_of(values_));
        const int64_t combined = args.weight_combine ? args.attentional_size : 0;
        combine_ = whole<Real>(combined, args.output_size() + args.memory_size);
        combine_packed_ = take_packed(arena, combine_);
        head_ = whole<Real>(args.vocabulary, args.attentional_size);
        head_packed_ = take_packed(arena, head_);
        head_bias_ = arena.take<Real>(logits_stride_);
        logits_ = arena.take<Real>(rows * logits_stride_);
        place_ = arena.take<int64_t>(rows);
        rows_ = arena.take<Row>(rows);
        runs_ = arena.take<Run>(rows);
        first_of_ = arena.take<int64_t>(args.batch + 1);
        first_parent_of_ = arena.take<int64_t>(args.batch + 1);
        parent_slot_ = arena.take<int64_t>(rows);
        kept_most_ = smaller(args.words, larger(rows, kKeptTokens));
        token_slot_ = arena.take<int32_t>(args.words);
        token_rows_ = arena.take<const Real*>(kept_most_);
        tokens_ = arena.take<int64_t>(kept_most_);
        kept_ = arena.take<Real>(layers_[0].blocks * kept_most_ * width());
        scratch_size_ = rows * width();
        scratch_ = arena.take<Real>(3 * args.threads * scratch_size_);
        workspace_ = arena.used;
    }

    size_t workspace() const { return workspace_; }

    // Packs weights and memory, and puts down the first state: one row for each sentence.
    void start() {
        *progress_ = {0, 0};
        if (!run_team(args_.threads, [this](int thread) { pack(thread, args_.threads); })) {
            pack(0, 1);
        }
        for (int64_t r = 0; r < args_.rows(); ++r) place_[r] = r / args_.beams;
        for (int64_t w = 0; w < args_.words; ++w) token_slot_[w] = -1;
    }

    // The logits of every living hypothesis, put into `beams`.
    void step(BeamStepArgs& beams) {
        list_rows(beams);
        const int threads = threads_for_step();
        barrier_->reset(threads);
        if (!run_team(threads, [&](int thread) { run(thread, threads); })) {
            barrier_->reset(1);
            run(0, 1);
        }
        progress_->parity ^= 1;
        beams.logits = logits_;
        beams.logits_stride = logits_stride_;
    }

  private:
    static constexpr int64_t kKeptTokens = 2048;

    struct Progress {
        int parity;      // which half the last step's states are in
        int64_t tokens;  // whose products with the embedding are kept
    };
    struct Layer {
        int64_t units, stride, blocks;
        int64_t of_input, of_fed;  // depths of a block's panels, beside the state's
        int64_t panel;             // elements of all three
        Real *packed, *bias_ih, *bias_hh;
        Real *hidden[2], *cell[2];  // [rows, stride]
        const Real** parents;       // [parents] their hidden states
        const Real** rows;          // [rows] this step's
    };
    struct Row {
        int64_t flat, sentence;
        int64_t parent;        // its row in the last step
        int64_t parent_index;  // among the parents with children
        int64_t token_index;   // among the tokens kept
    };
    // Rows whose flat indices lie equally far apart: one product can put down their logits.
    struct Run {
        int64_t begin, end, distance;
    };

    int64_t width() const { return group_ * gates_ * lanes; }
    int64_t vectors_of(const Layer& layer, int64_t block) const {
        return smaller(group_, ceil_div(layer.units, lanes) - block * group_);
    }
    static int64_t size_of(const PanelLayout<Real>& layout) {
        return layout.vectors.size() * lanes * layout.depth;
    }
    static Real* take_packed(Arena& arena, const PanelLayout<Real>& layout) {
        return arena.take<Real>(size_of(layout));
    }
    template <class T>
    static const Real* real(const T* array) {
        return static_cast<const Real*>(array);
    }

    // ---- before the first step ----

    void pack(int thread, int threads) {
        const DecoderArgs& a = args_;
        for (int64_t l = 0; l < a.layers; ++l) pack_layer(l, thread, threads);
        if (a.weight_query) pack_matrix(query_, query_packed_, a.weight_query, thread, threads);
        pack_matrix(combine_, combine_packed_, a.weight_combine, thread, threads);
        pack_matrix(head_, head_packed_, a.weight_head, thread, threads);
        const Range sentences = part_of(attends() ? a.batch : 0, threads, thread);
        for (int64_t b = sentences.begin; b < sentences.end; ++b) {
            const Real* keys = real(a.keys) + b * a.memory_steps * a.key_size;
            Real* packed = keys_packed_ + b * keys_size_;
            if (a.weight_query) {
                for (int64_t s = 0; s < a.memory_steps; ++s) {
                    copy_row(packed + s * key_stride_, keys + s * a.key_size, a.key_size);
                }
            } else {
                pack_matrix(keys_, packed, keys, 0, 1);
            }
            const Real* values = real(a.values) + b * a.memory_steps * a.memory_size;
            pack_rows(values_, {0, a.memory_steps}, values_packed_ + b * size_of(values_),
                      [&](int64_t s) { return values + s * a.memory_size; });
            if (a.input_feeding) {
                copy_row(attentional_[0] + b * attentional_stride_,
                         real(a.fed) + b * a.attentional_size, a.attentional_size);
            }
        }
        if (thread != 0) return;
        copy_row(query_bias_, real(a.bias_query), a.weight_query ? a.key_size : 0);
        copy_row(score_weight_, real(a.weight_score), a.weight_query ? a.key_size : 0);
        copy_row(head_bias_, real(a.bias_head), a.vocabulary);
    }

    // Of a missing array zeros; zeros up to whole vectors.
    static void copy_row(Real* to, const Real* from, int64_t size) {
        for (int64_t i = 0; i < size; i += lanes) {
            with_count<Real>(size - i, [&](auto count) {
                store(to + i, from ? load<Real>(from + i, count) : Vector<Real>{});
            });
        }
    }

    // This thread's panels of a weight [columns, depth].
    static void pack_matrix(const PanelLayout<Real>& layout, Real* packed, const void* weight,
                            int thread, int threads) {
        const Range panels = part_of(layout.panels(), threads, thread);
        for (int64_t p = panels.begin; p < panels.end; ++p) {
            const Range vectors = layout.panel(p);
            Real* panel = packed + layout.offset(p);
            for (int64_t v = vectors.begin; v < vectors.end; ++v) {
                pack_transposed_vector(panel + (v - vectors.begin) * lanes, vectors.size() * lanes,
                                       real(weight) + v * lanes * layout.depth, layout.depth,
                                       layout.lanes_of(v));
            }
        }
    }

    void pack_layer(int64_t l, int thread, int threads) {
        const Layer& layer = layers_[l];
        const DecoderLayer& from = args_.layer[l];
        const int64_t units = layer.units, inputs = args_.input_size(l);
        const Range blocks = part_of(layer.blocks, threads, thread);
        for (int64_t b = blocks.begin; b < blocks.end; ++b) {
            const int64_t vectors = vectors_of(layer, b), stride = vectors * gates_ * lanes;
            for (int64_t v = 0; v < vectors; ++v) {
                const int64_t first = (b * group_ + v) * lanes;
                const int count = static_cast<int>(smaller(lanes, units - first));
                for (int g = 0; g < gates_; ++g) {
                    const int64_t row = g * units + first, at = (v * gates_ + g) * lanes;
                    Real* to = panel_of(layer, b) + at;
                    pack_transposed_vector(to, stride, real(from.weight_hh) + row * units, units,
                                           count);
                    pack_transposed_vector(to + units * stride, stride,
                                           real(from.weight_ih) + row * inputs, inputs, count);
                    const auto bias = [&](const void* array) {
                        return array ? load<Real>(real(array) + row, count) : Vector<Real>{};
                    };
                    store(layer.bias_ih + b * width() + at, bias(from.bias_ih));
                    store(layer.bias_hh + b * width() + at, bias(from.bias_hh));
                }
            }
        }
        if (thread != 0) return;
        for (int64_t b = 0; b < args_.batch; ++b) {
            copy_row(layer.hidden[0] + b * layer.stride, real(from.hidden) + b * units, units);
            if (has_cell_state(args_.cell)) {
                copy_row(layer.cell[0] + b * layer.stride, real(from.cell) + b * units, units);
            }
        }
    }

    Real* panel_of(const Layer& layer, int64_t block) const {
        return layer.packed + block * layer.panel;
    }

    // ---- the rows of a step ----

    void list_rows(const BeamStepArgs& beams) {
        const Real* scores = static_cast<const Real*>(beams.scores);
        const int now = progress_->parity, then = now ^ 1;
        const Real dead = -__builtin_inf();
        count_ = parents_ = runs_count_ = 0;
        const bool context_first = args_.context_first;
        const int64_t unknown = smaller(args_.rows(), args_.words - progress_->tokens);
        if (progress_->tokens + unknown > kept_most_) {
            for (int64_t t = 0; t < progress_->tokens; ++t) token_slot_[tokens_[t]] = -1;
            progress_->tokens = 0;
        }
        known_tokens_ = progress_->tokens;
        for (int64_t r = 0; r < args_.rows(); ++r) parent_slot_[r] = -1;
        for (int64_t b = 0; b < args_.batch; ++b) {
            first_of_[b] = count_;
            first_parent_of_[b] = parents_;
            for (int64_t k = 0; k < args_.beams; ++k) {
                const int64_t flat = b * args_.beams + k;
                if (!(scores[flat] > dead)) continue;
                const int64_t parent = place_[beams.next_rows[flat]];
                const int64_t token = beams.next_tokens[flat];
                rows_[count_] = {flat, b, parent, slot_of_parent(parent, now),
                                 slot_of_token(token)};
                add_to_run(count_, flat);
                ++count_;
            }
        }
        first_of_[args_.batch] = count_;
        first_parent_of_[args_.batch] = parents_;
        for (int64_t i = 0; i < count_; ++i) {
            place_[rows_[i].flat] = i;
            for (int64_t l = 0; l < args_.layers; ++l) {
                layers_[l].rows[i] = layers_[l].hidden[then] + i * layers_[l].stride;
            }
            attentional_rows_[i] = attentional_[then] + i * attentional_stride_;
            // A context that comes first is its parent's, one for all its children.
            const int64_t context = context_first ? rows_[i].parent_index : i;
            context_rows_[i] = context_ + context * memory_stride_;
        }
        for (int64_t i = 0; i < larger(count_, parents_); ++i) {
            score_rows_[i] = scores_ + i * score_stride_;
        }
    }

    int64_t slot_of_parent(int64_t parent, int now) {
        int64_t& slot = parent_slot_[parent];
        if (slot < 0) {
            slot = parents_++;
            for (int64_t l = 0; l < args_.layers; ++l) {
                layers_[l].parents[slot] = layers_[l].hidden[now] + parent * layers_[l].stride;
            }
            fed_parents_[slot] = args_.context_first
                                     ? context_ + slot * memory_stride_
                                     : attentional_[now] + parent * attentional_stride_;
        }
        return slot;
    }

    int64_t slot_of_token(int64_t token) {
        int32_t& slot = token_slot_[token];
        if (slot < 0) {
            slot = static_cast<int32_t>(progress_->tokens);
            token_rows_[slot] = real(args_.embedding) + token * args_.embedding_size;
            tokens_[progress_->tokens++] = token;
        }
        return slot;
    }

    void add_to_run(int64_t row, int64_t flat) {
        if (runs_count_ > 0) {
            Run& run = runs_[runs_count_ - 1];
            const int64_t distance = flat - rows_[row - 1].flat;
            if (run.end - run.begin == 1) run.distance = distance;
            if (run.distance == distance) {
                run.end = row + 1;
                return;
            }
        }
        runs_[runs_count_++] = {row, row + 1, 1};
    }

    // A thread is worth waking for some microseconds of work.
    int threads_for_step() const {
        double sizes = static_cast<double>(args_.vocabulary * args_.attentional_size);
        for (int64_t l = 0; l < args_.layers; ++l) {
            sizes += static_cast<double>(layers_[l].blocks * layers_[l].panel);
        }
        const double worth = 1 + 2 * sizes * static_cast<double>(count_) / 4e5;
        return worth < args_.threads ? static_cast<int>(worth) : args_.threads;
    }

    // ---- a step, as one thread sees it ----

    const Real* const* top_rows() const { return layers_[args_.layers - 1].rows; }

    bool attends() const { return args_.weight_combine != nullptr; }

    void run(int thread, int threads) {
        if (args_.context_first) {
            attend_all(layers_[args_.layers - 1].parents, parents_, first_parent_of_, thread,
                       threads);
        }
        for (int64_t l = 0; l < args_.layers; ++l) {
            run_layer(l, thread, threads);
            barrier_->wait();
        }
        if (attends()) {
            if (!args_.context_first) attend_all(top_rows(), count_, first_of_, thread, threads);
            combine(thread, threads);
            barrier_->wait();
        }
        project(thread, threads);
    }

    // The contexts of `count` outputs, those of sentence b from first[b] to first[b + 1].
    void attend_all(const Real* const* outputs, int64_t count, const int64_t* first, int thread,
                    int threads) {
        if (args_.weight_query) {
            const Range panels = part_of(query_.panels(), threads, thread);
            for (int64_t p = panels.begin; p < panels.end; ++p) {
                multiply(query_, p, query_packed_, outputs, count, queries_, key_stride_,
                         query_bias_);
            }
            barrier_->wait();
        }
        const Range sentences = part_of(args_.batch, threads, thread);
        for (int64_t b = sentences.begin; b < sentences.end; ++b) {
            if (first[b + 1] > first[b]) attend(b, outputs, first[b], first[b + 1]);
        }
        barrier_->wait();
    }

    // target [rows] = start + left x a panel, or a part of its depth.
    void multiply(const PanelLayout<Real>& layout, int64_t p, const Real* packed, Range depth,
                  const Real* const* left, int64_t count, Real* target, int64_t target_stride,
                  const Real* start, int64_t start_stride) {
        const Range vectors = layout.panel(p);
        const int64_t first = vectors.begin * lanes;
        Product<Real> product{};
        product.left = left;
        product.panel = packed + layout.offset(p) + depth.begin * vectors.size() * lanes;
        product.depth = depth.size();
        product.start = start ? start + first : nullptr;
        product.start_stride = start_stride;
        product.target = target + first;
        product.target_stride = target_stride;
        multiply_panel(product, count, vectors.size());
    }
    void multiply(const PanelLayout<Real>& layout, int64_t p, const Real* packed,
                  const Real* const* left, int64_t count, Real* target, int64_t target_stride,
                  const Real* bias = nullptr) {
        multiply(layout, p, packed, {0, layout.depth}, left, count, target, target_stride, bias, 0);
    }

    void run_layer(int64_t l, int thread, int threads) {
        const Layer& layer = layers_[l];
        Real* recurrent = scratch_ + 3 * thread * scratch_size_;
        Real* input = recurrent + scratch_size_;
        Real* fed = input + scratch_size_;
        const Range blocks = part_of(layer.blocks, threads, thread);
        for (int64_t b = blocks.begin; b < blocks.end; ++b) {
            const int64_t vectors = vectors_of(layer, b) * gates_;
            const int64_t line = vectors * lanes;
            Product<Real> product{};
            product.target_stride = width();
            product.left = layer.parents;
            product.panel = panel_of(layer, b);
            product.depth = layer.units;
            product.start = layer.bias_hh + b * width();
            product.target = recurrent;
            multiply_panel(product, parents_, vectors);
            product.panel += layer.units * line;
            product.depth = layer.of_input;
            product.start = layer.bias_ih + b * width();
            if (l == 0) {
                input = kept_ + b * kept_most_ * width();
                product.left = token_rows_ + known_tokens_;
                product.target = input + known_tokens_ * width();
                multiply_panel(product, progress_->tokens - known_tokens_, vectors);
            } else {
                product.left = layers_[l - 1].rows;
                product.target = input;
                multiply_panel(product, count_, vectors);
            }
            if (layer.of_fed) {
                product.panel += layer.of_input * line;
                product.left = fed_parents_;
                product.depth = layer.of_fed;
                product.target = fed;
                // The state's share of a split candidate stands apart from what is fed.
                if (traits_of(args_.cell).has_split_candidate) {
                    product.start = nullptr;
                } else {
                    product.start = product.target = recurrent;
                    product.start_stride = width();
                }
                multiply_panel(product, parents_, vectors);
            }
            with_cell(args_.cell, [&](auto kind) {
                // Options are none of a decoder's, so that only cells without them are compiled.
                if constexpr (decltype(kind)::traits().has_plain_kernels) {
                    run_cells<decltype(kind)>(l, b, recurrent, input, fed);
                }
            });
        }
    }

    template <class Kind>
    void run_cells(int64_t l, int64_t block, const Real* recurrent, const Real* input,
                   const Real* fed) {
        using Cell = typename Kind::template Cell<M, false>;
        const Layer& layer = layers_[l];
        constexpr int gates = Kind::traits().gates, saved = Kind::traits().saved();
        constexpr bool split = Kind::traits().has_split_candidate;
        const int now = progress_->parity, then = now ^ 1;
        CellOptions<Real> options;
        options.activation = args_.activation;
        for (int64_t i = 0; i < count_; ++i) {
            const Row& row = rows_[i];
            const Real* u = recurrent + row.parent_index * width();
            const Real* x = input + (l == 0 ? row.token_index : i) * width();
            for (int64_t v = 0; v < vectors_of(layer, block); ++v) {
                const int64_t unit = (block * group_ + v) * lanes;
                const int64_t from = row.parent * layer.stride + unit;
                const int64_t to = i * layer.stride + unit;
                const int64_t at = v * gates * lanes;
                StepInputs<Vector<Real>> inputs;
                Vector<Real> gate[saved];
                for (int g = 0; g < gates; ++g) {
                    const Vector<Real> of_state = load(u + at + g * lanes);
                    gate[g] = load(x + at + g * lanes);
                    // A split candidate's share of the state stays apart, behind the gates.
                    if (split && g == gates - 1) {
                        gate[saved - 1] = of_state;
                    } else {
                        gate[g] += of_state;
                    }
                }
                if (split && layer.of_fed) {
                    const Real* f = fed + row.parent_index * width() + at;
                    for (int g = 0; g < gates; ++g) gate[g] += load(f + g * lanes);
                }
                Vector<Real> h;
                if constexpr (Kind::traits().has_cell_state) {
                    Vector<Real> c = inputs.previous_cell = load(layer.cell[now] + from);
                    const Vector<Real> seen = Cell::move_cell(options, inputs, gate, c);
                    store(layer.cell[then] + to, c);
                    h = Cell::output(options, gate, seen);
                } else {
                    if constexpr (Kind::traits().carries_hidden) {
                        inputs.previous_hidden = load(layer.hidden[now] + from);
                    }
                    h = Cell::forward(options, inputs, gate);
                }
                store(layer.hidden[then] + to, h);
            }
        }
    }

    // Scores, their softmax and the context of the outputs [begin, end) of a sentence.
    void attend(int64_t sentence, const Real* const* outputs, int64_t begin, int64_t end) {
        const int64_t count = end - begin, steps = args_.memory_steps;
        const Real* keys = keys_packed_ + sentence * keys_size_;
        Real* scores = scores_ + begin * score_stride_;
        if (args_.weight_query) {
            for (int64_t i = begin; i < end; ++i) score_row(i, keys);
        } else {
            for (int64_t p = 0; p < keys_.panels(); ++p) {
                multiply(keys_, p, keys, outputs + begin, count, scores, score_stride_);
            }
        }
        const uint8_t* mask = args_.mask ? args_.mask + sentence * steps : nullptr;
        for (int64_t i = begin; i < end; ++i) softmax(scores_ + i * score_stride_, mask);
        const Real* values = values_packed_ + sentence * size_of(values_);
        for (int64_t p = 0; p < values_.panels(); ++p) {
            multiply(values_, p, values, score_rows_ + begin, count,
                     context_ + begin * memory_stride_, memory_stride_);
        }
    }

    // v . tanh(W_q q + key), of one row.
    void score_row(int64_t row, const Real* keys) {
        const Real* query = queries_ + row * key_stride_;
        for (int64_t s = 0; s < args_.memory_steps; ++s, keys += key_stride_) {
            Vector<Real> sum{};
            for (int64_t k = 0; k < args_.key_size; k += lanes) {
                sum =
                    fused(sum, load(score_weight_ + k), M::tanh(load(query + k) + load(keys + k)));
            }
            scores_[row * score_stride_ + s] = horizontal_sum<Real>(sum);
        }
    }

    void softmax(Real* scores, const uint8_t* mask) const {
        const int64_t steps = args_.memory_steps;
        Real largest = -__builtin_inf();
        for (int64_t s = 0; s < steps; ++s) {
            if ((!mask || mask[s]) && !(scores[s] <= largest)) largest = scores[s];
        }
        Real sum = 0;
        for (int64_t s = 0; s < steps; s += lanes) {
            const int count = static_cast<int>(smaller(lanes, steps - s));
            Vector<Real> x = exp2<Real>((load<Real>(scores + s, count) - largest) * Real(kLog2OfE));
            for (int l = 0; l < count; ++l) {
                scores[s + l] = !mask || mask[s + l] ? x[l] : Real(0);
                sum += scores[s + l];
            }
        }
        if (sum == 0) return;
        for (int64_t s = 0; s < steps; ++s) scores[s] /= sum;
    }

    // tanh(W [h; c])
    void combine(int thread, int threads) {
        Real* target = attentional_[progress_->parity ^ 1];
        const int64_t outputs = args_.output_size(), stride = attentional_stride_;
        const Range panels = part_of(combine_.panels(), threads, thread);
        for (int64_t p = panels.begin; p < panels.end; ++p) {
            multiply(combine_, p, combine_packed_, {0, outputs}, top_rows(), count_, target, stride,
                     nullptr, 0);
            multiply(combine_, p, combine_packed_, {outputs, combine_.depth}, context_rows_, count_,
                     target, stride, target, stride);
            const Range vectors = combine_.panel(p);
            for (int64_t i = 0; i < count_; ++i) {
                Real* row = target + i * stride;
                for (int64_t v = vectors.begin; v < vectors.end; ++v) {
                    store(row + v * lanes, M::tanh(load(row + v * lanes)));
                }
            }
        }
    }

    void project(int thread, int threads) {
        const Range panels = part_of(head_.panels(), threads, thread);
        const Real* const* left = attends() ? attentional_rows_ : top_rows();
        for (int64_t p = panels.begin; p < panels.end; ++p) {
            for (int64_t i = 0; i < runs_count_; ++i) {
                const Run& run = runs_[i];
                multiply(head_, p, head_packed_, left + run.begin, run.end - run.begin,
                         logits_ + rows_[run.begin].flat * logits_stride_,
                         run.distance * logits_stride_, head_bias_);
            }
        }
    }

    const DecoderArgs& args_;
    const int gates_;
    int64_t group_;  // vectors of units in a block
    size_t workspace_;
    int64_t attentional_stride_, memory_stride_, score_stride_, key_stride_;
    int64_t logits_stride_, keys_size_, scratch_size_;
    Progress* progress_;
    Barrier* barrier_;
    Layer layers_[kMostDecoderLayers];
    Real* attentional_[2];           // [rows, attentional_stride_]
    const Real** fed_parents_;       // [parents]
    const Real** attentional_rows_;  // [rows]
    Real* context_;                  // [rows, memory_stride_]
    const Real** context_rows_;
    Real* scores_;  // [rows, score_stride_]
    const Real** score_rows_;
    PanelLayout<Real> query_, keys_, values_, combine_, head_;
    Real *query_packed_, *query_bias_, *score_weight_;
    Real* queries_;        // [rows, key_stride_], additive only
    Real* keys_packed_;    // [batch, keys_size_]
    Real* values_packed_;  // [batch] panels of [memory_steps, memory_size]
    Real *combine_packed_, *head_packed_, *head_bias_;
    Real* logits_;              // [batch * beams, logits_stride_]
    int64_t* place_;            // [batch * beams] the row that a hypothesis was in the last step
    Row* rows_;                 // [rows]
    Run* runs_;                 // [runs]
    int64_t* first_of_;         // [batch + 1] a sentence's first row
    int64_t* first_parent_of_;  // [batch + 1] and the first of their parents
    int64_t* parent_slot_;      // [rows]
    int64_t kept_most_;         // tokens
    int32_t* token_slot_;       // [words] among those kept, or -1
    const Real** token_rows_;   // [tokens] their embeddings
    int64_t* tokens_;           // [tokens]
    Real* kept_;                // [blocks of layer 0, kept_most_, width()]: with bias_ih
    Real* scratch_;             // per thread three of [rows, width()]
    int64_t count_, parents_, known_tokens_, runs_count_;  // of this step
};

template <class F>
auto with_real(DType dtype, F&& f) {
    return dtype == DType::float64 ? f(double{}) : f(float{});
}

size_t workspace_of(const DecoderArgs& args) {
    return with_real(args.dtype,
                     [&](auto real) { return Decoder<decltype(real)>(args).workspace(); });
}

void start(const DecoderArgs& args) {
    with_real(args.dtype, [&](auto real) { Decoder<decltype(real)>(args).start(); });
}

void step(const DecoderArgs& args, BeamStepArgs& beams) {
    with_real(args.dtype, [&](auto real) { Decoder<decltype(real)>(args).step(beams); });
}

}  // namespace

extern const DecoderKernels decoder = {&workspace_of, &start, &step};

}  // namespace seqfast::cpu::SEQFAST_ISA
