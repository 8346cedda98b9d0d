// The folder of the simulated machine: where it is, and that nobody else can touch what lies there.
#pragma once

#include <string>
#include <sys/stat.h>

namespace aliquot::simgpu::machine {

// ALIQUOT_SIMGPU_HOME, by default /dev/shm/aliquot-simgpu-<uid>.
std::string home_path();

// Makes the folder where it is missing (mode 0700) and checks that only this user can write to it, or only a
// group that shares it: see README.md, "Several users". False with a message for people otherwise.
bool prepare_home(const std::string& home, std::string& message);

// Whether a file in the folder was made by somebody who may: this user, or one of the group that shares it.
bool is_trusted(const std::string& home, const struct stat& file) noexcept;

// Gives a file that was just made in the folder to those who share it; false where that fails.
bool share_file(const std::string& home, int fd) noexcept;

// The folder as the kernel knows it, so that two spellings of one path are one machine.
std::string real_path(const std::string& path);

// A number for a text, the same in every process and build.
unsigned long long stable_hash(const std::string& text, unsigned long long seed = 0) noexcept;

} // namespace aliquot::simgpu::machine
