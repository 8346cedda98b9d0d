// Is what a client calls host memory really there? Asked before a copy, so that a wrong pointer is an error
// code and not a crash.
#pragma once

#include <cstddef>

namespace aliquot::simgpu::driver {

// True where every page of the range is mapped. Says nothing of permissions.
bool host_range_is_mapped(const void* pointer, std::size_t bytes) noexcept;

} // namespace aliquot::simgpu::driver
