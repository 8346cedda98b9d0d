// What the schedule decided, written where the slice's processes read it, and those woken who sleep on it.
#pragma once

#include "aliquot/slice_layout.hpp"
#include "native/limiter/arbiter/member.hpp"

namespace aliquot::limiter::arbiter {

GrantState read_grant(const layout::DeviceGrant& page) noexcept;

// Writes what differs from `last`, and wakes if it changes what anyone may do.
void publish(layout::DeviceGrant& page, const GrantState& now, GrantState& last) noexcept;

void wake(layout::DeviceGrant& page) noexcept;

} // namespace aliquot::limiter::arbiter
