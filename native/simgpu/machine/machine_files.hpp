// The files of a machine home: where they lie, who lives in them, and removing them.
#pragma once

#include <string>
#include <vector>

namespace aliquot::simgpu::machine {

// Each setting has a region of its own: programs that were started with different settings see different
// machines.
std::string machine_path(const std::string& home, const std::string& setting);

// Paths of all machine regions of a home, whatever their setting or state.
std::vector<std::string> machine_files(const std::string& home);

// Processes that live in the region at `path`; 0 if it is not one that this version can read.
unsigned live_processes(const std::string& path);

// Removes all regions of a home and what a killed process may have left while making one. The setting stays.
bool remove_machine_files(const std::string& home, std::string& message);

} // namespace aliquot::simgpu::machine
