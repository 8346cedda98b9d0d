// What a library of ours exports, and which of it is implemented. The tables are generated with the weak
// definitions (emit.py) and live in the library that links them: only that library's own definitions count,
// never those of another library that happens to be loaded before it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace aliquot::api {

using FunctionAddress = void (*)();

struct ExportedSymbol {
  std::string_view name;
  std::string_view family;
  FunctionAddress address;       // what the linker chose for the name
  FunctionAddress unimplemented; // the weak definition; nullptr for a stream variant
  std::uint16_t base; // index of the symbol that a stream variant shares its implementation with, or its own
};

template <typename Result, typename... Arguments>
FunctionAddress function_address(Result (*function)(Arguments...)) noexcept {
  return reinterpret_cast<FunctionAddress>(function);
}

// All exported symbols, by the index of the generated X-macros.
std::span<const ExportedSymbol> cuda_symbols() noexcept;
std::span<const ExportedSymbol> nvml_symbols() noexcept;

// True where a strong definition took the place of the weak one; a stream variant is as implemented as its
// base.
inline bool is_implemented(std::span<const ExportedSymbol> symbols, std::size_t index) noexcept {
  const ExportedSymbol& base = symbols[symbols[index].base];
  return base.address != base.unimplemented;
}

} // namespace aliquot::api
