// How many blocks of a kernel a multiprocessor holds, and what a launch may ask for.
//
// Allocation granularities as in the CUDA occupancy calculator: registers go to warps in units of 256, warps
// to a multiprocessor's four partitions, shared memory to blocks in units of 128 bytes (256 before 8.0).
#pragma once

#include <cstdint>

#include "native/simgpu/driver/core/code.hpp"
#include "native/simgpu/driver/core/device.hpp"

namespace aliquot::simgpu::driver {

// Threads beyond which a launch fails: the kernel's own bound and what its registers allow.
std::uint32_t largest_block(const Device& device, const exec::KernelInfo& info) noexcept;
// Bytes of dynamic shared memory that a launch may ask for.
std::uint32_t dynamic_shared_limit(const Device& device, const exec::KernelInfo& info,
                                   const KernelSettings& settings) noexcept;
// Resident blocks per multiprocessor; 0 where not even one fits.
std::uint32_t blocks_per_multiprocessor(const Device& device, const exec::KernelInfo& info,
                                        std::uint32_t threads, std::uint64_t dynamic_shared_bytes) noexcept;

} // namespace aliquot::simgpu::driver
