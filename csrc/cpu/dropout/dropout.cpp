// Dropout of whole arrays by masks drawn by counter.
#include "cpu/base/random.h"
#include "cpu/base/storage.h"
#include "cpu/base/team.h"
#include "cpu/dropout/table.h"

namespace seqfast::cpu::SEQFAST_ISA {
namespace {

template <class Real, class Storage>
bool dropout_rows(const DropoutArgs& args, int threads) {
    constexpr int lanes = kLanes<Real>;
    const int64_t rows = args.steps * args.rows;
    return run_team(threads, [&](int thread) {
        const Range part = part_of(rows, threads, thread);
        alignas(64) Real scales[kDrawUnits];
        for (int64_t i = part.begin; i < part.end; ++i) {
            const DrawAt at{*args.seed, static_cast<uint32_t>(i % args.rows),
                            args.per_step ? static_cast<uint32_t>(i / args.rows) : 0, args.stream};
            const Storage* from = static_cast<const Storage*>(args.input) + i * args.units;
            Storage* to = static_cast<Storage*>(args.output) + i * args.units;
            for (int64_t unit = 0; unit < args.units; unit += kDrawUnits) {
                draw_group(scales, at, unit / kDrawUnits, event_threshold(args.probability),
                           Real(0), kept_scale<Real>(args.probability));
                for (int64_t u = 0; u < kDrawUnits && unit + u < args.units; u += lanes) {
                    with_count<Real>(args.units - unit - u, [&](auto count) {
                        const Vector<Real> x = load<Real>(from + unit + u, count);
                        const Vector<Real> scale = load(scales + u);
                        // Selected, not multiplied: what is dropped may be infinite.
                        store(to + unit + u, scale == Vector<Real>{} ? Vector<Real>{} : x * scale,
                              count);
                    });
                }
            }
        }
    });
}

void run(const DropoutArgs& args) {
    with_storage(args.dtype, [&](auto storage) {
        using Storage = decltype(storage);
        using Real = RealOf<Storage>;
        if (!dropout_rows<Real, Storage>(args, args.threads)) dropout_rows<Real, Storage>(args, 1);
    });
}

}  // namespace

extern const DropoutKernels dropout = {&run};

}  // namespace seqfast::cpu::SEQFAST_ISA
