// Word vectors: integers to typed pointers, the GIL released, nothing checked.
#include "cuda/word2vec/word2vec.h"
#include "bindings/dictionary.h"
#include "bindings/register.h"
#include "cpu/base/entry.h"
#include "cpu/word2vec/word2vec.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// A dict with the names of Word2VecArgs: one call trains for a while, so it may be read slowly.
Word2VecArgs read_args(const py::dict& from) {
    Word2VecArgs args{};
    args.tokens = at<int64_t>(from, "tokens");
    args.sentences = at<int64_t>(from, "sentences");
    args.vocabulary = at<int64_t>(from, "vocabulary");
    args.ids = pointer<int32_t>(from, "ids");
    args.offsets = pointer<int64_t>(from, "offsets");
    args.size = at<int64_t>(from, "size");
    args.stride = at<int64_t>(from, "stride");
    args.cbow = at<bool>(from, "cbow");
    args.hierarchical = at<bool>(from, "hierarchical");
    args.shared_negatives = at<bool>(from, "shared_negatives");
    args.shrink_windows = at<bool>(from, "shrink_windows");
    args.cbow_mean = at<bool>(from, "cbow_mean");
    args.legacy_cbow = at<bool>(from, "legacy_cbow");
    args.window = at<int>(from, "window");
    args.negative = at<int>(from, "negative");
    args.deterministic = at<bool>(from, "deterministic");
    args.keep = pointer<uint32_t>(from, "keep");
    args.alias_threshold = pointer<uint32_t>(from, "alias_threshold");
    args.alias = pointer<int32_t>(from, "alias");
    args.path_offsets = pointer<int64_t>(from, "path_offsets");
    args.path_nodes = pointer<int32_t>(from, "path_nodes");
    args.path_codes = pointer<uint8_t>(from, "path_codes");
    args.longest_path = at<int64_t>(from, "longest_path");
    args.locked = pointer<uint8_t>(from, "locked");
    args.input = pointer<float>(from, "input");
    args.output = pointer<float>(from, "output");
    args.nodes = pointer<float>(from, "nodes");
    args.seed = at<int64_t>(from, "seed");
    args.epoch = at<int64_t>(from, "epoch");
    args.tokens_before = at<int64_t>(from, "tokens_before");
    args.tokens_total = at<int64_t>(from, "tokens_total");
    args.alpha = at<double>(from, "alpha");
    args.min_alpha = at<double>(from, "min_alpha");
    args.first_round = at<int64_t>(from, "first_round");
    args.last_round = at<int64_t>(from, "last_round");
    args.loss = pointer<double>(from, "loss");
    args.kept = pointer<int64_t>(from, "kept");
    args.examples = pointer<int64_t>(from, "examples");
    args.threads = at<int>(from, "threads");
    args.workspace = pointer<void>(from, "workspace");
    args.workspace_size = at<size_t>(from, "workspace_size");
    return args;
}

size_t workspace_size(const py::dict& args) {
    return cpu::word2vec_workspace_size(read_args(args));
}

void train(const py::dict& from) {
    const Word2VecArgs args = read_args(from);
    py::gil_scoped_release release;
    cpu::word2vec_train(args);
}

void first_vectors(int64_t rows, int64_t size, int64_t stride, int64_t first_row, int64_t seed,
                   Address vectors, int threads) {
    py::gil_scoped_release release;
    cpu::word2vec_first_vectors(
        {rows, size, stride, first_row, seed, static_cast<float*>(out(vectors)), threads});
}

size_t cuda_workspace_size(bool on_host, int device, Address stream, const py::dict& args) {
    return (on_host ? cuda_host::word2vec_workspace_size : cuda::word2vec_workspace_size)(
        {device, out(stream)}, read_args(args));
}

void cuda_train(bool on_host, int device, Address stream, const py::dict& from) {
    const Word2VecArgs args = read_args(from);
    py::gil_scoped_release release;
    (on_host ? cuda_host::word2vec_train : cuda::word2vec_train)({device, out(stream)}, args);
}

void use_huge_pages(Address array, size_t bytes) { cpu::use_huge_pages(out(array), bytes); }

}  // namespace

void register_word2vec(py::module_& module) {
    module.def("word2vec_workspace_size", &workspace_size);
    module.def("word2vec_train", &train);
    module.def("word2vec_first_vectors", &first_vectors);
    module.def("cuda_word2vec_workspace_size", &cuda_workspace_size);
    module.def("cuda_word2vec_train", &cuda_train);
    module.def("use_huge_pages", &use_huge_pages);
}

}  // namespace seqfast::bindings
