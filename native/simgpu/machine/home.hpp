// The folder of the simulated machine: where it is, and that nobody else can touch what lies there.
#pragma once

#include <string>

namespace aliquot::simgpu::machine {

// ALIQUOT_SIMGPU_HOME, by default /dev/shm/aliquot-simgpu-<uid>.
std::string home_path();

// Makes the folder where it is missing (mode 0700) and checks that it is this user's alone to write. False
// with a message for people otherwise.
bool prepare_home(const std::string& home, std::string& message);

// The folder as the kernel knows it, so that two spellings of one path are one machine.
std::string real_path(const std::string& path);

// A number for a text, the same in every process and build.
unsigned long long stable_hash(const std::string& text, unsigned long long seed = 0) noexcept;

} // namespace aliquot::simgpu::machine
