// Detects what this CPU can run, and keeps what it was told to use.
#include "cpu/base/dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "cpu/base/entry.h"
#include "cpu/base/features.h"

namespace seqfast::cpu {
namespace {

struct Isa {
    const char* name;
    bool available;
};

// In the order of SEQFAST_TABLES, each better than the one before.
std::vector<Isa> make_isas() {
    std::vector<Isa> all;
    all.push_back({"baseline", true});
#ifdef SEQFAST_HAVE_AVX2
    all.push_back({"avx2", has_avx2()});
#endif
#ifdef SEQFAST_HAVE_AVX512
    all.push_back({"avx512", has_avx512()});
#endif
#ifdef SEQFAST_HAVE_AVX512BF16
    all.push_back({"avx512bf16", has_avx512bf16()});
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

std::atomic<int> active{0};

}  // namespace

std::vector<std::string> built_isas() {
    std::vector<std::string> names;
    for (const auto& isa : isas()) names.push_back(isa.name);
    return names;
}

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const auto& isa : isas()) {
        if (isa.available) names.push_back(isa.name);
    }
    return names;
}

int active_isa_index() { return active.load(); }

std::string active_isa() { return isas()[static_cast<size_t>(active.load())].name; }

void set_isa(const std::string& name) {
    for (size_t i = 0; i < isas().size(); ++i) {
        if (isas()[i].available && name == isas()[i].name) {
            active = static_cast<int>(i);
            return;
        }
    }
    throw std::invalid_argument("SEQFAST_CPU_ISA: must be one this CPU can run (" +
                                join(available_isas()) + "), got '" + name + "'");
}

void choose_isa() {
    watch_for_forks();
    for (size_t i = 0; i < isas().size(); ++i) {
        if (isas()[i].available) active = static_cast<int>(i);
    }
    const char* wanted = std::getenv("SEQFAST_CPU_ISA");
    if (wanted && *wanted) set_isa(wanted);
}

}  // namespace seqfast::cpu
