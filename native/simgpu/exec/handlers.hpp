// The handlers of the instruction set chosen for this process, by name.
#pragma once

#include <string_view>

#include "native/simgpu/exec/op.hpp"

namespace aliquot::simgpu::exec {

// The best set that the processor has, or the one that ALIQUOT_SIMGPU_ISA asks for if the processor has it.
const IsaTable& isa_table() noexcept;

// Null where no handler has that name.
const Entry* find_entry(std::string_view name);

} // namespace aliquot::simgpu::exec
