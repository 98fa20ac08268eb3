// What every backend's compiler has to be told in its own words.
#pragma once

#define SEQFAST_INLINE inline __attribute__((always_inline))
