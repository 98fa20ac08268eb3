// What an array's number format is called in C++, and what it is computed in.
#pragma once

#include <type_traits>

#include "core/dtype.h"
#include "cpu/base/simd.h"

namespace seqfast::cpu::SEQFAST_ISA {

template <class Storage>
using RealOf = std::conditional_t<std::is_same_v<Storage, double>, double, float>;

// As it would be read back.
template <class Storage, class Real = RealOf<Storage>>
SEQFAST_INLINE Vector<Real> rounded_to(Vector<Real> x) {
    if constexpr (std::is_same_v<Storage, Real>) return x;
    Storage stored[kLanes<Real>];
    store(stored, x, kLanes<Real>);
    return load<Real>(stored, kLanes<Real>);
}

// f(a number of the format).
template <class F>
auto with_storage(DType dtype, F&& f) {
    switch (dtype) {
        case DType::float64:
            return f(double{});
        case DType::bfloat16:
            return f(BFloat16{});
        case DType::float16:
            return f(Float16{});
        default:
            return f(float{});
    }
}

}  // namespace seqfast::cpu::SEQFAST_ISA
