// Which exported symbols the limiter stands in front of, and where its own functions are.
#pragma once

#include <cstddef>

namespace aliquot::limiter {

// Our function for the symbol at `index` of the list, where the limiter hooks or observes it; null where the
// driver's own function may be handed out.
void* own_function(std::size_t index) noexcept;

} // namespace aliquot::limiter
