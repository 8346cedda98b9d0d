// Where the files of a machine home lie.
#pragma once

#include <string>

namespace aliquot::simgpu::machine {

// Each setting has a region of its own: programs that were started with different settings see different
// machines.
std::string machine_path(const std::string& home, const std::string& setting);

} // namespace aliquot::simgpu::machine
