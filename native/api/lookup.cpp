// Binary search over the generated table of base names. See lookup.hpp.
#include "native/api/lookup.hpp"

#include <algorithm>
#include <iterator>
#include <span>

namespace aliquot::api {
namespace {

struct Base {
  std::string_view name;
  std::uint16_t first, count; // of kAbis
};

struct AbiVersion {
  std::int32_t since;
  std::uint16_t index;
  std::int32_t thread_since; // 0: there is no variant for the per-thread default stream
  std::uint16_t thread_index;
};

#include "aliquot/cuda_lookup_table.inc"

std::span<const AbiVersion> abis_of(std::string_view base) noexcept {
  const Base* end = std::end(kBases);
  const Base* found =
      std::lower_bound(std::begin(kBases), end, base,
                       [](const Base& known, std::string_view name) { return known.name < name; });
  if (found == end || found->name != base)
    return {};
  return std::span(kAbis).subspan(found->first, found->count);
}

} // namespace

Lookup find_entry_point(std::string_view base, int cuda_version, std::uint64_t flags) noexcept {
  const std::span<const AbiVersion> abis = abis_of(base);
  if (abis.empty())
    return {};
  const auto newest = std::find_if(abis.rbegin(), abis.rend(),
                                   [&](const AbiVersion& abi) { return abi.since <= cuda_version; });
  if (newest == abis.rend())
    return {LookupStatus::VersionNotSufficient, 0, nullptr};
  const bool per_thread =
      (flags & kPerThreadStream) != 0 && newest->thread_since != 0 && newest->thread_since <= cuda_version;
  const std::uint16_t index = per_thread ? newest->thread_index : newest->index;
  return {LookupStatus::Success, index, kSymbolNames[index]};
}

const char* entry_point_symbol(std::size_t index) noexcept {
  return index < std::size(kSymbolNames) ? kSymbolNames[index] : nullptr;
}

std::size_t entry_point_count() noexcept {
  return std::size(kSymbolNames);
}

} // namespace aliquot::api
