// What every backend's compiler has to be told in its own words.
#pragma once

#define SEQFAST_HOST_INLINE inline __attribute__((always_inline))
#ifdef __CUDACC__
#define SEQFAST_INLINE __host__ __device__ __forceinline__
#else
#define SEQFAST_INLINE SEQFAST_HOST_INLINE
#endif
