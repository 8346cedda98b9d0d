// The device runtime library (libcudadevrt.a), as far as a simulated card has it.
#pragma once

#include <cstddef>
#include <string>

namespace aliquot::simgpu::driver {

// Whether these are the vendor's archive, which holds machine code alone.
bool is_device_runtime(const void* image, std::size_t bytes) noexcept;
// What is linked in its place: PTX, with the functions for which programs without nested launches link it.
std::string device_runtime_ptx();

} // namespace aliquot::simgpu::driver
