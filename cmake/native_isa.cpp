// Prints the best instruction set that this processor runs.
#include <cstdio>

#include "cpu/base/features.h"

int main() {
    using namespace seqfast::cpu;
    std::puts(has_avx512bf16() ? "avx512bf16"
              : has_avx512()   ? "avx512"
              : has_avx2()     ? "avx2"
                               : "baseline");
}
