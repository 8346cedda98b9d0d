// Which of NVML's devices are the slice's.
#pragma once

#include "aliquot/nvml_abi.h"
#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

inline constexpr unsigned kNotInSlice = layout::kMaxDevices;

// Learns the handles of the slice's devices; after every successful nvmlInit.
void find_slice_devices() noexcept;

// How many of them this machine has.
unsigned visible_devices() noexcept;
// The n-th that it has; null past the end.
nvmlDevice_t visible_device(unsigned number) noexcept;
// The number by which a program knows it; visible_devices() if it is not the slice's.
unsigned number_of(nvmlDevice_t device) noexcept;
// The slice's number of it, kNotInSlice if it is not the slice's.
unsigned slice_device(nvmlDevice_t device) noexcept;

// The answer of a search for a card: another card is as if it were not there.
nvmlReturn_t only_of_slice(nvmlReturn_t answer, nvmlDevice_t* device) noexcept;

} // namespace aliquot::limiter
