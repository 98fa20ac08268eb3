// What the passes over a sequence share: memory, the threads and the rows each of them works on.
#pragma once

#include "core/rnn.h"
#include "cpu/base/arena.h"
#include "cpu/base/gemm.h"
#include "cpu/base/simd.h"
#include "cpu/base/team.h"

namespace seqfast::cpu::SEQFAST_ISA {

// How threads share a sequence: rows over row_groups, units over the unit_groups threads of each.
// Row groups never wait for each other; the threads of one meet at a barrier every step.
struct Team {
    int row_groups;
    int unit_groups;
    int size() const { return row_groups * unit_groups; }
};

// Policy. Splitting rows costs no barrier, but every thread then streams all recurrent weights
// every step: worth it while they stay in its own cache or enough rows share each load.
inline Team choose_team(const RnnSizes& sizes, int gates, int64_t unit_parts, size_t weight_bytes) {
    const double flops_per_step =
        2.0 * gates * sizes.batch * sizes.hidden_size * (sizes.input_size + sizes.output_size());
    // A thread is worth waking for some microseconds of work, in all and in each step.
    int threads = sizes.threads;
    threads = static_cast<int>(
        smaller(threads, 1 + static_cast<int64_t>(flops_per_step * sizes.steps / 4e5)));
    threads = static_cast<int>(larger(threads, 1));
    constexpr size_t kOwnCache = 768 << 10;
    constexpr size_t kSharedCache = 6 << 20;
    const int64_t rows_wanted = weight_bytes <= kOwnCache ? 4 : 24;
    int row_groups = weight_bytes <= kSharedCache ? threads : 1;
    while (row_groups > 1 &&
           (threads % row_groups != 0 || sizes.batch < rows_wanted * row_groups)) {
        --row_groups;
    }
    int unit_groups = threads / row_groups;
    unit_groups = static_cast<int>(smaller(unit_groups, unit_parts));
    if (flops_per_step / (row_groups * unit_groups) < 6e4) unit_groups = 1;
    return {row_groups, unit_groups};
}

// A thread's place in the team and the rows it works on: position j of its row group is position
// row_group + j * row_groups of the order by falling length.
struct Place {
    int thread;
    int row_group;
    int unit_group;
    int row_groups;
    const RnnSizes* sizes;
    RowOrder order;

    int64_t position(int64_t j) const { return row_group + j * row_groups; }
    int64_t row(int64_t j) const { return order.row ? order.row[position(j)] : position(j); }
    int64_t steps(int64_t j) const { return order.steps ? order.steps[position(j)] : sizes->steps; }
    int64_t rows() const { return rows_of_first(sizes->batch); }
    // How many of the first `count` positions of the whole order are this group's.
    int64_t rows_of_first(int64_t count) const {
        return count > row_group ? ceil_div(count - row_group, row_groups) : 0;
    }
    // Of its first `rows` rows, those that still have a step `step`.
    int64_t active(int64_t rows, int64_t step) const {
        while (rows > 0 && steps(rows - 1) <= step) --rows;
        return rows;
    }
    // When row j does its step s: the second direction starts at the row's own end.
    int64_t time(int64_t j, int64_t s, int64_t direction) const {
        return direction == 0 ? s : steps(j) - 1 - s;
    }
};

inline Place place_of(int thread, const Team& team, const RnnSizes& sizes, RowOrder order) {
    return {thread, thread / team.unit_groups, thread % team.unit_groups, team.row_groups, &sizes,
            order};
}

template <class Storage>
const Storage* row_at(const SequenceView& view, int64_t time, int64_t row) {
    return static_cast<const Storage*>(view.data) + time * view.step_stride + row * view.row_stride;
}

// Runs body(place, direction) on every thread, one direction after the other; false as run_team.
// barriers [1 + row_groups]: everybody's, then each row group's own.
template <class Body>
bool run_directions(const RnnSizes& sizes, const Team& team, RowOrder order, Barrier* barriers,
                    Body&& body) {
    barriers[0].reset(team.size());
    for (int g = 0; g < team.row_groups; ++g) barriers[1 + g].reset(team.unit_groups);
    return run_team(team.size(), [&](int thread) {
        const Place place = place_of(thread, team, sizes, order);
        for (int64_t direction = 0; direction < sizes.directions; ++direction) {
            body(place, direction);
            barriers[0].wait();
        }
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA
