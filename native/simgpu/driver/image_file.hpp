// Images that lie in files.
#pragma once

#include <vector>

namespace aliquot::simgpu::driver {

// The file's bytes and a NUL behind them. False where it cannot be read.
bool read_image_file(const char* path, std::vector<char>& bytes);

} // namespace aliquot::simgpu::driver
