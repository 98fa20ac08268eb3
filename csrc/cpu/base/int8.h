// Products in 8 bits: rows quantised as they are met, weights quantised before.
#pragma once

#include "cpu/base/arena.h"
#include "cpu/base/gemm.h"

namespace seqfast::cpu::SEQFAST_ISA {

// A 32-bit lane of a panel holds four neighbours along the depth. Two lines stand before them: the
// scales of the columns, and what the offset of the rows has added to each sum.
constexpr int64_t kQuad = 4, kLinesBefore = 2;
SEQFAST_INLINE int64_t quads_of(int64_t size) { return ceil_div(size, kQuad); }
SEQFAST_INLINE int64_t quad_lines(int64_t size) { return quads_of(size) + kLinesBefore; }

// x is (bytes - 128) * scale; a row that holds NaN or infinity has the scale NaN.
struct QuantizedRows {
    unsigned char* bytes;  // [rows, stride], 128 past the end of a row
    float* scales;         // [rows]
    int64_t stride;

    static int64_t room(int64_t rows, int64_t size) {
        return padded(rows * kQuad * quads_of(size)) + padded(rows * int64_t(sizeof(float)));
    }
    static QuantizedRows at(unsigned char* array, int64_t thread, int64_t rows, int64_t size) {
        unsigned char* own = array + thread * room(rows, size);
        const int64_t stride = kQuad * quads_of(size);
        return {own, reinterpret_cast<float*>(own + padded(rows * stride)), stride};
    }
    static int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }
};

// Each row by the largest of its magnitudes: 127 of it are one.
void quantize_rows(const float* const* rows, int64_t size, int64_t count, const QuantizedRows& to);

// One vector of columns, `count` rows of a weight [.., size] from `weight` on; to: its lane of the
// panel's first line, lines `stride` apart.
void pack_quads(float* to, int64_t stride, const int8_t* weight, const float* scales, int64_t size,
                int count);

// As multiply_panel, of a panel with product.depth lines; product.left is not read.
void multiply_quads(const Product<float>& product, const QuantizedRows& rows, int64_t count,
                    int64_t vectors);

}  // namespace seqfast::cpu::SEQFAST_ISA
