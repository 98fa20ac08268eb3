// The table of recurrent kernels of one instruction set.
#include "core/rnn.h"
#include "cpu/base/peak.h"
#include "cpu/base/random.h"
#include "cpu/base/storage.h"
#include "cpu/rnn/backward.h"
#include "cpu/rnn/forward.h"
#include "cpu/rnn/table.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

template <class F>
auto with_types(DType dtype, F&& f) {
    return with_storage(dtype,
                        [&](auto storage) { return f(RealOf<decltype(storage)>{}, storage); });
}

// Room for the wanted threads and for one, should the runtime grant no more.
template <template <class, class> class Pass, class Args>
size_t workspace_of(Args args) {
    args.workspace = nullptr;
    return with_types(args.sizes.dtype, [&](auto real, auto storage) {
        using Run = Pass<decltype(real), decltype(storage)>;
        const size_t wanted = Run(args, args.sizes.threads).workspace();
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

void run_dropout(DType dtype, const DropoutArgs& args, int threads) {
    with_types(dtype, [&](auto real, auto storage) {
        using Real = decltype(real);
        using Storage = decltype(storage);
        if (!dropout_rows<Real, Storage>(args, threads)) dropout_rows<Real, Storage>(args, 1);
    });
}

#define SEQFAST_STRING_(x) #x
#define SEQFAST_STRING(x) SEQFAST_STRING_(x)

}  // namespace

extern const Kernels kernels = {
    SEQFAST_STRING(SEQFAST_ISA),
    &workspace_of<RnnForward, RnnForwardArgs>,
    &workspace_of<RnnBackward, RnnBackwardArgs>,
    &run<RnnForward, RnnForwardArgs>,
    &run<RnnBackward, RnnBackwardArgs>,
    &run_dropout,
    &measure_fma_peak,
};

}  // namespace seqfast::cpu::SEQFAST_ISA
