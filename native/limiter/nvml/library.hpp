// The real NVML: a table of its functions, filled once, at the first call of any of them.
#pragma once

#include <atomic>

#include "aliquot/nvml_abi.h"

namespace aliquot::limiter {

struct NvmlTable {
#define ALIQUOT_NVML_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments)        \
  result(*symbol) parameters = nullptr;
#include "aliquot/nvml_entry_points.inc"
};

namespace detail {
extern std::atomic<const NvmlTable*> nvml_table;
const NvmlTable& open_nvml() noexcept;
} // namespace detail

// Never has a null member: a function that the library lacks answers NVML_ERROR_FUNCTION_NOT_FOUND, and where
// there is no library at all, every one answers NVML_ERROR_LIBRARY_NOT_FOUND.
inline const NvmlTable& nvml() noexcept {
  const NvmlTable* table = detail::nvml_table.load(std::memory_order_acquire);
  return table != nullptr ? *table : detail::open_nvml();
}

bool has_nvml() noexcept;

} // namespace aliquot::limiter
