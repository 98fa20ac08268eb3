// What a forward pass decides before it begins: its team, its chunks, and where its arrays lie.
#pragma once

#include "cpu/base/int8.h"
#include "cpu/rnn/plan.h"

namespace seqfast::cpu::SEQFAST_ISA {

// Everything of one row and step that does not depend on the unit.
struct ForwardRow {
    int64_t row;
    int64_t index;  // of (time, row, direction) in the saved arrays
    bool restarts;  // whether the next step begins with zeros
};

// Weights as the products read them.
template <class Real>
struct ForwardWeights {
    Real* weight_ih;  // per block [input_size, vectors, gates, lanes]
    Real* weight_hh;  // per block [output_size, vectors, gates, lanes]; where a product comes
                      // second, the first one's gates of all blocks, then the last of all
    Real* weight_hr;  // panels of [hidden_size, vectors, lanes]
    Real* bias;       // [blocks, vectors, columns, lanes]
};

// One direction as one thread sees it.
template <class Real>
struct ForwardShare {
    int64_t direction;
    Range blocks;
    ForwardWeights<Real> weights;
    PanelLayout<Real> projection;
    Real* preactivations;
    const Real** rows;
    Real* widened;
    const Real** hidden_rows[2];
    const Real** between_rows;
    ForwardRow* steps;
    Real* projected;
    Masks<Real> masks;
    QuantizedRows quantized_input, quantized_hidden;
    Real* product;           // with layer_norm: of the row group
    Moments<Real>* moments;  // the same
};

// One block of units at one step: its first `active` rows, from row `first` of the chunk on.
struct BlockStep {
    int64_t step, block, active, first;
};

// Of each row and vector of units with layer_norm: of the product, of a split candidate, of the
// cell.
enum ForwardMoments { of_product = 0, of_candidate = 1, of_cell = 2, moments_count = 3 };

template <class Real, class Storage>
struct ForwardPlan : PassPlan<Real, Storage, RnnForwardArgs> {
    using Base = PassPlan<Real, Storage, RnnForwardArgs>;
    using Base::args, Base::sizes, Base::options, Base::traits, Base::columns, Base::drawer;
    using Base::barriers, Base::given_product, Base::lanes, Base::peephole, Base::team;
    using Base::vectors, Base::workspace;

    int group;      // vectors of units in a block
    int64_t width;  // of a block's pre-activations
    int64_t blocks;
    int64_t chunk_rows;
    bool paired;                      // multiply pairs of bfloat16
    bool direct;                      // multiply with the weights as they are, unpacked
    bool quantized;                   // multiply 8 bits
    ForwardWeights<Real> weights[2];  // per direction; packed at each call they share their room
    Real* hidden[2];       // what the recurrent product multiplies: [batch, hidden_stride], even
                           // and odd steps
    Real* carried;         // [batch, hidden_stride]: h[t-1], where that is not `hidden`
    Real* cell;            // [batch, cell_stride]
    Real* between;         // [batch, cell_stride]: what a second product of a step multiplies, or
                           // waits for the cell's statistics
    Real* preactivations;  // per thread [own blocks, chunk_rows, vectors, columns, lanes]
    const Real** rows;     // per thread [chunk_rows]
    const Real** row_tables;  // per thread [3, rows]: `hidden` of even and odd steps, `between`
    ForwardRow* row_steps;    // per thread [rows]
    Real* projected;          // per thread [rows, 4, lanes], with a projection
    Real* widened;            // per thread [chunk_rows, input_size], 16-bit storage only
    Real* masks;              // per thread, as MaskDrawer places them
    unsigned char* quantized_input;   // per thread [chunk_rows], 8 bits only
    unsigned char* quantized_hidden;  // per thread [rows], likewise
    Real* product;           // per row group [rows, blocks, vectors, gates, lanes], layer_norm
    Moments<Real>* moments;  // per row group [rows, 3, vectors of units], layer_norm
    int64_t hidden_stride, cell_stride, preactivations_size, masks_size;
    size_t packed_size, state_size;

    ForwardPlan(const RnnForwardArgs& given, int threads) : Base(given, threads) {
        choose_sizes();
        lay_out();
    }

    ForwardShare<Real> share_of(const Place& place, int64_t direction) const {
        ForwardShare<Real> own;
        own.direction = direction;
        own.weights = weights[direction];
        own.blocks = part_of(blocks, team.unit_groups, place.unit_group);
        own.projection = whole<Real>(sizes.proj_size, sizes.hidden_size);
        own.projection.vectors =
            part_of(own.projection.vectors.size(), team.unit_groups, place.unit_group);
        own.preactivations = preactivations + place.thread * preactivations_size;
        own.rows = rows + place.thread * chunk_rows;
        const int64_t most_rows = ceil_div(sizes.batch, team.row_groups);
        const Real** table = row_tables + place.thread * 3 * most_rows;
        own.hidden_rows[0] = table;
        own.hidden_rows[1] = table + most_rows;
        own.between_rows = table + 2 * most_rows;
        own.steps = row_steps + place.thread * most_rows;
        own.projected = projected + place.thread * most_rows * kPanelVectors * lanes;
        own.widened = widened + place.thread * chunk_rows * sizes.input_size;
        own.masks = drawer.place(masks + place.thread * masks_size, most_rows, own_units(own),
                                 hidden_columns(own));
        if (quantized) {
            own.quantized_input =
                QuantizedRows::at(quantized_input, place.thread, chunk_rows, sizes.input_size);
            own.quantized_hidden =
                QuantizedRows::at(quantized_hidden, place.thread, most_rows, sizes.output_size());
        }
        own.product = product + place.row_group * most_rows * product_stride();
        own.moments = moments + place.row_group * most_rows * moments_count * vectors();
        return own;
    }

    bool carried_in_its_own() const { return drawer.hidden(); }

    // ---- blocks: some vectors of units, each with all its columns ----

    int64_t vectors_of(int64_t block) const { return smaller(group, vectors() - block * group); }
    int64_t first_unit(int64_t block) const { return block * group * lanes; }
    Range own_units(const ForwardShare<Real>& own) const {
        return {first_unit(own.blocks.begin),
                smaller(first_unit(own.blocks.end), sizes.hidden_size)};
    }
    // Columns of the hidden state this thread writes.
    Range hidden_columns(const ForwardShare<Real>& own) const {
        if (!sizes.proj_size) return own_units(own);
        const Range& vectors = own.projection.vectors;
        return {vectors.begin * lanes, smaller(vectors.end * lanes, sizes.proj_size)};
    }
    // Elements of a left-hand row of `size` features.
    int64_t depth_of(int64_t size) const {
        return quantized ? quad_lines(size) : paired ? size / 2 : size;
    }
    // A weight's panel of a block, of so many columns a unit; `before` of a unit's columns are in
    // other panels of the same array.
    Real* panel(Real* packed, int64_t block, int columns, int before, int64_t depth) const {
        const int64_t unit_columns = blocks * group * lanes;
        return packed + (unit_columns * before + block * group * columns * lanes) * depth_of(depth);
    }
    Real* projection_panel(const ForwardShare<Real>& own, int64_t p) const {
        return own.weights.weight_hr + own.projection.vectors.begin * lanes * own.projection.depth +
               own.projection.offset(p);
    }
    Real* preactivation(const ForwardShare<Real>& own, int64_t block, int64_t row) const {
        return own.preactivations + ((block - own.blocks.begin) * chunk_rows + row) * width;
    }

    // ---- of layer normalisation ----

    int64_t product_stride() const { return blocks * group * columns.gates * lanes; }
    Real* product_row(const ForwardShare<Real>& own, int64_t j) const {
        return own.product + j * product_stride();
    }
    Moments<Real>* moments_of(const ForwardShare<Real>& own, int64_t j, ForwardMoments what) const {
        return own.moments + (j * moments_count + what) * vectors();
    }

  private:
    void choose_sizes() {
        const int64_t outputs = sizes.output_size();
        const bool kept = args.packing != RnnPacking::none;
        quantized = args.packing == RnnPacking::int8;
        // Few gates leave a panel room for several vectors of units.
        group = columns.gates == columns.columns && columns.recurrent == columns.gates
                    ? kPanelVectors / columns.gates
                    : 1;
        // Weights that are kept are packed for any number of threads.
        if (kept) group = static_cast<int>(larger(1, smaller(group, vectors())));
        const int64_t bytes = quantized ? 1 : int64_t(sizeof(Real));
        team =
            choose_team(sizes, columns.gates, kept ? ceil_div(vectors(), group) : vectors(),
                        static_cast<size_t>(vectors() * lanes * columns.gates * outputs * bytes));
        if (!kept)
            group = static_cast<int>(larger(1, smaller(group, vectors() / team.unit_groups)));
        blocks = ceil_div(vectors(), group);
        width = group * columns.columns * lanes;
        const int64_t most_rows = ceil_div(sizes.batch, team.row_groups);
        // Pre-activations of a chunk stay in the second-level cache.
        constexpr int64_t kChunkBytes = 384 << 10;
        const int64_t fitting = kChunkBytes / (width * own_blocks() * int64_t(sizeof(Real)));
        chunk_rows = larger(most_rows, smaller(larger(fitting, 64), 1024));
        chunk_rows = smaller(chunk_rows, most_rows * sizes.steps);

        // Packing a weight costs as much as multiplying some tens of rows with it.
        direct = !kept && sizes.steps * sizes.batch <= 32;
        paired = kPairs<Storage> && !direct && (given_product || sizes.input_size % 2 == 0) &&
                 outputs % 2 == 0;
    }

    void lay_out() {
        Arena arena{reinterpret_cast<uintptr_t>(args.workspace)};
        const int64_t outputs = sizes.output_size();
        const int64_t most_rows = ceil_div(sizes.batch, team.row_groups);
        barriers = arena.take<Barrier>(1 + team.row_groups);
        if (args.packing == RnnPacking::none) {
            weights[0] = weights[1] = take_weights(arena);
            packed_size = 0;
        } else {
            Arena packed{reinterpret_cast<uintptr_t>(args.packed)};
            for (int64_t d = 0; d < sizes.directions; ++d) weights[d] = take_weights(packed);
            packed_size = packed.used;
        }
        Arena kept{reinterpret_cast<uintptr_t>(args.state)};
        Arena& states = args.keeps_state ? kept : arena;
        hidden_stride = padded<Real>(outputs);
        hidden[0] = states.template take<Real>(sizes.batch * hidden_stride);
        hidden[1] = states.template take<Real>(sizes.batch * hidden_stride);
        carried = states.template take<Real>(drawer.hidden() ? sizes.batch * hidden_stride : 0);
        cell_stride = blocks * group * lanes;
        const int64_t cell_size = sizes.batch * cell_stride;
        cell = states.template take<Real>(traits.has_cell_state ? cell_size : 0);
        state_size = kept.used;
        const bool second = sizes.proj_size || traits.has_second_product || options.layer_norm;
        between = arena.take<Real>(second ? cell_size : 0);
        preactivations_size = chunk_rows * width * own_blocks();
        preactivations = arena.take<Real>(team.size() * preactivations_size);
        rows = arena.take<const Real*>(team.size() * chunk_rows);
        // 16-bit inputs are widened, a chunk at a time.
        widened = arena.take<Real>(sizeof(Storage) == sizeof(Real) || given_product
                                       ? 0
                                       : team.size() * chunk_rows * sizes.input_size);
        row_tables = arena.take<const Real*>(team.size() * 3 * most_rows);
        row_steps = arena.take<ForwardRow>(team.size() * most_rows);
        projected =
            arena.take<Real>(sizes.proj_size ? team.size() * most_rows * kPanelVectors * lanes : 0);
        masks_size = drawer.room(most_rows);
        masks = arena.take<Real>(team.size() * masks_size);
        quantized_input = arena.take<unsigned char>(
            quantized ? team.size() * QuantizedRows::room(chunk_rows, sizes.input_size) : 0);
        quantized_hidden = arena.take<unsigned char>(
            quantized ? team.size() * QuantizedRows::room(most_rows, outputs) : 0);
        const int64_t group_rows = options.layer_norm ? team.row_groups * most_rows : 0;
        product = arena.take<Real>(group_rows * product_stride());
        moments = arena.take<Moments<Real>>(group_rows * moments_count * vectors());
        workspace = arena.used;
    }

    ForwardWeights<Real> take_weights(Arena& arena) const {
        const int64_t weight_columns = blocks * group * columns.gates * lanes;
        const bool no_input = direct || given_product;
        ForwardWeights<Real> to;
        to.weight_ih =
            arena.take<Real>(no_input ? 0 : weight_columns * kept_depth_of(sizes.input_size));
        to.weight_hh =
            arena.take<Real>(direct ? 0 : weight_columns * kept_depth_of(sizes.output_size()));
        to.weight_hr = arena.take<Real>(padded<Real>(sizes.proj_size) * sizes.hidden_size);
        to.bias = arena.take<Real>(blocks * width);
        return to;
    }
    int64_t kept_depth_of(int64_t size) const { return quantized ? depth_of(size) : size; }

    int64_t own_blocks() const { return ceil_div(blocks, team.unit_groups); }
};

}  // namespace seqfast::cpu::SEQFAST_ISA
