// This process' place in its slice: the region it obeys, opened by whichever call comes first.
#pragma once

#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

// Null where the process is in no slice or its slice cannot be used; a line on stderr has said so then.
// Opened once, whatever the environment says later.
SliceRegion* slice_region(SliceRegion::Access access) noexcept;

} // namespace aliquot::limiter
