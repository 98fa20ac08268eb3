// Where a call runs on a GPU.
#pragma once

namespace seqfast {

struct GpuPlace {
    int device;
    void* stream;  // kernels are queued there, and nobody waits for them
    bool on_host;  // the host executor takes the call
};
template <class F>
void visit(GpuPlace& place, F&& f) {
    f("device", place.device);
    f("stream", place.stream);
    f("on_host", place.on_host);
}

}  // namespace seqfast
