// Something once for each instruction set: a declaration in its namespace, the address of its
// table.
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

#ifdef SEQFAST_HAVE_AVX2
#define SEQFAST_AVX2_TABLE(table) , &avx2::table
#else
#define SEQFAST_AVX2_TABLE(table)
#endif
#ifdef SEQFAST_HAVE_AVX512
#define SEQFAST_AVX512_TABLE(table) , &avx512::table
#else
#define SEQFAST_AVX512_TABLE(table)
#endif
#ifdef SEQFAST_HAVE_AVX512BF16
#define SEQFAST_AVX512BF16_TABLE(table) , &avx512bf16::table
#else
#define SEQFAST_AVX512BF16_TABLE(table)
#endif
// Of those that were built, in the order of dispatch.cpp.
#define SEQFAST_TABLES(table)                                               \
    {&baseline::table SEQFAST_AVX2_TABLE(table) SEQFAST_AVX512_TABLE(table) \
         SEQFAST_AVX512BF16_TABLE(table)}
