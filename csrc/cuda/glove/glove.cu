// GloVe on a GPU: a launch for each stratum, a warp for each of its tiles, which goes through the
// entries as the CPU does; the tiles of a stratum share no row, so nobody has to wait.
#include "cuda/glove/glove.h"

#include "cuda/base/sizes.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

SEQFAST_DEVICE float sum_of_warp(float x) {
    SEQFAST_UNROLL
    for (int mask = 16; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
    return x;
}

// AdaGrad: the step of a gradient, and its square is added.
SEQFAST_DEVICE void update(float* value, float* square, float old, float gradient) {
    const float before = *square;
    *value = old - gradient / square_root(before);
    *square = before + gradient * gradient;
}

SEQFAST_KERNEL(32, 1)
glove_kernel(const GloveArgs args, int64_t round, int64_t stratum) {
    const int64_t row_block = block_x(), column_block = (row_block + stratum) % args.blocks;
    const int64_t tile = row_block * args.blocks + column_block;
    const int lane = lane_index();
    const float scale = float(1 / args.x_max), power = float(args.alpha);
    const float rate = float(args.learning_rate), limit = float(args.clip);
    double loss = 0;
    for (int64_t i = args.tiles[tile]; i < args.tiles[tile + 1]; ++i) {
        const uint64_t entry = args.entries[i];
        const int64_t row = entry_row(entry) * args.blocks + row_block;
        const int64_t column = entry_column(entry) * args.blocks + column_block;
        const float value = float_of(uint32_t(entry >> 32));
        float* const word = args.words + row * args.stride;
        float* const context = args.contexts + column * args.stride;
        float* const word_squares = args.word_squares + row * args.stride;
        float* const context_squares = args.context_squares + column * args.stride;

        float product = 0;
        for (int64_t c = lane; c <= args.size; c += 32) {
            product += c < args.size ? word[c] * context[c] : word[c] + context[c];
        }
        const float error = sum_of_warp(product) - logarithm(value);
        const float x = value * scale;
        const float weighted = x < 1 ? fast_exp(power * logarithm(x)) * error : error;
        loss += 0.5 * double(weighted) * double(error);

        const bool moves_word = !args.locked || !args.locked[row];
        const bool moves_context = !args.locked || !args.locked[column];
        for (int64_t c = lane; c <= args.size; c += 32) {
            const float a = word[c], b = context[c];
            const bool bias = c == args.size;
            const float to_word = weighted * b, to_context = weighted * a;
            const float cut_word = to_word > limit ? limit : to_word < -limit ? -limit : to_word;
            const float cut_context = to_context > limit    ? limit
                                      : to_context < -limit ? -limit
                                                            : to_context;
            if (moves_word)
                update(word + c, word_squares + c, a, bias ? weighted : cut_word * rate);
            if (moves_context) {
                update(context + c, context_squares + c, b, bias ? weighted : cut_context * rate);
            }
        }
    }
    if (lane == 0) args.loss[round * args.blocks + row_block] = loss;
}

}  // namespace

void glove_train(const GpuPlace& place, const GloveArgs& args) {
    const DeviceGuard guard(place.device);
    for (int64_t round = 0; round < args.rounds; ++round) {
        const LaunchShape shape{int(args.blocks), 1, 1, 32, 1, 0, false};
        launch("glove: glove_kernel", glove_kernel, shape, place.stream, args, round,
               int64_t(args.strata[round]));
    }
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
