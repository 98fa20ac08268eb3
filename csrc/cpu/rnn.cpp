// The table of recurrent kernels of one instruction set.
#include "core/rnn.h"
#include "cpu/kernels.h"
#include "cpu/lstm_backward.h"
#include "cpu/lstm_forward.h"
#include "cpu/peak.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

template <class F>
auto with_types(DType dtype, F&& f) {
    switch (dtype) {
        case DType::float64:
            return f(double{}, double{});
        case DType::bfloat16:
            return f(float{}, BFloat16{});
        case DType::float16:
            return f(float{}, Float16{});
        default:
            return f(float{}, float{});
    }
}

// Room for the wanted threads and for one, should the runtime grant no more.
template <template <class, class> class Pass, class Args>
size_t workspace_of(const RnnSizes& sizes) {
    Args args{};
    args.sizes = sizes;
    return with_types(sizes.dtype, [&](auto real, auto storage) {
        using Run = Pass<decltype(real), decltype(storage)>;
        const size_t wanted = Run(args, sizes.threads).workspace();
        const size_t single = Run(args, 1).workspace();
        return wanted > single ? wanted : single;
    });
}

template <template <class, class> class Pass, class Args>
void run(const Args& args) {
    with_types(args.sizes.dtype, [&](auto real, auto storage) {
        using Run = Pass<decltype(real), decltype(storage)>;
        if (!Run(args, args.sizes.threads).run()) Run(args, 1).run();
    });
}

#define SEQFAST_STRING_(x) #x
#define SEQFAST_STRING(x) SEQFAST_STRING_(x)

}  // namespace

extern const Kernels kernels = {
    SEQFAST_STRING(SEQFAST_ISA),
    &workspace_of<LstmForward, LstmForwardArgs>,
    &workspace_of<LstmBackward, LstmBackwardArgs>,
    &run<LstmForward, LstmForwardArgs>,
    &run<LstmBackward, LstmBackwardArgs>,
    &measure_fma_peak,
};

}  // namespace seqfast::cpu::SEQFAST_ISA
