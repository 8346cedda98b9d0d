// What the arbiter says of itself when it is asked: JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "native/limiter/arbiter/cards.hpp"

namespace aliquot::limiter::arbiter {

std::string status_text(std::uint64_t began_ns, std::size_t slices, const Cards& cards, std::uint64_t now);

} // namespace aliquot::limiter::arbiter
