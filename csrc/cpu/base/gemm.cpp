// The matrix products of one instruction set, in all types.
#define SEQFAST_INSTANTIATE_PRODUCTS
#include "cpu/base/gemm.h"

namespace seqfast::cpu::SEQFAST_ISA {

template void multiply_panel<float>(const Product<float>&, int64_t, int64_t);
template void multiply_panel<double>(const Product<double>&, int64_t, int64_t);
#if defined(__AVX512BF16__)
template void multiply_panel<float, true>(const Product<float>&, int64_t, int64_t);
#endif
template void multiply_direct(const DirectProduct<float, float>&, int64_t, int64_t);
template void multiply_direct(const DirectProduct<double, double>&, int64_t, int64_t);
template void multiply_direct(const DirectProduct<float, BFloat16>&, int64_t, int64_t);
template void multiply_direct(const DirectProduct<float, Float16>&, int64_t, int64_t);

}  // namespace seqfast::cpu::SEQFAST_ISA
