#include "native/limiter/arbiter/grant_page.hpp"

#include <climits>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace aliquot::limiter::arbiter {

GrantState read_grant(const layout::DeviceGrant& page) noexcept {
  GrantState state;
  state.turn = page.turn.load();
  state.held_ns = page.held_ns.load();
  state.waited_ns = page.waited_ns.load();
  state.turns = page.turns.load();
  return state;
}

void publish(layout::DeviceGrant& page, const GrantState& now, GrantState& last) noexcept {
  const bool told = now.turn != last.turn || now.ends_ns != last.ends_ns ||
                    now.in_flight_ns != last.in_flight_ns || now.flags != last.flags ||
                    now.idle_window_ns != last.idle_window_ns;
  page.held_ns.store(now.held_ns, std::memory_order_relaxed);
  page.waited_ns.store(now.waited_ns, std::memory_order_relaxed);
  page.turns.store(now.turns, std::memory_order_relaxed);
  page.share_ppm.store(now.share_ppm, std::memory_order_relaxed);
  last = now;
  if (!told)
    return;
  page.in_flight_ns.store(now.in_flight_ns, std::memory_order_relaxed);
  page.flags.store(now.flags, std::memory_order_relaxed);
  page.idle_window_ns.store(now.idle_window_ns, std::memory_order_relaxed);
  page.begins_ns.store(now.begins_ns, std::memory_order_relaxed);
  page.ends_ns.store(now.ends_ns, std::memory_order_release);
  // Last, so that whoever sees the new word sees what belongs to it.
  page.turn.store(now.turn, std::memory_order_release);
  wake(page);
}

void wake(layout::DeviceGrant& page) noexcept {
  // The low half of the word comes first in memory: the layout is little-endian.
  auto* half = reinterpret_cast<std::uint32_t*>(&page.turn);
  ::syscall(SYS_futex, half, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

} // namespace aliquot::limiter::arbiter
