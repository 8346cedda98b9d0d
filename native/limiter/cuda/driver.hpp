// The real driver: a table of its functions, filled once.
//
// Hooks and pass-through call the driver through this table and through nothing else. Opening it is left to
// the first call of any driver function: a program that is merely started with the limiter in it touches no
// driver.
#pragma once

#include <atomic>
#include <cstddef>

#include "aliquot/cuda_abi.h"
#include "native/api/lookup.hpp"

namespace aliquot::limiter {

struct DriverTable {
#define ALIQUOT_CUDA_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments)        \
  result(*symbol) parameters = nullptr;
#include "aliquot/cuda_entry_points.inc"
};

namespace detail {
extern std::atomic<const DriverTable*> driver_table;
const DriverTable& open_driver() noexcept;
} // namespace detail

// Never has a null member: a function that the driver lacks answers CUDA_ERROR_NOT_SUPPORTED, and where there
// is no driver at all, every one answers CUDA_ERROR_NO_DEVICE.
inline const DriverTable& driver() noexcept {
  const DriverTable* table = detail::driver_table.load(std::memory_order_acquire);
  if (table != nullptr) [[likely]]
    return *table;
  return detail::open_driver();
}

// Whether the real driver has this symbol.
bool driver_has(std::size_t index) noexcept;

} // namespace aliquot::limiter
