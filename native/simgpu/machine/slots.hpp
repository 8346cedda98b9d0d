// Slots: a process' place in a shared region, and taking them back from the dead.
#pragma once

#include <cstdint>
#include <optional>

#include "native/simgpu/machine/layout.hpp"
#include "native/simgpu/machine/process_identity.hpp"

namespace aliquot::simgpu::machine {

// Slots that may be in use. Bounded, whatever the region says.
std::uint32_t slot_count(const SlotTable& table) noexcept;

// The identity of a slot's owner, if its entries count.
std::uint64_t live_identity(const SlotTable& table, std::uint32_t slot) noexcept;

// Claims a free slot. `clear` wipes what a former owner left, before anything in it counts.
template <typename Clear>
std::optional<std::uint32_t> claim_slot(SlotTable& table, const common::ProcessStatus& self, Clear&& clear);

// Gives a slot up; `table` no longer counts it.
void leave_slot(SlotTable& table, std::uint32_t slot, std::uint64_t identity) noexcept;

// Frees the slots of dead processes. `fold(slot, identity)` sees each before it is free, possibly more than
// once if several processes reap together.
template <typename Fold>
void reap_dead(SlotTable& table, Fold&& fold);

namespace detail {
std::optional<std::uint32_t> claim_identity(SlotTable& table, std::uint64_t identity) noexcept;
void publish_slot(SlotTable& table, std::uint32_t slot, const common::ProcessStatus& self,
                  std::uint64_t identity) noexcept;
} // namespace detail

template <typename Clear>
std::optional<std::uint32_t> claim_slot(SlotTable& table, const common::ProcessStatus& self, Clear&& clear) {
  const std::uint64_t identity = identity_of(self);
  const std::optional<std::uint32_t> slot = detail::claim_identity(table, identity);
  if (slot) {
    clear(*slot);
    detail::publish_slot(table, *slot, self, identity);
  }
  return slot;
}

template <typename Fold>
void reap_dead(SlotTable& table, Fold&& fold) {
  const std::uint32_t count = slot_count(table);
  for (std::uint32_t slot = 0; slot < count; ++slot) {
    std::uint64_t identity = table.identity[slot].load();
    if (identity == 0 || life_of(identity) != Life::Dead)
      continue;
    if (table.ready[slot].load() == identity)
      fold(slot, identity);
    table.identity[slot].compare_exchange_strong(identity, 0);
  }
}

} // namespace aliquot::simgpu::machine
