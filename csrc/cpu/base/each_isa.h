// Declares something once for each instruction set, in its namespace.
#pragma once

#define SEQFAST_IN_EACH_ISA(declaration) \
    namespace baseline {                 \
    declaration                          \
    }                                    \
    namespace avx2 {                     \
    declaration                          \
    }                                    \
    namespace avx512 {                   \
    declaration                          \
    }                                    \
    namespace avx512bf16 {               \
    declaration                          \
    }
