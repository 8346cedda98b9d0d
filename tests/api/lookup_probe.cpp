// find_entry_point for Python's ctypes.
#include "native/api/lookup.hpp"

extern "C" __attribute__((visibility("default"))) int probe(const char* base, std::size_t length, int version,
                                                            std::uint64_t flags, int* index,
                                                            const char** symbol) {
  const auto found = aliquot::api::find_entry_point({base, length}, version, flags);
  *index = found.index;
  *symbol = found.symbol;
  return static_cast<int>(found.status);
}

extern "C" __attribute__((visibility("default"))) std::size_t probe_count() {
  return aliquot::api::entry_point_count();
}

extern "C" __attribute__((visibility("default"))) const char* probe_symbol(std::size_t index) {
  return aliquot::api::entry_point_symbol(index);
}
