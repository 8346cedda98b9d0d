// An account: how much of one resource (a card's VRAM, the host's memory) each process holds.
//
// Exact without a lock. A process announces what it asks for, then sums what all hold and ask: whoever
// announces last sees everyone else, so two cannot both take the last bytes. A refusal is final only if the
// sum was not torn. A process that is stopped half-way holds what it asked for; one that dies stops counting.
#pragma once

#include <cstdint>

#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {

std::uint64_t account_used(const SlotTable& table, const Account& account) noexcept;
std::uint64_t account_held(const Account& account, std::uint32_t slot) noexcept;

// One attempt at a time per slot. `reap` frees the slots of the dead; called at most once, when it would not
// fit.
template <typename Reap>
bool account_take(SlotTable& table, Account& account, std::uint32_t slot, std::uint64_t bytes,
                  std::uint64_t limit, Reap&& reap);

// Never below zero; says how much it really was.
std::uint64_t account_give(Account& account, std::uint32_t slot, std::uint64_t bytes) noexcept;

void account_clear(Account& account, std::uint32_t slot) noexcept;

namespace detail {
enum class Answer : std::uint8_t { Taken, Full };
Answer ask(SlotTable& table, Account& account, std::uint32_t slot, std::uint64_t bytes,
           std::uint64_t limit) noexcept;
} // namespace detail

template <typename Reap>
bool account_take(SlotTable& table, Account& account, std::uint32_t slot, std::uint64_t bytes,
                  std::uint64_t limit, Reap&& reap) {
  if (bytes > limit)
    return false;
  if (detail::ask(table, account, slot, bytes, limit) == detail::Answer::Taken)
    return true;
  reap();
  return detail::ask(table, account, slot, bytes, limit) == detail::Answer::Taken;
}

} // namespace aliquot::simgpu::machine
