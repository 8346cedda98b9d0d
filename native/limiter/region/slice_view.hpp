// What a tool sees of a slice: the same figures as its ledger, without taking a slot.
#pragma once

#include <cstdint>

#include "native/limiter/region/ledger.hpp"
#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

// A living process of the slice.
struct Tenant {
  std::uint32_t pid = 0;
  std::uint64_t held = 0; // bytes of the device in question
};

// Fills `tenants` with those of the pid namespace of the caller's. Returns how many there are; at most
// kMaxProcesses.
unsigned tenants_of(const SliceRegion& region, unsigned device,
                    Tenant (&tenants)[layout::kMaxProcesses]) noexcept;

VramUse vram_use(const SliceRegion& region, unsigned device) noexcept;

} // namespace aliquot::limiter
