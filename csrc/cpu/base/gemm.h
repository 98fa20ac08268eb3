// The one matrix product of the CPU backend: packed panels times rows, with a fused epilogue.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/base/range.h"
#include "cpu/base/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

// Columns cut into vectors, vectors into panels of at most four: panel p covers the vectors of
// part p. A packed panel holds [depth][vectors in it][lanes], zero-padded on the right.
template <class Real>
struct PanelLayout {
    Range vectors;    // of the whole matrix, in units of kLanes columns
    int64_t columns;  // of the whole matrix
    int64_t depth;

    int64_t panels() const { return ceil_div(vectors.size(), kPanelVectors); }
    Range panel(int64_t p) const {
        const Range r = part_of(vectors.size(), panels(), p);
        return {vectors.begin + r.begin, vectors.begin + r.end};
    }
    int64_t offset(int64_t p) const {
        return (panel(p).begin - vectors.begin) * kLanes<Real> * depth;
    }
    int lanes_of(int64_t vector) const {
        const int64_t left = columns - vector * kLanes<Real>;
        return static_cast<int>(left < kLanes<Real> ? left : kLanes<Real>);
    }
};

template <class Real>
PanelLayout<Real> whole(int64_t columns, int64_t depth) {
    return {{0, ceil_div(columns, kLanes<Real>)}, columns, depth};
}

template <class Real>
int64_t padded(int64_t columns) {
    return ceil_div(columns, kLanes<Real>) * kLanes<Real>;
}

// f(unit, count) for every vector of a range of units.
template <class Real, class F>
void for_each_vector(Range units, F&& f) {
    for (int64_t u = units.begin; u < units.end; u += kLanes<Real>) {
        f(u, static_cast<int>(smaller(kLanes<Real>, units.end - u)));
    }
}

// ---- compile-time sizes from run-time ones ----

template <int most, class F>
SEQFAST_INLINE void with_size(int64_t size, F&& f) {
    if constexpr (most > 1) {
        if (size < most) return with_size<most - 1>(size, f);
    }
    f(std::integral_constant<int, most>{});
}

// ---- the product ----

template <class Real, int rows, int vectors>
struct Tile {
    Vector<Real> at[rows][vectors];
};

// f(element, r, v) for every accumulator; unrolled, or the compiler would keep them in memory.
template <class Real, int rows, int vectors, class F>
SEQFAST_INLINE void for_each_element(Tile<Real, rows, vectors>& tile, F&& f) {
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 12
        for (int v = 0; v < vectors; ++v) f(tile.at[r][v], r, v);
    }
}

// target [rows, panel] = start [rows, panel] + left [rows, depth] x panel [depth, panel].
template <class Real>
struct Product {
    const Real* const* left;  // [count] where each row of the left-hand side begins
    int64_t left_stride = 1;  // between its elements
    const Real* panel;        // [depth, vectors, lanes]
    int64_t depth;
    const Real* start;  // nullptr: zero
    int64_t start_stride;
    Real* target;
    int64_t target_stride;
    const void* prefetch;  // what will be read next; nullptr: what follows the panel
};

// Every element is one sum in the order of k, whatever the tile: results do not depend on how rows,
// columns and depth were cut.
template <class Real, bool pairs, int rows, int vectors>
SEQFAST_INLINE void multiply_tile(const Product<Real>& product, int64_t row, Range depth,
                                  const char* prefetch) {
    constexpr int lanes = kLanes<Real>;
    const int64_t left_stride = product.left_stride;
    const Real* left[rows];
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) left[r] = product.left[row + r] + depth.begin * left_stride;
    // What was summed so far waits in the target.
    const bool begun = depth.begin > 0;
    const Real* start = begun ? product.target : product.start;
    const int64_t start_stride = begun ? product.target_stride : product.start_stride;
    Tile<Real, rows, vectors> tile;
    if (start) {
        start += row * start_stride;
        for_each_element(
            tile, [&](auto& x, int r, int v) { x = load(start + r * start_stride + v * lanes); });
    } else {
        for_each_element(tile, [](auto& x, int, int) { x = Vector<Real>{}; });
    }
    const Real* line = product.panel + depth.begin * vectors * lanes;
    int64_t at = 0;
    for (int64_t k = depth.begin; k < depth.end; ++k) {
        __builtin_prefetch(prefetch, 0, 2);
        // The smaller side stays in registers while the other passes by.
        if constexpr (rows < vectors) {
            Vector<Real> x[rows];
#pragma GCC unroll 12
            for (int r = 0; r < rows; ++r) x[r] = broadcast_factor<pairs>(left[r] + at);
#pragma GCC unroll 12
            for (int v = 0; v < vectors; ++v) {
                const Vector<Real> right = load(line + v * lanes);
#pragma GCC unroll 12
                for (int r = 0; r < rows; ++r) {
                    tile.at[r][v] = accumulate<pairs>(tile.at[r][v], x[r], right);
                }
            }
        } else {
            Vector<Real> right[vectors];
#pragma GCC unroll 12
            for (int v = 0; v < vectors; ++v) right[v] = load(line + v * lanes);
#pragma GCC unroll 12
            for (int r = 0; r < rows; ++r) {
                const Vector<Real> x = broadcast_factor<pairs>(left[r] + at);
#pragma GCC unroll 12
                for (int v = 0; v < vectors; ++v) {
                    tile.at[r][v] = accumulate<pairs>(tile.at[r][v], x, right[v]);
                }
            }
        }
        line += vectors * lanes;
        prefetch += 64;
        at += left_stride;
    }
    Real* target = product.target + row * product.target_stride;
    for_each_element(tile, [&](auto& x, int r, int v) {
        store(target + r * product.target_stride + v * lanes, x);
    });
}

// Rows [0, count) times a panel of 1 to 4 vectors. With `pairs`, every element of left and panel is
// a pair of bfloat16 and depth counts pairs.
template <class Real, bool pairs = false>
__attribute__((noinline)) void multiply_panel(const Product<Real>& product, int64_t count,
                                              int64_t vectors) {
    // Every tile reads the panel anew: a part of it that stays in the second-level cache, and
    // meanwhile what comes next is fetched there.
    constexpr int64_t kBlockBytes = 256 << 10;
    const int64_t width = vectors * kLanes<Real>;
    const int64_t line_bytes = width * static_cast<int64_t>(sizeof(Real));
    const void* following =
        product.prefetch ? product.prefetch : product.panel + product.depth * width;
    with_size<kPanelVectors>(vectors, [&](auto panel_vectors) {
        constexpr int most_rows = tile_rows(panel_vectors());
        const int64_t tiles = ceil_div(count, most_rows);
        const int64_t blocks =
            tiles > 1 && product.depth > 0 ? ceil_div(product.depth * line_bytes, kBlockBytes) : 1;
        for (int64_t block = 0; block < blocks; ++block) {
            const Range depth = part_of(product.depth, blocks, block);
            const char* next =
                block + 1 < blocks
                    ? reinterpret_cast<const char*>(product.panel + depth.end * width)
                    : static_cast<const char*>(following);
            const int64_t useful = ceil_div(line_bytes, 64);  // tiles that fetch something new
            for (int64_t t = 0; t < tiles; ++t) {
                // As even as possible: 16 rows are 6 + 5 + 5, not 6 + 6 + 4.
                const Range part = part_of(count, tiles, t);
                const char* prefetch = next + (t % useful) * depth.size() * 64;
                with_size<most_rows>(part.size(), [&](auto rows) {
                    multiply_tile<Real, pairs, rows(), panel_vectors()>(product, part.begin, depth,
                                                                        prefetch);
                });
            }
        }
    });
}

// target[row][at[c]] += left [row, depth] x weight[c] [depth], weights as the user keeps them: for
// so few rows that packing would cost more than it saves.
template <class Real, class Storage>
struct DirectProduct {
    const Real* const* left;
    const Storage* weight[kPanelVectors];
    int64_t at[kPanelVectors];
    int64_t depth;
    Real* target;
    int64_t target_stride;
};

template <class Real, int rows, int columns, class Storage>
SEQFAST_INLINE void multiply_direct_tile(const DirectProduct<Real, Storage>& product, int64_t row) {
    constexpr int lanes = kLanes<Real>;
    Tile<Real, rows, columns> tile;
    for_each_element(tile, [](auto& x, int, int) { x = Vector<Real>{}; });
    const auto step = [&](int64_t k, int count) {
        Vector<Real> right[columns];
#pragma GCC unroll 4
        for (int v = 0; v < columns; ++v) right[v] = load<Real>(product.weight[v] + k, count);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            const Vector<Real> x = load<Real>(product.left[row + r] + k, count);
#pragma GCC unroll 4
            for (int v = 0; v < columns; ++v) tile.at[r][v] = fused(tile.at[r][v], x, right[v]);
        }
    };
    int64_t k = 0;
    for (; k + lanes <= product.depth; k += lanes) step(k, lanes);
    if (k < product.depth) step(k, static_cast<int>(product.depth - k));
    Real* target = product.target + row * product.target_stride;
    for_each_element(tile, [&](auto& x, int r, int v) {
        target[r * product.target_stride + product.at[v]] += horizontal_sum<Real>(x);
    });
}

template <class Real, class Storage>
__attribute__((noinline)) void multiply_direct(const DirectProduct<Real, Storage>& product,
                                               int64_t count, int64_t columns) {
    const int64_t tiles = ceil_div(count, kTileRows);
    for (int64_t t = 0; t < tiles; ++t) {
        const Range part = part_of(count, tiles, t);
        with_size<kTileRows>(part.size(), [&](auto rows) {
            with_size<kPanelVectors>(columns, [&](auto panel_columns) {
                multiply_direct_tile<Real, rows(), panel_columns()>(product, part.begin);
            });
        });
    }
}

// The products are most of what is compiled: gemm.cpp has them, for all that includes this.
#ifndef SEQFAST_INSTANTIATE_PRODUCTS
extern template void multiply_panel<float>(const Product<float>&, int64_t, int64_t);
extern template void multiply_panel<double>(const Product<double>&, int64_t, int64_t);
#if defined(__AVX512BF16__)
extern template void multiply_panel<float, true>(const Product<float>&, int64_t, int64_t);
#endif
extern template void multiply_direct(const DirectProduct<float, float>&, int64_t, int64_t);
extern template void multiply_direct(const DirectProduct<double, double>&, int64_t, int64_t);
extern template void multiply_direct(const DirectProduct<float, BFloat16>&, int64_t, int64_t);
extern template void multiply_direct(const DirectProduct<float, Float16>&, int64_t, int64_t);
#endif

// ---- packing ----

// One vector of columns out of a matrix stored [columns][depth] (a weight as torch keeps it):
// packed[k * stride + lane] = source[lane][k]; lanes past `count` become zero.
template <class Real, class Storage>
void pack_transposed_vector(Real* packed, int64_t stride, const Storage* source, int64_t depth,
                            int count) {
    constexpr int lanes = kLanes<Real>;
    for (int64_t k = 0; k < depth; k += lanes) {
        const int left = static_cast<int>(depth - k < lanes ? depth - k : lanes);
        Vector<Real> square[lanes];
        for (int l = 0; l < lanes; ++l) {
            square[l] = l < count ? load<Real>(source + l * depth + k, left) : Vector<Real>{};
        }
        transpose<Real>(square);
        for (int l = 0; l < left; ++l) store(packed + (k + l) * stride, square[l]);
    }
}

// Rows `depth` of all panels of a matrix stored [depth][columns], rows anywhere: row(k) points at
// row k, or is nullptr for zeros. Row by row, because that is how the caches like to be read.
template <class Real, class RowOf>
void pack_rows(const PanelLayout<Real>& layout, Range depth, Real* packed, RowOf&& row) {
    constexpr int lanes = kLanes<Real>;
    const int64_t panels = layout.panels();
    for (int64_t k = depth.begin; k < depth.end; ++k) {
        const auto* from = row(k);
        for (int64_t p = 0; p < panels; ++p) {
            const Range vectors = layout.panel(p);
            Real* line = packed + layout.offset(p) + k * vectors.size() * lanes;
            for (int64_t v = vectors.begin; v < vectors.end; ++v, line += lanes) {
                with_count<Real>(layout.columns - v * lanes, [&](auto count) {
                    store(line, from ? load<Real>(from + v * lanes, count) : Vector<Real>{});
                });
            }
        }
    }
}

// Tiles of the transpose of `source` [depth][stride], as left-hand sides: tile t becomes
// packed[t][k][r] = source[k][t * kTileRows + r], zero past `columns`. Where `sums` [columns] is
// given, each column's sum is added to it, or put there if `first`.
template <class Real>
void pack_columns(Real* packed, const Real* source, int64_t stride, int64_t columns, int64_t depth,
                  Range tiles, Real* sums, bool first) {
    constexpr int kGroup = 8;  // tiles at a time, so that a line of the source is read once
    const int64_t tile_size = depth * kTileRows;
    int64_t t = tiles.begin;
    for (; kLanes<Real> >= kTileRows && t + kGroup <= tiles.end &&
           (t + kGroup - 1) * kTileRows + kLanes<Real> <= columns;
         t += kGroup) {
        const Real* from = source + t * kTileRows;
        Real* to = packed + t * tile_size;
        Vector<Real> sum[kGroup];
        for (int g = 0; g < kGroup; ++g) {
            sum[g] =
                sums && !first ? load<Real>(sums + (t + g) * kTileRows, kTileRows) : Vector<Real>{};
        }
        for (int64_t k = 0; k < depth; ++k, from += stride, to += kTileRows) {
            // A whole vector each time; what is too much is overwritten by the next.
            const bool fits = k * kTileRows + kLanes<Real> <= tile_size;
#pragma GCC unroll 12
            for (int g = 0; g < kGroup; ++g) {
                const Vector<Real> x = load(from + g * kTileRows);
                sum[g] += x;
                if (fits) {
                    store(to + g * tile_size, x);
                } else {
                    store(to + g * tile_size, x, kTileRows);
                }
            }
        }
        for (int g = 0; sums && g < kGroup; ++g) {
            store(sums + (t + g) * kTileRows, sum[g], kTileRows);
        }
    }
    for (; t < tiles.end; ++t) {
        for (int r = 0; r < kTileRows; ++r) {
            const int64_t column = t * kTileRows + r;
            Real* to = packed + t * tile_size + r;
            Real sum = sums && !first && column < columns ? sums[column] : Real(0);
            for (int64_t k = 0; k < depth; ++k) {
                const Real x = column < columns ? source[k * stride + column] : Real(0);
                to[k * kTileRows] = x;
                sum += x;
            }
            if (sums && column < columns) sums[column] = sum;
        }
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA
