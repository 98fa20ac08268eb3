// Products of weights with a few rows of a recurrence on tensor cores: who multiplies what, and
// with which instruction.
#pragma once

#include "cuda/base/primitives.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// The k dimension is walked in chunks of 64 bytes, whatever the type. Within a chunk k is permuted
// so that a lane's share of a row is 16 bytes in a line, of weights and of rows alike:
// docs/develop/cuda_kernels.md.
constexpr int chunk_bytes = 64;

struct BFloat16Product {
    using T = BFloat16;
    using Acc = float;
    using Fragment = U32x4;
    static SEQFAST_DEVICE U32x4 ready(const U32x4& x, uint32_t) { return x; }
    // first, second: a lane's weights of either instruction, in its order; b: its 16 bytes of row g
    // of the other factor.
    static SEQFAST_DEVICE void multiply(float (&c)[4], const U32x4& first, const U32x4& second,
                                        const U32x4& b, uint32_t) {
        mma_bf16(c, first.x, first.y, first.z, first.w, b.x, b.y);
        mma_bf16(c, second.x, second.y, second.z, second.w, b.z, b.w);
    }
};

struct Float16Product {
    using T = Float16;
    using Acc = float;
    using Fragment = U32x4;
    static SEQFAST_DEVICE U32x4 ready(const U32x4& x, uint32_t) { return x; }
    static SEQFAST_DEVICE void multiply(float (&c)[4], const U32x4& first, const U32x4& second,
                                        const U32x4& b, uint32_t) {
        mma_fp16(c, first.x, first.y, first.z, first.w, b.x, b.y);
        mma_fp16(c, second.x, second.y, second.z, second.w, b.z, b.w);
    }
};

// Three TF32 products of halves, small ones first; or with split == 0 one of what TF32 keeps. The
// small half of infinity is NaN, and so is every product with it. `split` is the mask of what TF32
// keeps.
struct Float32Product {
    using T = float;
    using Acc = float;
    struct Fragment {
        U32x4 big, small;
    };
    static constexpr uint32_t kept_bits = 0xFFFFE000u;
    static SEQFAST_DEVICE Fragment ready(const U32x4& x, uint32_t split) {
        Fragment f{x, {0, 0, 0, 0}};
        if (split) {
            f.big = {x.x & split, x.y & split, x.z & split, x.w & split};
            f.small = {bits_of(float_of(x.x) - float_of(f.big.x)),
                       bits_of(float_of(x.y) - float_of(f.big.y)),
                       bits_of(float_of(x.z) - float_of(f.big.z)),
                       bits_of(float_of(x.w) - float_of(f.big.w))};
        }
        return f;
    }
    static SEQFAST_DEVICE void multiply(float (&c)[4], const Fragment& first,
                                        const Fragment& second, const Fragment& b, uint32_t split) {
        if (split) {
            one(c, first.small, second.small, b.big);
            one(c, first.big, second.big, b.small);
        }
        one(c, first.big, second.big, b.big);
    }
    static SEQFAST_DEVICE void one(float (&c)[4], const U32x4& first, const U32x4& second,
                                   const U32x4& b) {
        mma_tf32(c, first.x, first.y, first.z, first.w, b.x, b.y);
        mma_tf32(c, second.x, second.y, second.z, second.w, b.z, b.w);
    }
};

struct Float64Product {
    using T = double;
    using Acc = double;
    using Fragment = U32x4;
    // low, high: a lane's 16 bytes of weight rows g and g + 8.
    static SEQFAST_DEVICE U32x4 ready(const U32x4& x, uint32_t) { return x; }
    static SEQFAST_DEVICE void multiply(double (&c)[4], const U32x4& low, const U32x4& high,
                                        const U32x4& b, uint32_t) {
        mma_f64(c[0], c[1], double_of(low.x, low.y), double_of(b.x, b.y));
        mma_f64(c[2], c[3], double_of(high.x, high.y), double_of(b.x, b.y));
        mma_f64(c[0], c[1], double_of(low.z, low.w), double_of(b.z, b.w));
        mma_f64(c[2], c[3], double_of(high.z, high.w), double_of(b.z, b.w));
    }
};

// How a block of 8 warps shares out its product: `units` units of `outputs` rows of weights each,
// over warps_m warps; k over the other 8 / warps_m; 8 * n_tiles rows of the batch at a time.
// Sequence kernels have all weights in registers, or some of them in shared memory, which takes
// registers too.
template <int units_, int outputs_, int warps_m_, int n_tiles_, bool all_in_registers_ = true>
struct Geometry {
    static constexpr int threads = 256;
    static constexpr int units = units_;
    static constexpr int outputs = outputs_;  // 4: the gates of a unit; 1: the unit itself
    static constexpr int warps_m = warps_m_;
    static constexpr int warps_k = 8 / warps_m;
    static constexpr int n_tiles = n_tiles_;
    static constexpr int rows = 8 * n_tiles;
    static constexpr int block_m_tiles = units * outputs / 16;
    static constexpr int m_tiles = block_m_tiles / warps_m;  // of 16 rows, of a warp
    static constexpr bool all_in_registers = all_in_registers_;
    // Chunks of k whose weights a warp keeps in registers: 128 or 96 registers a thread.
    static constexpr int register_chunks = (all_in_registers ? 16 : 12) / m_tiles;
    // Chunks whose rows are fetched together: as many as leave room for all else without spills.
    static constexpr int window = register_chunks % (4 / n_tiles) == 0 ? 4 / n_tiles : 3 / n_tiles;
    static constexpr int pairs = (units * rows + threads - 1) / threads;  // of a thread
    static constexpr int partial_stride = units * outputs + 4;            // + 4: no bank conflicts
    static constexpr int partial_size = warps_k * rows * partial_stride;

    static_assert(m_tiles * warps_m == block_m_tiles && register_chunks % window == 0);
};

// A unit's share of four products, of float64 two registers each: its gates in the order of their
// rows, zeros where a cell has fewer.
template <class Acc>
struct alignas(16) Gates4 {
    Acc at[4];
};

// What one warp has of the block's product.
template <class Product, class G>
struct Tile {
    using Acc = typename Product::Acc;
    Acc c[G::m_tiles][G::n_tiles][4];

    SEQFAST_DEVICE void clear() {
        SEQFAST_UNROLL
        for (int m = 0; m < G::m_tiles; ++m) SEQFAST_UNROLL
        for (int n = 0; n < G::n_tiles; ++n) SEQFAST_UNROLL
        for (int i = 0; i < 4; ++i) c[m][n][i] = 0;
    }

    // One chunk: weights(m, half) of this warp's m tile m times rows b.
    template <class Weights>
    SEQFAST_DEVICE void multiply(const Weights& weights, const U32x4 (&b)[G::n_tiles],
                                 uint32_t split) {
        typename Product::Fragment rows[G::n_tiles];
        SEQFAST_UNROLL
        for (int n = 0; n < G::n_tiles; ++n) rows[n] = Product::ready(b[n], split);
        SEQFAST_UNROLL
        for (int m = 0; m < G::m_tiles; ++m) {
            const typename Product::Fragment first = Product::ready(weights(m, 0), split);
            const typename Product::Fragment second = Product::ready(weights(m, 1), split);
            SEQFAST_UNROLL
            for (int n = 0; n < G::n_tiles; ++n)
                Product::multiply(c[m][n], first, second, rows[n], split);
        }
    }

    // To partial[k warp][row][unit * outputs + output] of shared memory. Of gates, the tiles of 16
    // rows come in pairs for 8 units: the first two gates, then the others.
    SEQFAST_DEVICE void store(Acc* partial, int warp_m, int warp_k) const {
        const int g = lane_index() / 4, t = lane_index() % 4;
        SEQFAST_UNROLL
        for (int n = 0; n < G::n_tiles; ++n) SEQFAST_UNROLL
        for (int column = 0; column < 2; ++column) {
            const int row = 8 * n + 2 * t + column;
            Acc* to = partial + (warp_k * G::rows + row) * G::partial_stride;
            if constexpr (G::outputs == 4) {
                SEQFAST_UNROLL
                for (int pair = 0; pair < G::m_tiles / 2; ++pair) {
                    const int unit = 8 * (warp_m * G::m_tiles / 2 + pair) + g;
                    const auto& first = c[2 * pair][n];
                    const auto& second = c[2 * pair + 1][n];
                    reinterpret_cast<Gates4<Acc>*>(to)[unit] = {
                        {first[column], first[2 + column], second[column], second[2 + column]}};
                }
            } else {
                SEQFAST_UNROLL
                for (int m = 0; m < G::m_tiles; ++m) {
                    const int unit = 16 * (warp_m * G::m_tiles + m) + g;
                    to[unit] = c[m][n][column];
                    to[unit + 8] = c[m][n][2 + column];
                }
            }
        }
    }
};

// Sums over the k warps, always in the same order.
template <class G, class Acc>
SEQFAST_DEVICE Gates4<Acc> sum_gates(const Acc* partial, int row, int unit) {
    Gates4<Acc> sum{};
    SEQFAST_UNROLL
    for (int k = 0; k < G::warps_k; ++k) {
        const Acc* at = partial + (k * G::rows + row) * G::partial_stride;
        const Gates4<Acc> part = reinterpret_cast<const Gates4<Acc>*>(at)[unit];
        SEQFAST_UNROLL
        for (int gate = 0; gate < 4; ++gate) sum.at[gate] += part.at[gate];
    }
    return sum;
}
template <class G, class Acc>
SEQFAST_DEVICE Acc sum_unit(const Acc* partial, int row, int unit) {
    Acc sum = 0;
    SEQFAST_UNROLL
    for (int k = 0; k < G::warps_k; ++k)
        sum += partial[(k * G::rows + row) * G::partial_stride + unit];
    return sum;
}

// As many as the geometry has outputs, zeros for the others.
template <class G, class Acc>
SEQFAST_DEVICE Gates4<Acc> sum_outputs(const Acc* partial, int row, int unit) {
    if constexpr (G::outputs == 4)
        return sum_gates<G>(partial, row, unit);
    else
        return {{sum_unit<G>(partial, row, unit), 0, 0, 0}};
}

// The chunks of k that are a warp's own: a run of equal length for each k warp, the last ones
// shorter.
struct ChunkRange {
    int first, count;

    static SEQFAST_INLINE constexpr int longest(int chunks, int warps_k) {
        return (chunks + warps_k - 1) / warps_k;
    }
    static SEQFAST_DEVICE ChunkRange of_warp(int chunks, int warps_k, int warp_k) {
        const int each = longest(chunks, warps_k);
        const int first = warp_k * each;
        const int left = chunks - first;
        return {first, left < 0 ? 0 : left < each ? left : each};
    }
};

// Packed weights: [m tile][chunk][half][lane] of 16 bytes, so that every load of a warp is one line
// of 512.
SEQFAST_INLINE int64_t packed_index(int64_t m_tile, int chunks, int chunk, int half, int lane) {
    return ((m_tile * chunks + chunk) * 2 + half) * 32 + lane;
}

// Rows of the other factor: [chunk][row of a pass][64 bytes]; lane's 16 bytes of row g of n tile 0.
template <class G>
SEQFAST_DEVICE int64_t fragment_offset(int chunk) {
    return (int64_t(chunk) * G::rows + lane_index() / 4) * chunk_bytes + lane_index() % 4 * 16;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
