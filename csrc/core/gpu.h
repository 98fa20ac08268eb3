// Where a call runs on a GPU.
#pragma once

namespace seqfast {

struct GpuPlace {
    int device;
    void* stream;  // kernels are queued there, and nobody waits for them
};

}  // namespace seqfast
