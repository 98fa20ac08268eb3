// The full softmax: every word is a target, so the rows of output pass by in chunks, once for the
// normaliser, once for the changes of the contexts and once for their own.
#pragma once

#include "core/word2vec.h"
#include "cpu/base/team.h"
#include "cpu/word2vec/draw.h"
#include "cpu/word2vec/tile.h"

namespace seqfast::cpu::SEQFAST_ISA {

SEQFAST_INLINE Vector<float> exp_of_negative(Vector<float> x) {
    using M = Math<float>;
    x = x < broadcast(-M::C::exp_limit) ? broadcast(-M::C::exp_limit) : x;
    Vector<float> part;
    const Vector<float> whole = M::reduce(x, part);
    return M::scale((M::exp_tail(part) * part + 1) * part + 1, whole);
}

// A batch of examples, each a vector that predicts a centre; all gradients from the parameters as
// they are, then all changes. The same bits for any number of threads.
class Softmax {
  public:
    explicit Softmax(const Word2VecArgs& args) : args_(&args) {}

    // What the threads of a batch share.
    void take_shared(Arena& arena, int64_t most_examples) {
        norms_ = arena.take<float>(most_examples);
        losses_ = arena.take<double>(most_examples);
        changes_ = arena.take<float>(most_examples * args_->stride);
        if (args_->cbow) hidden_ = arena.take<float>(most_examples * args_->stride);
    }
    // What each has for itself.
    void take_own(Arena& arena, int64_t most_examples) {
        centres_ = arena.take<int32_t>(most_examples);
        sources_ = arena.take<Window>(most_examples);
        vectors_ = arena.take<const float*>(most_examples);
        chunk_ = arena.take<float>(kChunk * args_->stride);
        dots_ = arena.take<float>((kChunk + 2) * kTileLine);
    }

    int64_t count() const { return count_; }
    double loss() const {
        double sum = 0;
        for (int64_t e = 0; e < count_; ++e) sum += losses_[e];
        return sum;
    }

    void begin() { count_ = 0; }
    void add(const int32_t* ids, const Window& window, int32_t pair) {
        ids_ = ids;
        if (args_->cbow) {
            add_example(ids[window.centre], window, hidden_ + count_ * args_->stride);
            return;
        }
        int32_t number = 0;
        for (int32_t k = window.begin; k < window.end; ++k) {
            if (k == window.centre) continue;
            if (pair < 0 || number == pair) {
                add_example(ids[window.centre], {k, k, k, 0}, input_row(ids[k]));
            }
            ++number;
        }
    }

    // One thread's part of the work on a batch that all of them see alike; the others may still be
    // at theirs.
    void train(float rate, int threads, int thread, Barrier& barrier) {
        if (args_->cbow) {
            const Range part = part_of(count_, threads, thread);
            for (int64_t e = part.begin; e < part.end; ++e) find_hidden(e);
            barrier.wait();
        }
        const Range blocks = part_of(tile_blocks(count_), threads, thread);
        for (int64_t b = blocks.begin; b < blocks.end; ++b) {
            with_block(b, [&](Range block, auto size) {
                normalise<size()>(block.begin);
                change_vectors<size()>(block.begin, rate);
            });
        }
        barrier.wait();
        const Range chunks = part_of(ceil_div(args_->vocabulary, kChunk), threads, thread);
        for (int64_t c = chunks.begin; c < chunks.end; ++c) change_targets(c * kChunk, rate);
        barrier.wait();
        const Range lines = part_of(args_->stride / kTileLine, threads, thread);
        apply({lines.begin * kTileLine, lines.end * kTileLine});
    }

  private:
    static constexpr int64_t kChunk = 64;  // targets

    float* input_row(int32_t id) const { return args_->input + id * args_->stride; }

    void add_example(int32_t centre, const Window& source, const float* vector) {
        centres_[count_] = centre;
        sources_[count_] = source;
        vectors_[count_] = vector;
        ++count_;
    }

    float share_of(const Window& window) const {
        return args_->cbow_mean ? 1.0f / static_cast<float>(window.contexts()) : 1.0f;
    }

    void find_hidden(int64_t e) {
        const Window& window = sources_[e];
        float* hidden = hidden_ + e * args_->stride;
        for (int64_t c = 0; c < args_->stride; c += kLanes<float>) {
            Vector<float> sum{};
            for (int32_t k = window.begin; k < window.end; ++k) {
                if (k != window.centre) sum += load(input_row(ids_[k]) + c);
            }
            store(hidden + c, sum * share_of(window));
        }
    }

    template <class F>
    void with_block(int64_t b, F&& f) const {
        const Range block = {b * kTileLanes, smaller((b + 1) * kTileLanes, count_)};
        with_size<kTileLanes>(block.size(), [&](auto size) { f(block, size); });
    }

    // f(first target, how many, pointers to them) for all chunks.
    template <class F>
    void for_chunks(F&& f) const {
        const float* rows[kChunk];
        for (int64_t first = 0; first < args_->vocabulary; first += kChunk) {
            const int64_t count = smaller(kChunk, args_->vocabulary - first);
            for (int64_t r = 0; r < count; ++r)
                rows[r] = args_->output + (first + r) * args_->stride;
            f(first, count, rows);
        }
    }

    // Dots of a block of examples and some targets; what is past the last target counts nothing.
    template <int size>
    void find_dots(int64_t example, const float* const* targets, int64_t count) {
        tile_dots<size>(vectors_ + example, targets, count, {0, args_->stride}, dots_);
        for (int l = 0; l < 16; ++l) dots_[count * tile_stride(size) + l] = -__builtin_inff();
    }

    template <int size>
    static constexpr int period() {
        return kLanes<float> > tile_stride(size) ? kLanes<float> : tile_stride(size);
    }

    // log sum exp, as maximum and sum of each lane from chunk to chunk.
    template <int size>
    void normalise(int64_t example) {
        using V = Vector<float>;
        constexpr int stride = tile_stride(size), width = kLanes<float>;
        constexpr int vectors = period<size>() / width;
        V most[vectors], sum[vectors];
        for (int v = 0; v < vectors; ++v) {
            most[v] = broadcast(-__builtin_inff());
            sum[v] = V{};
        }
        for_chunks([&](int64_t first, int64_t count, const float* const* targets) {
            find_dots<size>(example, targets, count);
            for (int e = 0; e < size; ++e) {
                const int64_t centre = centres_[example + e] - first;
                if (centre >= 0 && centre < count) {
                    losses_[example + e] = -static_cast<double>(dots_[centre * stride + e]);
                }
            }
            const int64_t groups = ceil_div(count * stride, vectors * width);
            for (int v = 0; v < vectors; ++v) {
                V highest = most[v];
                for (int64_t i = 0; i < groups; ++i) {
                    const V z = load(dots_ + (i * vectors + v) * width);
                    highest = z > highest ? z : highest;
                }
                V added{};
                for (int64_t i = 0; i < groups; ++i) {
                    const V z = load(dots_ + (i * vectors + v) * width);
                    added += z == broadcast(-__builtin_inff()) ? V{} : exp_of_negative(z - highest);
                }
                sum[v] =
                    added + (sum[v] == V{} ? V{} : sum[v] * exp_of_negative(most[v] - highest));
                most[v] = highest;
            }
        });
        float mosts[period<size>()], sums[period<size>()];
        for (int v = 0; v < vectors; ++v) {
            store(mosts + v * width, most[v]);
            store(sums + v * width, sum[v]);
        }
        for (int e = 0; e < size; ++e) {
            float highest = mosts[e];
            for (int p = e; p < period<size>(); p += stride) {
                highest = mosts[p] > highest ? mosts[p] : highest;
            }
            double total = 0;
            for (int p = e; p < period<size>(); p += stride) {
                if (sums[p] != 0) {
                    total +=
                        static_cast<double>(sums[p]) *
                        __builtin_exp(static_cast<double>(mosts[p]) - static_cast<double>(highest));
                }
            }
            const double norm = static_cast<double>(highest) + __builtin_log(total);
            norms_[example + e] = static_cast<float>(norm);
            losses_[example + e] += norm;
        }
    }

    // dots become rate * (y - p)
    template <int size>
    void find_gradients(int64_t example, int64_t first, int64_t count, float rate) {
        using V = Vector<float>;
        constexpr int stride = tile_stride(size), width = kLanes<float>;
        alignas(64) float norms[period<size>()];
        for (int l = 0; l < period<size>(); ++l) {
            norms[l] = l % stride < size ? norms_[example + l % stride] : 0.0f;
        }
        for (int64_t i = 0; i * width < count * stride; ++i) {
            const V z = load(dots_ + i * width);
            const V norm = load(norms + i * width % period<size>());
            const V log_p = z > norm ? V{} : z - norm;
            store(dots_ + i * width, exp_of_negative(log_p) * -rate);
        }
        for (int e = 0; e < size; ++e) {
            const int64_t centre = centres_[example + e] - first;
            if (centre >= 0 && centre < count) dots_[centre * stride + e] += rate;
        }
    }

    template <int size>
    void change_vectors(int64_t example, float rate) {
        float* changes[size];
        for (int e = 0; e < size; ++e) {
            changes[e] = changes_ + (example + e) * args_->stride;
            __builtin_memset(changes[e], 0, static_cast<size_t>(args_->stride) * sizeof(float));
        }
        for_chunks([&](int64_t first, int64_t count, const float* const* targets) {
            find_dots<size>(example, targets, count);
            find_gradients<size>(example, first, count, rate);
            tile_changes<size, true, false>(nullptr, changes, targets, nullptr, count,
                                            {0, args_->stride}, dots_);
        });
    }

    void change_targets(int64_t first, float rate) {
        const int64_t count = smaller(kChunk, args_->vocabulary - first);
        float* rows[kChunk];
        const float* copies[kChunk];
        for (int64_t r = 0; r < count; ++r) {
            rows[r] = args_->output + (first + r) * args_->stride;
            copies[r] = chunk_ + r * args_->stride;
        }
        __builtin_memcpy(chunk_, rows[0],
                         static_cast<size_t>(count * args_->stride) * sizeof(float));
        for (int64_t b = 0; b < tile_blocks(count_); ++b) {
            with_block(b, [&](Range block, auto size) {
                find_dots<size()>(block.begin, copies, count);
                find_gradients<size()>(block.begin, first, count, rate);
                tile_changes<size(), false, true>(vectors_ + block.begin, nullptr, nullptr, rows,
                                                  count, {0, args_->stride}, dots_);
            });
        }
    }

    void apply(Range columns) {
        const auto add = [&](int32_t id, const float* change, float share) {
            if (args_->locked && args_->locked[id]) return;
            float* row = input_row(id);
            for (int64_t c = columns.begin; c < columns.end; c += kLanes<float>) {
                store(row + c, load(row + c) + load(change + c) * share);
            }
        };
        for (int64_t e = 0; e < count_; ++e) {
            const Window& source = sources_[e];
            const float* change = changes_ + e * args_->stride;
            if (!args_->cbow) {
                add(ids_[source.centre], change, 1);
                continue;
            }
            const float share = args_->legacy_cbow ? 1.0f : share_of(source);
            for (int32_t k = source.begin; k < source.end; ++k) {
                if (k != source.centre) add(ids_[k], change, share);
            }
        }
    }

    const Word2VecArgs* args_;
    const int32_t* ids_ = nullptr;
    int64_t count_ = 0;
    int32_t* centres_ = nullptr;
    Window* sources_ = nullptr;
    const float** vectors_ = nullptr;
    float* norms_ = nullptr;
    double* losses_ = nullptr;
    float* changes_ = nullptr;
    float* hidden_ = nullptr;
    float* chunk_ = nullptr;
    float* dots_ = nullptr;
};

}  // namespace seqfast::cpu::SEQFAST_ISA
