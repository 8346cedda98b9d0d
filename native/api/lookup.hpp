// What `cuGetProcAddress` and `cuGetProcAddress_v2` answer, decided from the list alone. The simulated driver
// maps the index to its own function, the limiter to its hook or to the real driver's symbol of that name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace aliquot::api {

// Index of an exported symbol in every generated table: CudaEntry::cuMemAlloc_v2.
enum class CudaEntry : std::uint16_t {
#define ALIQUOT_CUDA_ENTRY_POINT(index, symbol, ...) symbol = index,
#include "aliquot/cuda_entry_points.inc"
};

// Values of CUdriverProcAddressQueryResult (cuda.h).
enum class LookupStatus : std::uint8_t { Success = 0, SymbolNotFound = 1, VersionNotSufficient = 2 };

// Values of CUdriverProcAddress_flags (cuda.h).
inline constexpr std::uint64_t kDefaultLookup = 0;
inline constexpr std::uint64_t kLegacyStream = 1;
inline constexpr std::uint64_t kPerThreadStream = 2;

struct Lookup {
  LookupStatus status = LookupStatus::SymbolNotFound;
  std::uint16_t index = 0;      // of the exported symbol; meaningful on success only
  const char* symbol = nullptr; // its name, e.g. "cuMemAlloc_v2"; nullptr unless found
};

// The newest ABI of `base` that `cuda_version` (e.g. 12040) has; with kPerThreadStream its variant for the
// per-thread default stream, if that version has one. Allocates nothing and may be called from anywhere.
Lookup find_entry_point(std::string_view base, int cuda_version, std::uint64_t flags) noexcept;

// Name of the exported symbol at `index`, nullptr past the end, and how many there are.
const char* entry_point_symbol(std::size_t index) noexcept;
std::size_t entry_point_count() noexcept;

} // namespace aliquot::api
