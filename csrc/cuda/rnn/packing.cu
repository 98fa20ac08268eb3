// Packs weights and first states: numbers move, and are masked at most.
#include "cuda/rnn/packing.h"

#include "cuda/base/sizes.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

// Numbers are only moved here, so their size is all that counts.
template <class E>
struct alignas(16) Piece {
    static constexpr int count = 16 / sizeof(E);
    E at[count];
};

// One side of a matrix of weights: its index in the product, and where that is in memory.
struct PackedSide {
    int count;        // of the layer; beyond are zeros
    int64_t stride;   // in elements
    int gates;        // 0: of single numbers; else of units with so many gates and zeros up to
                      // four: for m in tiles of 8 units, for k as unit * 4 + gate
    int hidden_size;  // of `gates`

    SEQFAST_DEVICE bool has(int unit, int gate) const {
        return unit < count && (!gates || gate < gates);
    }
    SEQFAST_DEVICE int64_t offset(int unit, int gate) const {
        return gates ? (int64_t(gate) * hidden_size + unit) * stride : unit * stride;
    }
};

// Element e of a lane's piece of a half: of row g or g + 8, and where in the 16 bytes of that row.
struct PackedElement {
    int high, in_row;
};
template <class E>
SEQFAST_DEVICE PackedElement packed_element(int half, int e) {
    // An instruction takes words of both rows in turns; of doubles each instruction has one row.
    if (sizeof(E) == 8) return {half, e};
    constexpr int word = sizeof(E) == 8 ? 1 : 4 / int(sizeof(E));
    return {e / word % 2, half * 2 * word + e / (2 * word) * word + e % word};
}

template <class E>
SEQFAST_KERNEL(256, 1)
pack_weights_kernel(const E* weights, Piece<E>* packed, PackedSide m, PackedSide k, int m_tiles,
                    int chunks) {
    const int64_t pieces = packed_index(m_tiles, chunks, 0, 0, 0);
    const int64_t step = int64_t(grid_x()) * thread_count();
    for (int64_t i = int64_t(block_x()) * thread_count() + thread_index(); i < pieces; i += step) {
        const int lane = int(i % 32), half = int(i / 32 % 2), chunk = int(i / 64 % chunks);
        const int tile = int(i / 64 / chunks);
        const int g = lane / 4, t = lane % 4;
        Piece<E> piece{};
        SEQFAST_UNROLL
        for (int e = 0; e < Piece<E>::count; ++e) {
            const auto [high, in_row] = packed_element<E>(half, e);
            const int m_unit = m.gates ? tile / 2 * 8 + g : tile * 16 + high * 8 + g;
            const int m_gate = tile % 2 * 2 + high;
            const int index = (chunk * 4 + t) * Piece<E>::count + in_row;
            const int k_unit = k.gates ? index / 4 : index;
            if (m.has(m_unit, m_gate) && k.has(k_unit, index % 4))
                piece.at[e] = weights[m.offset(m_unit, m_gate) + k.offset(k_unit, index % 4)];
        }
        packed[i] = piece;
    }
}

template <class T>
SEQFAST_KERNEL(256, 1)
stage_rows_kernel(const T* source, Piece<T>* staged, RowsByLength rows,
                  SEQFAST_GRID_CONSTANT Variant variant, int directions, int width, Slabs slabs,
                  int chunks, int pass_rows) {
    using Acc = std::conditional_t<sizeof(T) == 8, double, float>;
    const int64_t passes = int64_t(slabs.count) * slabs.passes;
    const int64_t pieces = directions * passes * chunks * pass_rows * 4;
    const int64_t step = int64_t(grid_x()) * thread_count();
    for (int64_t i = int64_t(block_x()) * thread_count() + thread_index(); i < pieces; i += step) {
        const int t = int(i % 4), n = int(i / 4 % pass_rows);
        const int chunk = int(i / 4 / pass_rows % chunks);
        const int64_t direction_pass = i / 4 / pass_rows / chunks;
        const int direction = int(direction_pass / passes);
        const int64_t slab = direction_pass % passes / slabs.passes;
        const int place = int(direction_pass % slabs.passes) * pass_rows + n;
        const int64_t row = rows.row(slabs.position(slab, place));
        const int length = rows.length(row);
        const T* from = source + (direction * rows.batch + row) * width;
        const bool clear =
            length == 0 || variant.resets(time_of(0, length, direction == 1), row, rows.batch);
        Piece<T> piece{};
        SEQFAST_UNROLL
        for (int e = 0; e < Piece<T>::count; ++e) {
            const int k = (chunk * 4 + t) * Piece<T>::count + e;
            if (row < 0 || clear || k >= width) continue;
            piece.at[e] = from[k];
            if (variant.drops_hidden)
                piece.at[e] = round_to<T>(Acc(to_float(from[k])) *
                                          variant.template hidden_mask<Acc>(direction, k, row));
        }
        staged[i] = piece;
    }
}

template <class Use>
void with_size_of(DType dtype, Use use) {
    switch (size_of(dtype)) {
        case 2:
            return use(uint16_t{});
        case 4:
            return use(uint32_t{});
        default:
            return use(uint64_t{});
    }
}

void pack(DType dtype, const void* weights, U32x4* packed, const PackedSide& m, const PackedSide& k,
          int m_tiles, int chunks, Stream stream) {
    with_size_of(dtype, [&](auto element) {
        using E = decltype(element);
        launch("rnn: pack_weights_kernel", pack_weights_kernel<E>,
               flat_shape(packed_index(m_tiles, chunks, 0, 0, 0)), stream,
               static_cast<const E*>(weights), reinterpret_cast<Piece<E>*>(packed), m, k, m_tiles,
               chunks);
    });
}

}  // namespace

void pack_recurrent(const RnnSizes& sizes, CellKind kind, const RnnWeights& weights,
                    bool transposed, U32x4* packed, int m_tiles, int chunks, Stream stream) {
    const int hidden = int(sizes.hidden_size), output = int(sizes.output_size());
    const CellTraits traits = traits_of(kind);
    const bool in_fours = slots_of(traits.gates) == 4;
    const PackedSide gates{hidden, output, in_fours ? traits.first_gates() : 0, hidden};
    const PackedSide outputs{output, 1, 0, 0};
    pack(sizes.dtype, weights.weight_hh, packed, transposed ? outputs : gates,
         transposed ? gates : outputs, m_tiles, chunks, stream);
}

void pack_second(const RnnSizes& sizes, CellKind kind, const RnnWeights& weights, bool transposed,
                 U32x4* packed, int m_tiles, int chunks, Stream stream) {
    const int hidden = int(sizes.hidden_size), output = int(sizes.output_size());
    const CellTraits traits = traits_of(kind);
    const void* matrix = weights.weight_hr;
    if (traits.has_second_product)
        matrix = static_cast<const char*>(weights.weight_hh) +
                 int64_t(traits.first_gates()) * hidden * hidden * size_of(sizes.dtype);
    const PackedSide rows{output, hidden, 0, 0}, columns{hidden, 1, 0, 0};
    pack(sizes.dtype, matrix, packed, transposed ? columns : rows, transposed ? rows : columns,
         m_tiles, chunks, stream);
}

void stage_rows(const RnnSizes& sizes, const RowsByLength& rows, const Variant& variant,
                const void* source, char* staged, const Slabs& slabs, int chunks, int pass_rows,
                Stream stream) {
    const int directions = int(sizes.directions);
    with_type(sizes.dtype, [&](auto number) {
        using T = decltype(number);
        launch(
            "rnn_forward: stage_rows_kernel", stage_rows_kernel<T>,
            flat_shape(int64_t(directions) * slabs.count * slabs.passes * chunks * pass_rows * 4),
            stream, static_cast<const T*>(source), reinterpret_cast<Piece<T>*>(staged), rows,
            variant, directions, int(sizes.output_size()), slabs, chunks, pass_rows);
    });
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
