// What the tests call: planted bugs and cases by name, and the control of the host executor.
#include <algorithm>
#include <cstdint>
#include <exception>
#include <string>

#include "host_executor/executor.h"
#include "planted_bugs.h"
#include "primitive_cases.h"

namespace {

// The text of the last error in this thread, or nullptr.
template <class Run>
const char* catch_error(Run run) {
    static thread_local std::string text;
    try {
        run();
    } catch (const std::exception& error) {
        text = error.what();
        return text.c_str();
    }
    return nullptr;
}

}  // namespace

extern "C" {

#define SEQFAST_TEST_EXPORT __attribute__((visibility("default")))

SEQFAST_TEST_EXPORT const char* planted_bug_names() {
    static const std::string names = [] {
        std::string text;
        for (const std::string& name : seqfast::cuda_host::planted_bugs()) text += name + " ";
        return text;
    }();
    return names.c_str();
}

SEQFAST_TEST_EXPORT const char* run_planted_bug(const char* name, bool correct, int64_t* wrong) {
    return catch_error([&] { *wrong = seqfast::cuda_host::run_planted_bug(name, correct); });
}

SEQFAST_TEST_EXPORT const char* run_primitive_case(const char* name, void* const* arrays,
                                                   const int64_t* numbers) {
    return catch_error([&] { seqfast::cuda_host::run_primitive_case(name, arrays, numbers); });
}

SEQFAST_TEST_EXPORT void set_seed(uint64_t seed) { seqfast::host_executor::set_seed(seed); }

SEQFAST_TEST_EXPORT void set_modes(bool weak_memory, bool cut_off_sums) {
    seqfast::host_executor::set_modes({weak_memory, cut_off_sums});
}

SEQFAST_TEST_EXPORT const char* set_device(int multiprocessors, int64_t shared_bytes,
                                           int architecture, int max_cluster) {
    return catch_error([&] {
        seqfast::host_executor::set_device(multiprocessors, shared_bytes, architecture,
                                           max_cluster);
    });
}

// launches, blocks, threads, switches, launches of the kernel of that name
SEQFAST_TEST_EXPORT void statistics(bool reset, const char* kernel, int64_t* counts) {
    const auto all = seqfast::host_executor::statistics(reset);
    const auto found = all.kernels.find(kernel);
    counts[0] = all.launches;
    counts[1] = all.blocks;
    counts[2] = all.threads;
    counts[3] = all.switches;
    counts[4] = found == all.kernels.end() ? 0 : found->second;
}
}
