// Chooses the kernels of one instruction set, at start or when told to.
#pragma once

#include <string>
#include <vector>

namespace seqfast::cpu {

std::vector<std::string> built_isas();
std::vector<std::string> available_isas();
std::string active_isa();

// Throws std::invalid_argument where the name is unknown or this CPU cannot run it.
void set_isa(const std::string& name);

// The best there is, or what SEQFAST_CPU_ISA names; called once when the module is loaded.
void choose_isa();

// The active one's place among those built.
int active_isa_index();

}  // namespace seqfast::cpu
