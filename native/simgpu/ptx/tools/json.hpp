// A module as JSON and as PTX text, for ptx-dump. Development only.
#pragma once

#include <string>

#include "native/simgpu/ptx/ast.hpp"

namespace aliquot::simgpu::ptx::tools {

std::string to_json(const Module& module);
// PTX that parses to the same module, as far as names and types go: registers are declared one by one, and
// blocks are gone.
std::string to_ptx(const Module& module);
// A string as a JSON literal.
std::string quoted(std::string_view text);

} // namespace aliquot::simgpu::ptx::tools
