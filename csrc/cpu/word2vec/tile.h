// The arithmetic of word vectors: all dots between two small sets of rows, what each is to change,
// and the rows changed.
#pragma once

#include "cpu/base/arena.h"
#include "cpu/base/gemm.h"
#include "cpu/base/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

// One side of a tile. Reading and writing apart: what is written may have changed since the batch
// began, what is read has not.
struct TileSide {
    const float** from;  // [count] rows as they are read
    float** to;          // [count] rows to which changes are added
    float* factor;       // [count] the label as 1 or -1, times how often the row occurs
    int64_t count = 0;
    float most = 1;          // of the factors' magnitudes
    uint32_t negatives = 0;  // of the first rows those with a negative factor, bit by bit

    static TileSide take(Arena& arena, int64_t most_rows) {
        TileSide side;
        side.from = arena.take<const float*>(most_rows);
        side.to = arena.take<float*>(most_rows);
        side.factor = arena.take<float>(most_rows);
        return side;
    }
    SEQFAST_INLINE bool uniform() const { return most == 1 && negatives == 0; }
    void repeat(int64_t at) {
        factor[at] += factor[at] > 0 ? 1.0f : -1.0f;
        const float times = factor[at] > 0 ? factor[at] : -factor[at];
        most = times > most ? times : most;
    }
};

// Adds rows to a side; its counts stay in registers meanwhile.
class TileSideWriter {
  public:
    SEQFAST_INLINE explicit TileSideWriter(TileSide& side) : side_(side), count_(0), negatives_(0) {
        side_.most = 1;
    }
    SEQFAST_INLINE ~TileSideWriter() {
        side_.count = count_;
        side_.negatives = negatives_;
    }
    TileSideWriter(const TileSideWriter&) = delete;
    TileSideWriter& operator=(const TileSideWriter&) = delete;

    SEQFAST_INLINE int64_t count() const { return count_; }
    SEQFAST_INLINE void add(const float* from, float* to, bool negative) {
        side_.from[count_] = from;
        side_.to[count_] = to;
        side_.factor[count_] = negative ? -1.0f : 1.0f;
        negatives_ |= static_cast<uint32_t>(negative) << (count_ < 31 ? count_ : 31);
        ++count_;
    }
    void repeat(int64_t at) { side_.repeat(at); }

  private:
    TileSide& side_;
    int64_t count_;
    uint32_t negatives_;
};

// The side in lanes: as many rows as have their vector and its sum in registers.
constexpr int kTileLanes = kAccumulators / 2;
// Floats from one of the other side's rows to the next in the matrix of dots.
constexpr int tile_stride(int lanes) { return lanes <= 8 ? 8 : 16; }
constexpr int kTileLine = 16;  // columns come in lines of the cache

SEQFAST_INLINE int64_t tile_blocks(int64_t lanes) { return ceil_div(lanes, kTileLanes); }
// Of the matrix of dots, with room for a vector past its end.
SEQFAST_INLINE int64_t tile_size(int64_t lanes, int64_t rows) {
    return tile_blocks(lanes) * (rows + 2) * kTileLine;
}

// ---- dots ----

template <int distance, size_t... l>
SEQFAST_INLINE Vector<float> fold_both(Vector<float> x, Vector<float> y,
                                       std::index_sequence<l...>) {
    constexpr int lanes = sizeof...(l);
    const auto own = __builtin_shufflevector(x, y, (l & distance ? lanes + int(l) : int(l))...);
    const auto others = __builtin_shufflevector(
        x, y, (l & distance ? lanes + int(l ^ distance) : int(l ^ distance))...);
    return own + others;
}

// Whether a sum is one of those whose lanes become lane `lane`, lane + distance, ...
template <int lanes_used, int stride, int rows, int vector>
constexpr bool tile_sum_exists(int lane) {
    const int flat = vector * kLanes<float> + lane;
    return flat / stride < rows && flat % stride < lanes_used;
}

// Lane l of the result is the sum over all lanes of element vector * kLanes + l of the tile
// [rows][stride]: pairs of sums share each step of the reduction.
template <int vector, int distance, int lane, int lanes_used, int rows>
SEQFAST_INLINE Vector<float> fold(const Vector<float> (&sums)[rows][lanes_used], bool& exists) {
    constexpr int stride = tile_stride(lanes_used);
    if constexpr (distance == kLanes<float>) {
        constexpr int flat = vector * kLanes<float> + lane;
        constexpr bool here = tile_sum_exists<lanes_used, stride, rows, vector>(lane);
        exists = here;
        if constexpr (here) return sums[flat / stride][flat % stride];
        return Vector<float>{};
    } else {
        bool has_left, has_right;
        const Vector<float> left = fold<vector, 2 * distance, lane>(sums, has_left);
        const Vector<float> right = fold<vector, 2 * distance, lane + distance>(sums, has_right);
        exists = has_left;
        if (!has_left) return left;
        constexpr auto sequence = std::make_index_sequence<kLanes<float>>{};
        if (has_right) return fold_both<distance>(left, right, sequence);
        return left + lanes_from<distance>(left, sequence);
    }
}

template <int lanes_used, int rows, size_t... vector>
SEQFAST_INLINE void store_folded(const Vector<float> (&sums)[rows][lanes_used], float* dots,
                                 std::index_sequence<vector...>) {
    bool exists;
    (store(dots + vector * kLanes<float>, fold<vector, 1, 0>(sums, exists)), ...);
}

// dots[r][l] = sum over the columns of lanes[l] times others[r].
template <int lanes_used, int rows>
SEQFAST_INLINE void dots_of_rows(const float* const* lanes, const float* const* others,
                                 Range columns, float* dots) {
    constexpr int width = kLanes<float>;
    Vector<float> sums[rows][lanes_used] = {};
    for (int64_t c = columns.begin; c < columns.end; c += width) {
        Vector<float> y[rows];
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) y[r] = load(others[r] + c);
#pragma GCC unroll 12
        for (int l = 0; l < lanes_used; ++l) {
            const Vector<float> x = load(lanes[l] + c);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) sums[r][l] = fused(sums[r][l], x, y[r]);
        }
    }
    constexpr int floats = rows * tile_stride(lanes_used);
    store_folded(sums, dots, std::make_index_sequence<(floats + width - 1) / width>{});
}

template <int lanes_used>
SEQFAST_INLINE void tile_dots(const float* const* lanes, const float* const* others, int64_t count,
                              Range columns, float* dots) {
    constexpr int stride = tile_stride(lanes_used);
    // An even number, so that vectors of dots are written as they will be read.
    constexpr int fitting = kAccumulators / lanes_used;
    constexpr int most = fitting >= 4 ? 4 : fitting >= 2 ? 2 : 1;
    int64_t r = 0;
    for (; r + most <= count; r += most) {
        dots_of_rows<lanes_used, most>(lanes, others + r, columns, dots + r * stride);
    }
    if (most > 2 && r + 2 <= count) {
        dots_of_rows<lanes_used, 2>(lanes, others + r, columns, dots + r * stride);
        r += 2;
    }
    if (r < count) {
        dots_of_rows<lanes_used, 1>(lanes, others + r, columns, dots + r * stride);
    }
}

// ---- what a dot is to change, and the loss ----

// Sum of -log sigmoid(y z) = max(-y z, 0) + log(1 + e^-|z|): the logarithms as one of a product,
// whose exponent is taken out before it is too large.
class TileLoss {
  public:
    using V = Vector<float>;
    using Int = VectorTypes<float>::Int;

    SEQFAST_INLINE void clear() {
        product_ = broadcast(1.0f);
        linear_ = V{};
        exponents_ = Int{};
    }
    SEQFAST_INLINE void multiply(V factor) { product_ *= factor; }
    SEQFAST_INLINE void add(V linear) { linear_ += linear; }
    // Due after at most 64 factors of at most 2.
    SEQFAST_INLINE void normalise() {
        const Int bits = (Int)product_;
        exponents_ += (bits >> 23) - 127;
        product_ = (V)((bits & 0x7fffff) | 0x3f800000);
    }
    double sum() {
        normalise();
        double product = 1, sum = 0;
        for (int l = 0; l < kLanes<float>; ++l) {
            product *= static_cast<double>(product_[l]);
            sum += static_cast<double>(linear_[l]) +
                   0.693147180559945309417 * static_cast<double>(exponents_[l]);
        }
        return sum + __builtin_log(product);
    }

  private:
    V product_, linear_;
    Int exponents_;
};

// The factors of a block of lanes, as they lie beside the dots of a row or of two.
template <int lanes_used>
struct LaneFactors {
    static constexpr int stride = tile_stride(lanes_used);
    static constexpr int width = kLanes<float>;
    static constexpr int vectors = stride > width ? stride / width : 1;
    Vector<float> at[vectors];

    SEQFAST_INLINE LaneFactors(const TileSide& lanes, int64_t begin) {
        using V = Vector<float>;
        using Int = VectorTypes<float>::Int;
        if (lanes.count <= kTileLanes && lanes.most == 1) {
            // Not from memory: a vector of what was just written piece by piece would have to wait.
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) {
                Int bit{};
                V used{};
                for (int l = 0; l < width; ++l) {
                    const int lane = (v * width + l) % stride;
                    bit[l] = 1 << lane;
                    used[l] = lane < lanes_used ? 1.0f : 0.0f;
                }
                at[v] = (bit & static_cast<int32_t>(lanes.negatives)) != Int{} ? -used : used;
            }
        } else {
            alignas(64) float factors[vectors * width];
            for (int l = 0; l < vectors * width; ++l) {
                factors[l] = l % stride < lanes_used ? lanes.factor[begin + l % stride] : 0.0f;
            }
            for (int v = 0; v < vectors; ++v) at[v] = load(factors + v * width);
        }
    }
};

// dots [count][stride] become rate * y' * (1 - sigmoid(y' z)) with y' = factor of the lane times
// that of the row; zero where the lane's is.
template <int lanes_used, bool uniform>
SEQFAST_INLINE void tile_gradients(float* dots, int64_t count,
                                   const LaneFactors<lanes_used>& lane_factors,
                                   const float* row_factors, float rate, float most,
                                   TileLoss& loss) {
    using M = Math<float>;
    using V = Vector<float>;
    using Int = VectorTypes<float>::Int;
    constexpr int stride = tile_stride(lanes_used);
    constexpr int width = kLanes<float>;
    constexpr int vectors = LaneFactors<lanes_used>::vectors;
    constexpr int rows = width > stride ? width / stride : 1;  // to a vector
    const Int sign = (Int)broadcast(-0.0f);
    V first_row{};
    for (int l = 0; l < width; ++l) first_row[l] = l < stride ? 1.0f : 0.0f;
    int64_t done = 0;
    for (int64_t r = 0; r < count; r += rows) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            V factor = lane_factors.at[v];
            if constexpr (rows == 2) {
                const bool alone = r + 1 == count;
                if constexpr (!uniform) {
                    const V first = broadcast(row_factors[r]);
                    const V second = broadcast(row_factors[alone ? r : r + 1]);
                    factor *= first_row != V{} ? first : second;
                }
                if (alone) factor *= first_row;
            } else if constexpr (!uniform) {
                factor *= broadcast(row_factors[r]);
            }
            float* at = dots + r * stride + v * width;
            const V z = load(at);
            const V against = (V)((Int)z ^ (~(Int)factor & sign));  // -y' z
            V x = (V)((Int)z | sign);
            x = x < broadcast(-M::C::exp_limit) ? broadcast(-M::C::exp_limit) : x;
            V part;
            const V whole = M::reduce(x, part);
            const V power = M::scale((M::exp_tail(part) * part + 1) * part + 1, whole);  // e^-|z|
            const V numerator = against > V{} ? broadcast(1.0f) : power;
            store(at, (factor * rate) * M::divide(numerator, 1 + power));

            const V times = (V)((Int)factor & ~sign);
            // NaN must be seen in the loss, but not what is left in lanes that are not used.
            const V linear = factor == V{} || against < V{} ? V{} : against;
            loss.add(times * linear);
            loss.multiply(factor != V{} ? 1 + power : broadcast(1.0f));
            if (__builtin_expect(most > 1, 0)) {
                for (float k = 1; k < most; ++k) {
                    loss.normalise();
                    loss.multiply(times > broadcast(k) ? 1 + power : broadcast(1.0f));
                }
            }
            if (++done % 64 == 0) loss.normalise();
        }
    }
    loss.normalise();
}

// ---- changes ----

// lanes[l] += sum over r of g[r][l] others[r], others[r] += sum over l of g[r][l] lanes[l].
template <int lanes_used, bool change_lanes = true, bool change_others = true>
SEQFAST_INLINE void tile_changes(const float* const* lanes_from, float* const* lanes_to,
                                 const float* const* others_from, float* const* others_to,
                                 int64_t count, Range columns, const float* gradients) {
    constexpr int stride = tile_stride(lanes_used);
    constexpr int width = kLanes<float>;
    for (int64_t c = columns.begin; c < columns.end; c += width) {
        Vector<float> x[lanes_used], changed[lanes_used];
#pragma GCC unroll 12
        for (int l = 0; l < lanes_used; ++l) {
            if constexpr (change_others) x[l] = load(lanes_from[l] + c);
            if constexpr (change_lanes) changed[l] = load(lanes_to[l] + c);
        }
        const float* g = gradients;
        for (int64_t r = 0; r < count; ++r, g += stride) {
            Vector<float> y{}, other{};
            if constexpr (change_lanes) y = load(others_from[r] + c);
            if constexpr (change_others) other = load(others_to[r] + c);
#pragma GCC unroll 12
            for (int l = 0; l < lanes_used; ++l) {
                const Vector<float> gradient = broadcast(g[l]);
                if constexpr (change_lanes) changed[l] = fused(changed[l], gradient, y);
                if constexpr (change_others) other = fused(other, gradient, x[l]);
            }
            if constexpr (change_others) store(others_to[r] + c, other);
        }
        if constexpr (change_lanes) {
#pragma GCC unroll 12
            for (int l = 0; l < lanes_used; ++l) store(lanes_to[l] + c, changed[l]);
        }
    }
}

// ---- tiles of any size: the side in lanes is cut into blocks ----

// f(block, its number of lanes as a constant, its part of dots)
template <class F>
SEQFAST_INLINE void for_each_block(const TileSide& lanes, const TileSide& others, float* dots,
                                   F&& f) {
    const int64_t blocks = tile_blocks(lanes.count);
    for (int64_t b = 0; b < blocks; ++b) {
        const Range block = part_of(lanes.count, blocks, b);
        float* of_block = dots + b * (others.count + 2) * kTileLine;
        with_size<kTileLanes>(block.size(), [&](auto size) { f(block, size, of_block); });
    }
}

template <int lanes_used>
SEQFAST_INLINE void block_gradients(const TileSide& lanes, const TileSide& others, Range block,
                                    float rate, float* dots, TileLoss& loss) {
    const LaneFactors<lanes_used> factors(lanes, block.begin);
    const float most = lanes.most * others.most;
    if (others.uniform()) {
        tile_gradients<lanes_used, true>(dots, others.count, factors, nullptr, rate, most, loss);
    } else {
        tile_gradients<lanes_used, false>(dots, others.count, factors, others.factor, rate, most,
                                          loss);
    }
}

// A whole tile; columns as a range of floats. Rows of the other side that are read must not be
// those that are written if there is more than one block of lanes.
inline void train_tile(const TileSide& lanes, const TileSide& others, Range columns, float rate,
                       float* dots, TileLoss& loss) {
    if (lanes.count <= kTileLanes) {
        with_size<kTileLanes>(lanes.count, [&](auto size) {
            tile_dots<size()>(lanes.from, others.from, others.count, columns, dots);
            block_gradients<size()>(lanes, others, {0, size()}, rate, dots, loss);
            tile_changes<size()>(lanes.from, lanes.to, others.from, others.to, others.count,
                                 columns, dots);
        });
        return;
    }
    for_each_block(lanes, others, dots, [&](Range block, auto size, float* of_block) {
        tile_dots<size()>(lanes.from + block.begin, others.from, others.count, columns, of_block);
        block_gradients<size()>(lanes, others, block, rate, of_block, loss);
    });
    for_each_block(lanes, others, dots, [&](Range block, auto size, float* of_block) {
        tile_changes<size()>(lanes.from + block.begin, lanes.to + block.begin, others.from,
                             others.to, others.count, columns, of_block);
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA
