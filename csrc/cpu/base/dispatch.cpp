// Detects what this CPU can run, keeps the active table, and prepares what all tables share.
#include "cpu/base/dispatch.h"

#include <pthread.h>
#include <sys/mman.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include "cpu/beam_search/table.h"
#include "cpu/ctc/table.h"
#include "cpu/decoder/table.h"
#include "cpu/rnn/table.h"
#include "cpu/top_k/table.h"
#include "cpu/word2vec/table.h"

namespace seqfast::cpu {

// Fresh memory of this size costs more in page faults than in arithmetic; ask for huge pages.
void use_huge_pages(void* array, size_t bytes) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t kHugePage = 2 << 20;
    const uintptr_t start = reinterpret_cast<uintptr_t>(array);
    const uintptr_t begin = (start + kHugePage - 1) / kHugePage * kHugePage;
    const uintptr_t end = (start + bytes) / kHugePage * kHugePage;
    if (array && end > begin) {
        madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
    }
#else
    (void)array, (void)bytes;
#endif
}

namespace {

struct Isa {
    const Kernels* kernels;
    const DecoderKernels* decoder;
    const Word2VecKernels* word2vec;
    const TopKKernels* top_k;
    const CtcKernels* ctc;
    const BeamSearchKernels* beam_search;
    bool available;
};

#define SEQFAST_TABLES_OF(isa) \
    &isa::kernels, &isa::decoder, &isa::word2vec, &isa::top_k, &isa::ctc, &isa::beam_search

std::vector<Isa> make_isas() {
    std::vector<Isa> all;
    all.push_back({SEQFAST_TABLES_OF(baseline), true});
#if defined(SEQFAST_HAVE_AVX2) || defined(SEQFAST_HAVE_AVX512)
    const bool fma = __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
#ifdef SEQFAST_HAVE_AVX2
    all.push_back({SEQFAST_TABLES_OF(avx2), fma && __builtin_cpu_supports("avx2")});
#endif
#ifdef SEQFAST_HAVE_AVX512
    const bool avx512 = fma && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    all.push_back({SEQFAST_TABLES_OF(avx512), avx512});
    all.push_back({SEQFAST_TABLES_OF(avx512bf16), avx512 && __builtin_cpu_supports("avx512bf16")});
#endif
    return all;
}

const std::vector<Isa>& isas() {
    static const std::vector<Isa> all = make_isas();
    return all;
}

std::string join(const std::vector<std::string>& names) {
    std::string text;
    for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

std::atomic<const Isa*> active{&isas()[0]};

// OpenMP's threads do not survive fork: a child of a process that used them would wait forever.
std::atomic<bool> forked{false};

int usable_threads(int threads) { return forked ? 1 : std::max(threads, 1); }

// A thread is worth waking for some microseconds of work, `each` of it.
int worthwhile_threads(int threads, int64_t work, int64_t each = 32768) {
    return static_cast<int>(std::min<int64_t>(usable_threads(threads), 1 + work / each));
}

constexpr size_t kAlignment = 64;

size_t order_size(int64_t batch) {
    const size_t bytes = 2 * static_cast<size_t>(batch) * sizeof(int64_t);
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

size_t element_size(DType dtype) {
    return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2;
}

char* aligned(void* workspace) {
    const uintptr_t start = reinterpret_cast<uintptr_t>(workspace);
    return reinterpret_cast<char*>((start + kAlignment - 1) / kAlignment * kAlignment);
}

template <class Args>
void prepare(Args& args) {
    use_huge_pages(args.workspace, args.workspace_size);
    args.sizes.threads = usable_threads(args.sizes.threads);
    char* base = aligned(args.workspace);
    args.order = {nullptr, nullptr};
    if (args.lengths) {
        const int64_t batch = args.sizes.batch;
        int64_t* row = reinterpret_cast<int64_t*>(base);
        int64_t* steps = row + batch;
        for (int64_t r = 0; r < batch; ++r) row[r] = r;
        std::sort(row, row + batch, [&](int64_t a, int64_t b) {
            return args.lengths[a] != args.lengths[b] ? args.lengths[a] > args.lengths[b] : a < b;
        });
        for (int64_t r = 0; r < batch; ++r) steps[r] = args.lengths[row[r]];
        args.order = {row, steps};
    }
    args.workspace = base + order_size(args.sizes.batch);
}

// A row is worth a thread, and no more.
int row_threads(const CtcInput& input, int threads) {
    const int64_t rows = std::max<int64_t>(input.batch, 1);
    return static_cast<int>(std::min<int64_t>(usable_threads(threads), rows));
}

}  // namespace

std::vector<std::string> built_isas() {
    std::vector<std::string> names;
    for (const auto& isa : isas()) names.push_back(isa.kernels->name);
    return names;
}

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const auto& isa : isas()) {
        if (isa.available) names.push_back(isa.kernels->name);
    }
    return names;
}

std::string active_isa() { return active.load()->kernels->name; }

void set_isa(const std::string& name) {
    for (const auto& isa : isas()) {
        if (isa.available && name == isa.kernels->name) {
            active = &isa;
            return;
        }
    }
    throw std::invalid_argument("SEQFAST_CPU_ISA: must be one this CPU can run (" +
                                join(available_isas()) + "), got '" + name + "'");
}

void choose_isa() {
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
    for (const auto& isa : isas()) {
        if (isa.available) active = &isa;
    }
    const char* wanted = std::getenv("SEQFAST_CPU_ISA");
    if (wanted && *wanted) set_isa(wanted);
}

int max_threads() {
#ifdef _OPENMP
    return usable_threads(omp_get_max_threads());
#else
    return 1;
#endif
}

size_t rnn_workspace_size(RnnForwardArgs args) {
    args.sizes.threads = usable_threads(args.sizes.threads);
    return kAlignment + order_size(args.sizes.batch) +
           active.load()->kernels->rnn_forward_workspace(args);
}

size_t rnn_workspace_size(RnnBackwardArgs args) {
    args.sizes.threads = usable_threads(args.sizes.threads);
    return kAlignment + order_size(args.sizes.batch) +
           active.load()->kernels->rnn_backward_workspace(args);
}

void rnn_forward(RnnForwardArgs args) {
    prepare(args);
    const RnnSizes& sizes = args.sizes;
    const size_t rows = static_cast<size_t>(sizes.steps * sizes.batch * sizes.directions);
    const size_t units = rows * static_cast<size_t>(sizes.hidden_size);
    const size_t element = element_size(sizes.dtype);
    use_huge_pages(args.output, rows * static_cast<size_t>(sizes.output_size()) * element);
    use_huge_pages(args.cells, units * std::max<size_t>(element, 4));
    use_huge_pages(args.gates, static_cast<size_t>(saved_of(args.options.cell)) * units * element);
    active.load()->kernels->rnn_forward(args);
}

void rnn_backward(RnnBackwardArgs args) {
    prepare(args);
    const RnnSizes& sizes = args.sizes;
    const size_t element = element_size(sizes.dtype);
    const auto bytes = [&](int64_t rows, int64_t columns) {
        return static_cast<size_t>(rows * columns) * element;
    };
    const int64_t gates = gates_of(args.options.cell) * sizes.hidden_size;
    use_huge_pages(args.grad_input, bytes(sizes.steps * sizes.batch, sizes.input_size));
    for (const RnnWeightGradients& grads : args.grad_weights) {
        use_huge_pages(grads.weight_ih, bytes(gates, sizes.input_size));
        use_huge_pages(grads.weight_hh, bytes(gates, sizes.output_size()));
    }
    active.load()->kernels->rnn_backward(args);
}

void dropout(DType dtype, const DropoutArgs& args, int threads) {
    threads = worthwhile_threads(threads, args.steps * args.rows * args.units, 16384);
    active.load()->kernels->dropout(dtype, args, threads);
}

double measure_fma_peak(double seconds, int threads) {
    return active.load()->kernels->measure_fma_peak(seconds, usable_threads(threads));
}

size_t word2vec_workspace_size(Word2VecArgs args) {
    args.threads = usable_threads(args.threads);
    return kAlignment + active.load()->word2vec->workspace(args);
}

void word2vec_train(Word2VecArgs args) {
    args.threads = usable_threads(args.threads);
    args.workspace = aligned(args.workspace);
    active.load()->word2vec->train(args);
}

void word2vec_first_vectors(FirstVectorsArgs args) {
    args.threads = worthwhile_threads(args.threads, args.rows * args.size);
    active.load()->word2vec->first_vectors(args);
}

void top_k(TopKArgs args) {
    args.threads = worthwhile_threads(args.threads, args.rows * args.columns);
    active.load()->top_k->top_k(args);
}

size_t ctc_greedy_workspace_size(CtcGreedyArgs args) {
    args.threads = usable_threads(args.threads);
    return kAlignment + active.load()->ctc->greedy_workspace(args);
}

void ctc_greedy(CtcGreedyArgs args) {
    const CtcInput& input = args.input;
    args.threads = worthwhile_threads(row_threads(input, args.threads),
                                      input.batch * input.frames * input.vocab);
    args.workspace = aligned(args.workspace);
    active.load()->ctc->greedy(args);
}

size_t ctc_beam_search_workspace_size(CtcBeamArgs args) {
    args.threads = row_threads(args.input, args.threads);
    return kAlignment + active.load()->ctc->beam_workspace(args);
}

void ctc_beam_search(CtcBeamArgs args) {
    args.threads = row_threads(args.input, args.threads);
    args.workspace = aligned(args.workspace);
    active.load()->ctc->beam_search(args);
}

size_t beam_step_workspace_size(BeamStepArgs args) {
    args.threads = usable_threads(args.threads);
    return kAlignment + active.load()->beam_search->step_workspace(args);
}

void beam_step(BeamStepArgs args) {
    const BeamOptions& o = args.options;
    args.threads = worthwhile_threads(args.threads, args.batch * o.beams * o.vocabulary);
    args.workspace = aligned(args.workspace);
    active.load()->beam_search->step(args);
}

void beam_backtrack(BeamBacktrackArgs args) {
    // Each token is a cache miss of its own.
    const int64_t tokens = args.sentences * args.hypotheses * args.length;
    args.threads = worthwhile_threads(args.threads, tokens, 4096);
    active.load()->beam_search->backtrack(args);
}

size_t decoder_workspace_size(DecoderArgs args) {
    args.threads = usable_threads(args.threads);
    return kAlignment + active.load()->decoder->workspace(args);
}

void decoder_start(DecoderArgs args) {
    args.threads = usable_threads(args.threads);
    use_huge_pages(args.workspace, args.workspace_size);
    args.workspace = aligned(args.workspace);
    active.load()->decoder->start(args);
}

int64_t decoder_run(DecoderArgs args, BeamStepArgs beams, double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    args.threads = usable_threads(args.threads);
    args.workspace = aligned(args.workspace);
    beams.allowed = nullptr;
    *beams.status = kBeamStepFine;
    while (*beams.living > 0 && *beams.step < beams.capacity) {
        active.load()->decoder->step(args, beams);
        beam_step(beams);
        if (*beams.status != kBeamStepFine || Clock::now() >= end) break;
    }
    return *beams.status;
}

}  // namespace seqfast::cpu
