// Places in sorted arrays.
#pragma once

#include "cuda/base/primitives.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// How many of the first `count` places `holds` is true for; it is true for a run at the front.
template <class Index, class Holds>
SEQFAST_DEVICE Index count_front(Index count, const Holds& holds) {
    Index low = 0, high = count;
    while (low < high) {
        const Index middle = low + (high - low) / 2;
        if (holds(middle)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
