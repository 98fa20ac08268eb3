// Products in 8 bits of one instruction set.
#include "cpu/base/int8.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

using V = Vector<float>;
using Int = VectorTypes<float>::Int;
constexpr int lanes = kLanes<float>;

SEQFAST_INLINE Int load_words(const float* from) { return (Int)load(from); }

// The magnitude of each lane.
SEQFAST_INLINE V magnitude(V x) { return (V)((Int)x & 0x7fffffff); }

template <int rows, int vectors>
SEQFAST_INLINE void multiply_tile(const Product<float>& product, const QuantizedRows& left,
                                  int64_t row) {
    const unsigned char* bytes = left.bytes + row * left.stride;
    const float* line = product.panel + kLinesBefore * vectors * lanes;
    Int sum[rows][vectors];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[r][v] = Int{};
    }
    for (int64_t k = 0; k < product.depth - kLinesBefore; ++k, line += vectors * lanes) {
        Int right[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) right[v] = load_words(line + v * lanes);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            int32_t four;
            __builtin_memcpy(&four, bytes + r * left.stride + k * kQuad, sizeof(four));
            const Int x = four - Int{};
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sum[r][v] = dot_bytes(sum[r][v], x, right[v]);
        }
    }
    const float* scales = product.panel;
    const float* offsets = product.panel + vectors * lanes;
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
        const V scale = broadcast(left.scales[row + r]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
            const Int exact = sum[r][v] - load_words(offsets + v * lanes);
            const V x = __builtin_convertvector(exact, V) * scale;
            const V start = product.start
                                ? load(product.start + (row + r) * product.start_stride + v * lanes)
                                : V{};
            store(product.target + (row + r) * product.target_stride + v * lanes,
                  fused(start, x, load(scales + v * lanes)));
        }
    }
}

}  // namespace

void quantize_rows(const float* const* rows, int64_t size, int64_t count, const QuantizedRows& to) {
    constexpr float kMagic = 0x1.8p23f;  // adding it rounds to the nearest whole number
    for (int64_t r = 0; r < count; ++r) {
        const float* from = rows[r];
        V most{}, strange{};
        for_each_vector<float>({0, size}, [&](int64_t i, int n) {
            const V x = load<float>(from + i, n);
            most = magnitude(x) > most ? magnitude(x) : most;
            strange += x - x;  // zero, or NaN
        });
        const float largest = horizontal_max<float>(most);
        const float nothing = horizontal_sum<float>(strange);
        to.scales[r] = largest / 127 + nothing;
        const bool usable = nothing == 0 && largest > 0;
        const V inverse = broadcast(usable ? 127 / largest : 0.0f);
        unsigned char* bytes = to.bytes + r * to.stride;
        for_each_vector<float>({0, size}, [&](int64_t i, int n) {
            V x = load<float>(from + i, n);
            x = usable ? x * inverse : V{};
            const Int whole = (Int)(x + kMagic) - (Int)broadcast(kMagic) + 128;
            for (int l = 0; l < n; ++l) bytes[i + l] = static_cast<unsigned char>(whole[l]);
        });
        for (int64_t i = size; i < to.stride; ++i) bytes[i] = 128;
    }
}

void pack_quads(float* to, int64_t stride, const int8_t* weight, const float* scales, int64_t size,
                int count) {
    for (int l = 0; l < lanes; ++l) {
        const int8_t* row = weight + l * size;
        int32_t total = 0;
        for (int64_t q = 0; q < quads_of(size); ++q) {
            int8_t four[kQuad] = {};
            for (int64_t k = 0; k < kQuad && l < count && q * kQuad + k < size; ++k) {
                four[k] = row[q * kQuad + k];
                total += four[k];
            }
            __builtin_memcpy(to + (kLinesBefore + q) * stride + l, four, sizeof(four));
        }
        to[l] = l < count ? scales[l] : 0.0f;
        const int32_t offset = 128 * total;
        __builtin_memcpy(to + stride + l, &offset, sizeof(offset));
    }
}

void multiply_quads(const Product<float>& product, const QuantizedRows& rows, int64_t count,
                    int64_t vectors) {
    constexpr int kMostRows = kVectorBytes == 64 ? 6 : 3;
    const int64_t tiles = ceil_div(count, kMostRows);
    with_size<kPanelVectors>(vectors, [&](auto panel_vectors) {
        for (int64_t t = 0; t < tiles; ++t) {
            const Range part = part_of(count, tiles, t);
            with_size<kMostRows>(part.size(), [&](auto tile_rows) {
                multiply_tile<tile_rows(), panel_vectors()>(product, rows, part.begin);
            });
        }
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA
