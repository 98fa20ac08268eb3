// All cells: a new one is a header beside this and a line here.
#pragma once

#include "core/cells/gru_cell.h"
#include "core/cells/lstm_cell.h"
#include "core/cells/rnn_cell.h"
#include "core/config.h"

namespace seqfast {

// Name of the kind, struct in namespace cells. Their order is the codes that Python hands over.
#define SEQFAST_CELLS(CELL)                \
    CELL(lstm, Lstm)                       \
    CELL(lstm_three_gates, LstmThreeGates) \
    CELL(gru, Gru)                         \
    CELL(gru_reset_before, GruResetBefore) \
    CELL(gru_update_gate, GruUpdateGate)   \
    CELL(rnn, Rnn)

enum class CellKind : int {
#define SEQFAST_KIND(kind, Cell) kind,
    SEQFAST_CELLS(SEQFAST_KIND)
#undef SEQFAST_KIND
};

// On both sides of a GPU.
SEQFAST_INLINE constexpr CellTraits traits_of(CellKind cell) {
    switch (cell) {
#define SEQFAST_CASE(kind, Cell) \
    case CellKind::kind:         \
        return cells::Cell::traits();
        SEQFAST_CELLS(SEQFAST_CASE)
#undef SEQFAST_CASE
    }
    return {};
}
SEQFAST_INLINE constexpr int gates_of(CellKind cell) { return traits_of(cell).gates; }
SEQFAST_INLINE constexpr int saved_of(CellKind cell) { return traits_of(cell).saved(); }
SEQFAST_INLINE constexpr bool has_cell_state(CellKind cell) {
    return traits_of(cell).has_cell_state;
}

// f(cells::...{}) of that kind; on the host alone.
template <class F>
SEQFAST_HOST_INLINE auto with_cell(CellKind cell, F&& f) {
    switch (cell) {
#define SEQFAST_CASE(kind, Cell) \
    case CellKind::kind:         \
        return f(cells::Cell{});
        SEQFAST_CELLS(SEQFAST_CASE)
#undef SEQFAST_CASE
    }
    __builtin_unreachable();
}

// f(CellKind, cells::...{}) of each; on the host alone.
template <class F>
SEQFAST_HOST_INLINE void for_each_cell(F&& f) {
#define SEQFAST_CALL(kind, Cell) f(CellKind::kind, cells::Cell{});
    SEQFAST_CELLS(SEQFAST_CALL)
#undef SEQFAST_CALL
}

}  // namespace seqfast
