// What a warp's collectives compute, once all 32 lanes have brought their operands.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "host_executor/executor.h"

namespace seqfast::host_executor {

using Floats = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));

template <class To, class From>
To load(const From* from) {
    To to;
    std::memcpy(&to, from, sizeof to);
    return to;
}

struct FromBFloat16 {
    static Words low(Words pair) { return pair << 16; }
    static Words high(Words pair) { return pair & 0xFFFF0000; }
};

struct FromFloat16 {
    static Words low(Words pair) { return widen(pair & 0xFFFF); }
    static Words high(Words pair) { return widen(pair >> 16); }
    // The exponent moves by multiplication, which makes subnormals right too.
    static Words widen(Words half) {
        const Words magnitude = (half & 0x7FFF) << 13;
        const Floats value = load<Floats>(&magnitude) * 0x1p112f;
        const Words endless = (half & 0x7C00) == 0x7C00;
        return load<Words>(&value) | (half & 0x8000) << 16 | (endless & 0x7F800000);
    }
};

// A sum as a tensor core makes it: all terms are cut off two bits below the last one of the largest
// term, added, and the sum is cut off at 24 bits. (Fasi et al., PeerJ Computer Science 7:e330.)
template <int depth>
float cut_off_sum(float c, const double (&terms)[depth]) {
    double largest = std::fabs(double(c)), plain = c;
    for (const double term : terms) {
        largest = std::fmax(largest, std::fabs(term));
        plain += term;
    }
    if (!(largest > 0) || !std::isfinite(plain)) return float(plain);
    const double unit = std::ldexp(1.0, std::ilogb(largest) - 25);
    double sum = std::trunc(c / unit);
    for (const double term : terms) sum += std::trunc(term / unit);
    if (sum == 0) return 0;
    const double last = std::ldexp(1.0, std::ilogb(sum) - 23);
    return float(std::trunc(sum / last) * last * unit);
}
template <int depth>
void multiply_cut_off(Operands& operands, const float (&a)[16][depth],
                      const float (&b)[depth][2][4]) {
    for (int g = 0; g < 8; ++g)
        for (int i = 0; i < 4; ++i)
            for (int t = 0; t < 4; ++t) {
                double terms[depth];
                for (int k = 0; k < depth; ++k)
                    terms[k] = double(a[g + i / 2 * 8][k]) * double(b[k][i % 2][t]);
                float& c = operands.mma.c[i][4 * g + t];
                c = cut_off_sum(c, terms);
            }
}

// c += a * b, the depth in rising order. Lanes 4g to 4g + 3 hold rows g and g + 8 of c: the even
// columns in registers 0 and 2, the odd ones in 1 and 3; so are the columns of b parted.
template <int depth>
void multiply(Operands& operands, const float (&a)[16][depth], const float (&b)[depth][2][4],
              bool cut_off) {
    if (cut_off) return multiply_cut_off(operands, a, b);
    for (int g = 0; g < 8; ++g) {
        Floats sum[4];
        for (int i = 0; i < 4; ++i) sum[i] = load<Floats>(&operands.mma.c[i][4 * g]);
        for (int k = 0; k < depth; ++k) {
            const auto even = load<Floats>(b[k][0]), odd = load<Floats>(b[k][1]);
            sum[0] += even * a[g][k];
            sum[1] += odd * a[g][k];
            sum[2] += even * a[g + 8][k];
            sum[3] += odd * a[g + 8][k];
        }
        for (int i = 0; i < 4; ++i) std::memcpy(&operands.mma.c[i][4 * g], &sum[i], sizeof sum[i]);
    }
}

template <class From>
void mma_16bit(Operands& operands, bool cut_off) {
    float a[16][16], b[16][2][4];
    for (int g = 0; g < 8; ++g) {
        // Four lanes' registers side by side are eight elements of a row of a, or of a column of b.
        for (int i = 0; i < 4; ++i) {
            const auto pairs = load<Words>(&operands.mma.a[i][4 * g]);
            const Words low = From::low(pairs), high = From::high(pairs);
            const auto even = load<Floats>(&low), odd = load<Floats>(&high);
            float* const to = &a[g + i % 2 * 8][i / 2 * 8];
            for (int t = 0; t < 4; ++t) {
                to[2 * t] = even[t];
                to[2 * t + 1] = odd[t];
            }
        }
        for (int i = 0; i < 2; ++i) {
            const auto pairs = load<Words>(&operands.mma.b[i][4 * g]);
            const Words low = From::low(pairs), high = From::high(pairs);
            const auto even = load<Floats>(&low), odd = load<Floats>(&high);
            for (int t = 0; t < 4; ++t) {
                b[8 * i + 2 * t][g % 2][g / 2] = even[t];
                b[8 * i + 2 * t + 1][g % 2][g / 2] = odd[t];
            }
        }
    }
    multiply(operands, a, b, cut_off);
}

inline void mma_tf32(Operands& operands, bool cut_off) {
    float a[16][8], b[8][2][4];
    for (int g = 0; g < 8; ++g) {
        for (int i = 0; i < 4; ++i) {
            const Words bits = load<Words>(&operands.mma.a[i][4 * g]) & 0xFFFFE000;
            std::memcpy(&a[g + i % 2 * 8][i / 2 * 4], &bits, sizeof bits);
        }
        for (int i = 0; i < 2; ++i) {
            const Words bits = load<Words>(&operands.mma.b[i][4 * g]) & 0xFFFFE000;
            const auto column = load<Floats>(&bits);
            for (int t = 0; t < 4; ++t) b[4 * i + t][g % 2][g / 2] = column[t];
        }
    }
    multiply(operands, a, b, cut_off);
}

inline void mma_f64(Operands& operands) {
    const auto& a = operands.mma_f64.a;  // [8 rows, 4]
    const auto& b = operands.mma_f64.b;  // [8 columns, 4]
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 2; ++i) {
            double sum = operands.mma_f64.c[i][lane];
            for (int k = 0; k < 4; ++k) sum += a[lane / 4 * 4 + k] * b[(lane % 4 * 2 + i) * 4 + k];
            operands.mma_f64.c[i][lane] = sum;
        }
}

inline void load_matrices(Operands& operands) {
    // A row is shared out to the four lanes of its number.
    for (int i = 0; i < 4; ++i)
        for (int row = 0; row < 8; ++row)
            std::memcpy(&operands.matrix.result[i][4 * row], operands.matrix.row[8 * i + row], 16);
}

inline void exchange(Operands& operands) {
    for (int lane = 0; lane < 32; ++lane)
        operands.shuffle.result[lane] = operands.shuffle.value[operands.shuffle.lane[lane]];
}

inline void count_votes(Operands& operands) {
    operands.vote.result = 0;
    for (int lane = 0; lane < 32; ++lane)
        operands.vote.result |= uint32_t(operands.vote.predicate[lane]) << lane;
}

inline void compute(Collective kind, Operands& operands, bool cut_off) {
    switch (kind) {
        case Collective::warp_sync:
        case Collective::warp_index:
            return;
        case Collective::shuffle:
        case Collective::shuffle_xor:
        case Collective::shuffle_down:
            return exchange(operands);
        case Collective::ballot:
        case Collective::warp_all:
        case Collective::warp_any:
            return count_votes(operands);
        case Collective::mma_bf16:
            return mma_16bit<FromBFloat16>(operands, cut_off);
        case Collective::mma_fp16:
            return mma_16bit<FromFloat16>(operands, cut_off);
        case Collective::mma_tf32:
            return mma_tf32(operands, cut_off);
        case Collective::mma_f64:
            return mma_f64(operands);
        case Collective::ldmatrix_x4:
            return load_matrices(operands);
    }
}

}  // namespace seqfast::host_executor
