// Vectors of this file's instruction set: loads, stores, number formats, exp, tanh and sigmoid.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/config.h"
#include "core/random.h"
#include "core/rnn.h"

// The only file of the project with intrinsics, and only where the compiler's own vector
// operations cannot say it.
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef SEQFAST_ISA
#error "compile with -DSEQFAST_ISA=baseline|avx2|avx512|avx512bf16"
#endif

namespace seqfast::cpu::SEQFAST_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kAccumulators = 24;  // out of 32 registers
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kAccumulators = 12;  // out of 16
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16;
constexpr int kAccumulators = 24;
#else
constexpr int kVectorBytes = 16;
constexpr int kAccumulators = 12;
#endif
constexpr int kPanelVectors = 4;

// Rows of a tile so many vectors wide: as many as there are accumulators for, up to a limit past
// which more rows save nothing.
constexpr int tile_rows(int vectors) {
    const int rows = kAccumulators / vectors;
    return rows < 12 ? rows : 12;
}
constexpr int kTileRows = tile_rows(kPanelVectors);

struct BFloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};

template <class Real>
struct VectorTypes;

template <>
struct VectorTypes<float> {
    typedef float V __attribute__((vector_size(kVectorBytes)));
    typedef int32_t Int __attribute__((vector_size(kVectorBytes)));
    typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));
};

template <>
struct VectorTypes<double> {
    typedef double V __attribute__((vector_size(kVectorBytes)));
    typedef int64_t Int __attribute__((vector_size(kVectorBytes)));
    typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));
};

template <class Real>
using Vector = typename VectorTypes<Real>::V;

typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
constexpr int kWordLanes = kVectorBytes / 4;

template <class Real>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Real));

template <class Real>
SEQFAST_INLINE Vector<Real> broadcast(Real x) {
    return x - Vector<Real>{};  // not 0 + x, which would turn -0 into 0
}

// ---- number formats ----

template <class To, class From>
SEQFAST_INLINE To bit_cast(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    __builtin_memcpy(&to, &from, sizeof(to));
    return to;
}

SEQFAST_INLINE float widen(BFloat16 x) {
    return bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}

SEQFAST_INLINE float widen(Float16 x) {
    const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
    const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
    // A subnormal half as its distance from 2^-14: as a float its bits would be subnormal, too.
    const float normal = bit_cast<float>(magnitude + 0x38000000u);
    const float subnormal = bit_cast<float>(magnitude + 0x38800000u) - 0x1p-14f;
    const float finite = magnitude >= 0x00800000u ? normal : subnormal;
    const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
    return bit_cast<float>(bit_cast<uint32_t>(finite) | special | sign);
}

SEQFAST_INLINE void narrow(float x, BFloat16& to) {
    const uint32_t bits = bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to.bits = static_cast<uint16_t>(is_nan ? ((bits >> 16) | 0x40u) : rounded);
}

SEQFAST_INLINE void narrow(float x, Float16& to) {
    const uint32_t bits = bit_cast<uint32_t>(x);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    // Below 2^-14 the addition itself rounds to the subnormal grid.
    const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
    result = magnitude >= 0x477ff000u ? 0x7c00u : result;
    result = magnitude > 0x7f800000u ? 0x7e00u : result;
    to.bits = static_cast<uint16_t>(result | sign);
}

SEQFAST_INLINE float widen(float x) { return x; }
SEQFAST_INLINE double widen(double x) { return x; }
SEQFAST_INLINE void narrow(float x, float& to) { to = x; }
SEQFAST_INLINE void narrow(double x, double& to) { to = x; }

// ---- loads and stores of the first `count` lanes; the rest reads as zero ----

template <class Real>
SEQFAST_INLINE Vector<Real> load(const Real* from) {
    return *reinterpret_cast<const typename VectorTypes<Real>::Unaligned*>(from);
}

template <class Real>
SEQFAST_INLINE void store(Real* to, Vector<Real> value) {
    *reinterpret_cast<typename VectorTypes<Real>::Unaligned*>(to) = value;
}

#if defined(__AVX512F__)
SEQFAST_INLINE Vector<float> widen_whole(const Float16* from) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return (Vector<float>)_mm512_maskz_cvtph_ps(0xffff, halves);
}
#elif defined(__AVX2__)
SEQFAST_INLINE Vector<float> widen_whole(const Float16* from) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return (Vector<float>)_mm256_cvtph_ps(halves);
}
#endif

// A part of a vector, out of line: inlined wherever a row may end, lane by lane, it would be most
// of what is compiled.
template <class Real, class Storage>
__attribute__((noinline)) Vector<Real> load_part(const Storage* from, int count) {
    Real lanes[kLanes<Real>] = {};
    for (int l = 0; l < count; ++l) lanes[l] = widen(from[l]);
    return load(lanes);
}
template <class Real, class Storage>
__attribute__((noinline)) void store_part(Storage* to, Vector<Real> value, int count) {
    Real lanes[kLanes<Real>];
    store(lanes, value);
    for (int l = 0; l < count; ++l) narrow(lanes[l], to[l]);
}

// Storage to accumulating type, `count` lanes.
template <class Real, class Storage>
SEQFAST_INLINE Vector<Real> load(const Storage* from, int count) {
    if (count != kLanes<Real>) return load_part<Real>(from, count);
#if defined(__AVX2__)
    if constexpr (std::is_same_v<Storage, Float16> && std::is_same_v<Real, float>) {
        return widen_whole(from);
    }
#endif
    Real lanes[kLanes<Real>];
    for (int l = 0; l < kLanes<Real>; ++l) lanes[l] = widen(from[l]);
    return load(lanes);
}

template <class Real, class Storage>
SEQFAST_INLINE void store_as(Storage* to, Vector<Real> value, int count) {
    if (count != kLanes<Real>) return store_part<Real>(to, value, count);
    Real lanes[kLanes<Real>];
    store(lanes, value);
    for (int l = 0; l < kLanes<Real>; ++l) narrow(lanes[l], to[l]);
}

#if defined(__AVX512F__)
template <>
SEQFAST_INLINE Vector<float> load<float, float>(const float* from, int count) {
    if (__builtin_constant_p(count) && count == 16) return load(from);
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1u), from);
}
template <>
SEQFAST_INLINE void store_as<float, float>(float* to, Vector<float> value, int count) {
    if (__builtin_constant_p(count) && count == 16) return store(to, value);
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1u), value);
}
template <>
SEQFAST_INLINE Vector<double> load<double, double>(const double* from, int count) {
    if (__builtin_constant_p(count) && count == 8) return load(from);
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1u), from);
}
template <>
SEQFAST_INLINE void store_as<double, double>(double* to, Vector<double> value, int count) {
    if (__builtin_constant_p(count) && count == 8) return store(to, value);
    _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << count) - 1u), value);
}
#else
template <>
SEQFAST_INLINE Vector<float> load<float, float>(const float* from, int count) {
    return count == kLanes<float> ? load(from) : load_part<float>(from, count);
}
template <>
SEQFAST_INLINE void store_as<float, float>(float* to, Vector<float> value, int count) {
    if (count == kLanes<float>) return store(to, value);
    store_part<float>(to, value, count);
}
template <>
SEQFAST_INLINE Vector<double> load<double, double>(const double* from, int count) {
    return count == kLanes<double> ? load(from) : load_part<double>(from, count);
}
template <>
SEQFAST_INLINE void store_as<double, double>(double* to, Vector<double> value, int count) {
    if (count == kLanes<double>) return store(to, value);
    store_part<double>(to, value, count);
}
#endif

template <class Storage>
SEQFAST_INLINE void store(Storage* to, Vector<float> value, int count) {
    store_as<float>(to, value, count);
}
template <class Storage>
SEQFAST_INLINE void store(Storage* to, Vector<double> value, int count) {
    store_as<double>(to, value, count);
}

// f(count), where a whole vector's count is a constant: plain loads and stores, no masks.
template <class Real, class F>
SEQFAST_INLINE void with_count(int64_t count, F&& f) {
    if (count >= kLanes<Real>) {
        f(std::integral_constant<int, kLanes<Real>>{});
    } else {
        f(static_cast<int>(count));
    }
}

// ---- the factors of a product ----

// Where the instruction set multiplies bfloat16 itself, a 32-bit lane holds two neighbours along
// the depth of the product, and one instruction does both.
template <class Storage>
constexpr bool kPairs = false;
#if defined(__AVX512BF16__)
template <>
constexpr bool kPairs<BFloat16> = true;
#endif

// One element of the left-hand side in all lanes; bit by bit where it is a pair.
template <bool pairs, class Real>
SEQFAST_INLINE Vector<Real> broadcast_factor(const Real* from) {
#if defined(__AVX512BF16__)
    if constexpr (pairs) {
        int bits;
        __builtin_memcpy(&bits, from, sizeof(bits));
        return (Vector<Real>)_mm512_set1_epi32(bits);
    }
#endif
    return broadcast(*from);
}

// Fused by name wherever it can be: left to the compiler, two copies of a loop may round
// differently, and results would depend on how the work was cut.
SEQFAST_INLINE Vector<float> fused(Vector<float> sum, Vector<float> left, Vector<float> right) {
#if defined(__AVX512F__)
    return (Vector<float>)_mm512_fmadd_ps((__m512)left, (__m512)right, (__m512)sum);
#elif defined(__AVX2__)
    return (Vector<float>)_mm256_fmadd_ps((__m256)left, (__m256)right, (__m256)sum);
#elif defined(__aarch64__)
    return (Vector<float>)vfmaq_f32((float32x4_t)sum, (float32x4_t)left, (float32x4_t)right);
#else
    return sum + left * right;
#endif
}

SEQFAST_INLINE Vector<double> fused(Vector<double> sum, Vector<double> left, Vector<double> right) {
#if defined(__AVX512F__)
    return (Vector<double>)_mm512_fmadd_pd((__m512d)left, (__m512d)right, (__m512d)sum);
#elif defined(__AVX2__)
    return (Vector<double>)_mm256_fmadd_pd((__m256d)left, (__m256d)right, (__m256d)sum);
#elif defined(__aarch64__)
    return (Vector<double>)vfmaq_f64((float64x2_t)sum, (float64x2_t)left, (float64x2_t)right);
#else
    return sum + left * right;
#endif
}

template <bool pairs, class V>
SEQFAST_INLINE V accumulate(V sum, V left, V right) {
#if defined(__AVX512BF16__)
    if constexpr (pairs) {
        return (V)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
    }
#endif
    return fused(sum, left, right);
}

// sum + the products of four unsigned bytes with four signed ones, exact in every 32-bit lane.
typedef VectorTypes<float>::Int WordsOfBytes;
SEQFAST_INLINE WordsOfBytes dot_bytes(WordsOfBytes sum, WordsOfBytes bytes, WordsOfBytes weights) {
#if defined(__AVX512VNNI__)
    return (WordsOfBytes)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)bytes, (__m512i)weights);
#else
    // Every second byte as 16 bits, where no product and no pair of them is too large.
    typedef int16_t Halves __attribute__((vector_size(kVectorBytes)));
    const WordsOfBytes even_bytes = bytes & 0x00ff00ff;
    const WordsOfBytes odd_bytes = (WordsOfBytes)((Words)bytes >> 8) & 0x00ff00ff;
    const Halves even_weights = (Halves)((Halves)weights << 8) >> 8;
    const Halves odd_weights = (Halves)weights >> 8;
#if defined(__AVX512BW__)
    const auto pairs = [](WordsOfBytes x, Halves w) {
        return (WordsOfBytes)_mm512_madd_epi16((__m512i)x, (__m512i)w);
    };
#elif defined(__AVX2__)
    const auto pairs = [](WordsOfBytes x, Halves w) {
        return (WordsOfBytes)_mm256_madd_epi16((__m256i)x, (__m256i)w);
    };
#elif defined(__SSE2__)
    const auto pairs = [](WordsOfBytes x, Halves w) {
        return (WordsOfBytes)_mm_madd_epi16((__m128i)x, (__m128i)w);
    };
#else
    const auto pairs = [](WordsOfBytes x, Halves w) {
        const WordsOfBytes low = ((WordsOfBytes)w << 16) >> 16, high = (WordsOfBytes)w >> 16;
        return (x & 0xffff) * low + (x >> 16) * high;
    };
#endif
    return sum + pairs(even_bytes, even_weights) + pairs(odd_bytes, odd_weights);
#endif
}

// ---- transposition of a square of lanes ----

template <int distance, class V, size_t... l>
SEQFAST_INLINE void exchange_lanes(V& low, V& high, std::index_sequence<l...>) {
    constexpr int lanes = sizeof...(l);
    const V a = low, b = high;
    low = __builtin_shufflevector(a, b, (l & distance ? lanes + int(l ^ distance) : int(l))...);
    high = __builtin_shufflevector(a, b, (l & distance ? lanes + int(l) : int(l ^ distance))...);
}

template <int distance, class Real>
SEQFAST_INLINE void transpose_from(Vector<Real> (&rows)[kLanes<Real>]) {
    if constexpr (distance < kLanes<Real>) {
#pragma GCC unroll 16
        for (int r = 0; r < kLanes<Real>; ++r) {
            if ((r & distance) == 0) {
                exchange_lanes<distance>(rows[r], rows[r | distance],
                                         std::make_index_sequence<kLanes<Real>>{});
            }
        }
        transpose_from<2 * distance, Real>(rows);
    }
}

template <class Real>
SEQFAST_INLINE void transpose(Vector<Real> (&rows)[kLanes<Real>]) {
    transpose_from<1, Real>(rows);
}

template <int distance, class V, size_t... l>
SEQFAST_INLINE V lanes_from(V x, std::index_sequence<l...>) {
    return __builtin_shufflevector(x, x, int(l ^ distance)...);
}

template <class Real, int distance = kLanes<Real> / 2>
SEQFAST_INLINE Real horizontal_sum(Vector<Real> x) {
    if constexpr (distance == 0) {
        return x[0];
    } else {
        x += lanes_from<distance>(x, std::make_index_sequence<kLanes<Real>>{});
        return horizontal_sum<Real, distance / 2>(x);
    }
}

template <class Real, int distance = kLanes<Real> / 2>
SEQFAST_INLINE Real horizontal_max(Vector<Real> x) {
    if constexpr (distance == 0) {
        return x[0];
    } else {
        const Vector<Real> y = lanes_from<distance>(x, std::make_index_sequence<kLanes<Real>>{});
        return horizontal_max<Real, distance / 2>(x > y ? x : y);
    }
}

// ---- words ----

// What core/random.h needs of vectors.
struct VectorWords {
    using Word = Words;
    static SEQFAST_INLINE void multiply(Word a, uint32_t b, Word& high, Word& low) {
        typedef uint64_t Wide __attribute__((vector_size(kVectorBytes)));
#if defined(__AVX512F__)
        const __m512i factor = _mm512_set1_epi64(b);
        const Wide even = (Wide)_mm512_maskz_mul_epu32(0xff, (__m512i)a, factor);
        const Wide odd = (Wide)_mm512_maskz_mul_epu32(0xff, (__m512i)((Wide)a >> 32), factor);
#elif defined(__AVX2__)
        const __m256i factor = _mm256_set1_epi64x(b);
        const Wide even = (Wide)_mm256_mul_epu32((__m256i)a, factor);
        const Wide odd = (Wide)_mm256_mul_epu32((__m256i)((Wide)a >> 32), factor);
#elif defined(__SSE2__)
        const __m128i factor = _mm_set1_epi64x(b);
        const Wide even = (Wide)_mm_mul_epu32((__m128i)a, factor);
        const Wide odd = (Wide)_mm_mul_epu32((__m128i)((Wide)a >> 32), factor);
#else
        const Wide even = ((Wide)a & 0xFFFFFFFFull) * static_cast<uint64_t>(b);
        const Wide odd = ((Wide)a >> 32) * static_cast<uint64_t>(b);
#endif
        const uint64_t upper = 0xFFFFFFFF00000000ull;
        low = (Word)((even & ~upper) | (odd << 32));
        high = (Word)((even >> 32) | (odd & upper));
    }
};

// ---- functions ----
// e^x = 2^n (1 + p(r)), r = x - n ln 2, p(r) = r + r^2 P(r); P is the near-minimax (Chebyshev)
// polynomial of (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2, error below half a unit in the last place.

template <class Real>
struct ExpConstants;

template <>
struct ExpConstants<float> {
    static constexpr float ln2_high = 0.693359375f;
    static constexpr float ln2_low = -2.12194440e-4f;
    static constexpr float round_magic = 0x1.8p23f;
    static constexpr float exp_limit = 87.0f;
    static constexpr float tanh_limit = 9.1f;
    static constexpr int mantissa_bits = 23;
    static constexpr int bias = 127;
    static constexpr int terms = 5;
    static constexpr float polynomial[terms] = {0.5f, 0.16666576666119928f, 0.04166655421298415f,
                                                0.00836323288368262f, 0.00139262508314976f};
};

template <>
struct ExpConstants<double> {
    static constexpr double ln2_high = 0x1.62e42fefap-1;
    static constexpr double ln2_low = 0x1.cf79abc9e3b39p-40;
    static constexpr double round_magic = 0x1.8p52;
    static constexpr double exp_limit = 700.0;
    static constexpr double tanh_limit = 19.1;
    static constexpr int mantissa_bits = 52;
    static constexpr int bias = 1023;
    static constexpr int terms = 11;
    static constexpr double polynomial[terms] = {0.5,
                                                 0.1666666666666667103,
                                                 0.041666666666666669783,
                                                 0.0083333333333260831202,
                                                 0.0013888888888883711167,
                                                 0.00019841269875002278793,
                                                 0.0000248015873256774619,
                                                 2.7557255170000887438e-6,
                                                 2.7557273478718580474e-7,
                                                 2.5105312729622101787e-8,
                                                 2.09147553258932022e-9};
};

template <class Real_>
struct Math {
    using Real = Real_;
    using V = Vector<Real>;
    using Int = typename VectorTypes<Real>::Int;
    using C = ExpConstants<Real>;

    static SEQFAST_INLINE V clamp(V x, Real limit) {
        // Comparisons with NaN are false, so NaN passes through.
        x = x > broadcast(limit) ? broadcast(limit) : x;
        return x < broadcast(-limit) ? broadcast(-limit) : x;
    }

    static SEQFAST_INLINE V between(V x, Real low, Real high) {
        const V one = broadcast(Real(1));
        return x > broadcast(low) ? (x < broadcast(high) ? one : V{}) : V{};
    }
    static SEQFAST_INLINE V positive(V x) { return x > V{} ? broadcast(Real(1)) : V{}; }
    // NaN passes through.
    static SEQFAST_INLINE V relu(V x) { return x < V{} ? V{} : x; }

    static SEQFAST_INLINE V divide(V a, V b) {
#if defined(__AVX512F__)
        if constexpr (sizeof(Real) == 4) {
            // One Newton step on the 14-bit reciprocal: a quarter of the division's time.
            const V r = (V)_mm512_maskz_rcp14_ps(0xffff, (__m512)b);
            return a * (r * (2 - b * r));
        }
#endif
        return a / b;
    }

    // Returns x / ln 2 rounded to whole n, and r.
    static SEQFAST_INLINE V reduce(V x, V& r) {
        const V scaled = x * Real(1.44269504088896340736);
#if defined(__AVX512F__)
        if constexpr (sizeof(Real) == 4) {
            const V n = (V)_mm512_maskz_roundscale_ps(0xffff, (__m512)scaled, 8);  // nearest
            // One constant is enough: n ln 2 is off by n times 2e-9.
            r = x - n * Real(0.693147180559945309417);
            return n;
        }
#endif
        const V n = (scaled + C::round_magic) - C::round_magic;
        r = (x - n * C::ln2_high) - n * C::ln2_low;
        return n;
    }

    // x 2^n
    static SEQFAST_INLINE V scale(V x, V n) {
#if defined(__AVX512F__)
        if constexpr (sizeof(Real) == 4) {
            return (V)_mm512_maskz_scalef_ps(0xffff, (__m512)x, (__m512)n);
        }
#endif
        const Int exponent = (Int)(n + C::round_magic) - (Int)broadcast(Real(C::round_magic));
        return x * (V)((exponent + C::bias) << C::mantissa_bits);
    }

    // Whether above_floor() is there, and scale(x, y) is x 2^floor(y) for any y, 0 for -inf.
#if defined(__AVX512F__)
    static constexpr bool splits = sizeof(Real) == 4;
#else
    static constexpr bool splits = false;
#endif
    // x - floor(x), and 0 of -inf.
    static SEQFAST_INLINE V above_floor(V x) {
#if defined(__AVX512F__)
        if constexpr (splits) return (V)_mm512_maskz_reduce_ps(0xffff, (__m512)x, 9);
#endif
        return x;
    }

    // P(r) of e^r = 1 + r + r^2 P(r)
    static SEQFAST_INLINE V exp_tail(V r) {
        V polynomial = broadcast(C::polynomial[C::terms - 1]);
#pragma GCC unroll 16
        for (int term = C::terms - 2; term >= 0; --term) {
            polynomial = polynomial * r + C::polynomial[term];
        }
        return polynomial;
    }

    static SEQFAST_INLINE V sigmoid(V x) {
        V r;
        const V n = reduce(clamp(-x, C::exp_limit), r);
        return divide(broadcast(Real(1)), 1 + scale((exp_tail(r) * r + 1) * r + 1, n));
    }

    // e^(2x) - 1 over e^(2x) + 1, exact near zero because the numerator is never 1 + x - 1.
    static SEQFAST_INLINE V tanh(V x) {
        V r;
        const V n = reduce(2 * clamp(x, C::tanh_limit), r);
        const V p = exp_tail(r) * (r * r) + r;
        const V power = scale(broadcast(Real(1)), n);
        const V numerator = power * p + (power - 1);
        return divide(numerator, numerator + 2);
    }
};

}  // namespace seqfast::cpu::SEQFAST_ISA
