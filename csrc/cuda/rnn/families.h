// The dispatch of cells on a GPU: which cells share kernels, and what these are compiled for. A new
// cell joins a family here, or brings a line of its own.
#pragma once

#include "core/cells/cells.h"
#include "cuda/base/primitives.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <class Cell>
struct KindOf;
#define SEQFAST_KIND_OF(kind, Cell)                       \
    template <>                                           \
    struct KindOf<cells::Cell> {                          \
        static constexpr CellKind value = CellKind::kind; \
    };
SEQFAST_CELLS(SEQFAST_KIND_OF)
#undef SEQFAST_KIND_OF

constexpr int slots_of(int gates) { return gates == 1 ? 1 : 4; }

template <bool general_, class First, class... Others>
struct Family {
    // With the options of a layer; a family without them takes one cell.
    static constexpr bool general = general_;
    static constexpr CellTraits traits = First::traits();
    static constexpr bool has_cell = traits.has_cell_state;
    static constexpr bool carries_hidden = traits.carries_hidden;
    // |h| <= 1 from the first step on.
    static constexpr bool bounded = has_cell && !general;

    static constexpr int largest(int a) { return a; }
    template <class... Rest>
    static constexpr int largest(int a, int b, Rest... rest) {
        return largest(a > b ? a : b, rest...);
    }
    // Products of a unit in a step, and gradients it hands to the step before: with fewer than four
    // gates, zeros fill up.
    static constexpr int inputs = largest(First::traits().gates, Others::traits().gates...);
    static constexpr int slots = slots_of(inputs);
    static constexpr int saved = largest(First::traits().saved(), Others::traits().saved()...);
    // The gate whose two products stay apart in some cell of the family; -1: none.
    static constexpr int split_gate = saved > inputs ? inputs - 1 : -1;

    // What a unit carries from step to step: its cell (backward: the gradient of it), its hidden
    // state (what reaches it past the product), the mask of what is multiplied.
    static constexpr int cell_plane = 0;
    static constexpr int hidden_plane = general && has_cell ? 1 : 0;
    static constexpr int mask_plane = general ? hidden_plane + 1 : 0;
    static constexpr int planes = mask_plane + 1;

    static constexpr bool has(CellKind kind) {
        bool found = kind == KindOf<First>::value;
        const bool others[] = {false, kind == KindOf<Others>::value...};
        for (const bool other : others) found = found || other;
        return found;
    }
    // Calls use(cell) with that cell of the family.
    template <class Use>
    static SEQFAST_DEVICE auto with_cell(CellKind kind, const Use& use) {
        return with_one_of<First, Others...>(kind, use);
    }

    static_assert(general || sizeof...(Others) == 0);
    static_assert(((Others::traits().has_cell_state == has_cell) && ...));
    static_assert(((Others::traits().carries_hidden == carries_hidden) && ...));

  private:
    template <class Cell, class... Rest, class Use>
    static SEQFAST_DEVICE auto with_one_of([[maybe_unused]] CellKind kind, const Use& use) {
        if constexpr (sizeof...(Rest) > 0) {
            if (kind != KindOf<Cell>::value) return with_one_of<Rest...>(kind, use);
        }
        return use(Cell{});
    }
};

// Whole sequences and single steps. cmake/cuda.cmake reads these lines: each has two instances.
struct PlainLstm : Family<false, cells::Lstm> {};
struct Lstm : Family<true, cells::LstmThreeGates, cells::Lstm> {};
struct Gru : Family<true, cells::Gru, cells::GruUpdateGate> {};
struct Rnn : Family<true, cells::Rnn> {};

// Cells whose step has a second product: single steps alone.
struct GruInTwo : Family<true, cells::GruResetBefore> {};

template <class... Families>
struct FamilyList {
    // Calls use(family) with the first that has the cell and, of a `general` one, its options.
    template <class Use>
    static auto with_family(CellKind kind, bool general, const Use& use) {
        return try_each<Families...>(kind, general, use);
    }

  private:
    template <class First, class... Rest, class Use>
    static auto try_each(CellKind kind, bool general, const Use& use) {
        if constexpr (sizeof...(Rest) > 0) {
            if (!First::has(kind) || (general && !First::general))
                return try_each<Rest...>(kind, general, use);
        }
        return use(First{});
    }
};

using SequenceFamilies = FamilyList<PlainLstm, Lstm, Gru, Rnn>;
// Options cost a kernel of one step little, so none is compiled without them.
using StepFamilies = FamilyList<Lstm, Gru, Rnn>;
using SecondProductFamilies = FamilyList<GruInTwo>;

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
