// Runs a pass over a sequence in the types of its arrays.
#pragma once

#include "cpu/base/storage.h"

namespace seqfast::cpu::SEQFAST_ISA {

// Room for the wanted threads and for one, should the runtime grant no more.
template <template <class, class> class Pass, class Args>
size_t workspace_of(Args args) {
    args.workspace = nullptr;
    return with_storage(args.sizes.dtype, [&](auto storage) {
        using Storage = decltype(storage);
        using Run = Pass<RealOf<Storage>, Storage>;
        const size_t wanted = Run(args, args.sizes.threads).workspace();
        const size_t single = Run(args, 1).workspace();
        return wanted > single ? wanted : single;
    });
}

template <template <class, class> class Pass, class Args>
void run(const Args& args) {
    with_storage(args.sizes.dtype, [&](auto storage) {
        using Storage = decltype(storage);
        using Run = Pass<RealOf<Storage>, Storage>;
        if (!Run(args, args.sizes.threads).run()) Run(args, 1).run();
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA
