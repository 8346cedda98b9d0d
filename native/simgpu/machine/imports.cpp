#include "native/simgpu/machine/imports.hpp"

#include <algorithm>

#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {
namespace {

std::uint32_t entry_count(const ImportTable::Slot& slot) noexcept {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(slot.high.load(), kMaxImports));
}

bool lives(const SlotTable& table, std::uint64_t identity) noexcept {
  const std::uint32_t count = slot_count(table);
  for (std::uint32_t slot = 0; slot < count; ++slot)
    if (live_identity(table, slot) == identity)
      return true;
  return false;
}

bool imports_too(const ImportTable::Slot& slot, std::uint64_t owner, std::uint64_t key) noexcept {
  for (std::uint32_t i = 0, count = entry_count(slot); i < count; ++i)
    if (slot.entry[i].bytes.load() != 0 && slot.entry[i].owner.load() == owner &&
        slot.entry[i].key.load() == key)
      return true;
  return false;
}

bool is_charged_below(const SlotTable& table, const ImportTable& imports, std::uint32_t slot,
                      const ImportTable::Entry& entry) noexcept {
  for (std::uint32_t lower = 0; lower < slot; ++lower)
    if (live_identity(table, lower) != 0 &&
        imports_too(imports.slot[lower], entry.owner.load(), entry.key.load()))
      return true;
  return false;
}

// What the process in `slot` pays for on `unit`. Neighbouring entries mostly have one owner: it is looked up
// once.
std::uint64_t orphans_of(const SlotTable& table, const ImportTable& imports, std::uint32_t unit,
                         std::uint32_t slot) noexcept {
  const ImportTable::Slot& mine = imports.slot[slot];
  std::uint64_t sum = 0, last_owner = 0;
  bool last_lives = true;
  for (std::uint32_t i = 0, count = entry_count(mine); i < count; ++i) {
    const ImportTable::Entry& entry = mine.entry[i];
    const std::uint64_t bytes = entry.bytes.load();
    if (bytes == 0 || (unit != kAnyUnit && entry.unit.load() != unit))
      continue;
    if (const std::uint64_t owner = entry.owner.load(); owner != last_owner) {
      last_owner = owner;
      last_lives = lives(table, owner);
    }
    if (!last_lives && !is_charged_below(table, imports, slot, entry) &&
        __builtin_add_overflow(sum, bytes, &sum))
      return ~std::uint64_t{0};
  }
  return sum;
}

} // namespace

std::uint64_t orphaned_bytes(const SlotTable& table, const ImportTable& imports, std::uint32_t unit,
                             std::uint32_t slot) noexcept {
  if (slot != kAnySlot)
    return orphans_of(table, imports, unit, slot);
  std::uint64_t sum = 0;
  for (std::uint32_t each = 0, count = slot_count(table); each < count; ++each)
    if (imports.slot[each].high.load() != 0 && live_identity(table, each) != 0)
      if (__builtin_add_overflow(sum, orphans_of(table, imports, unit, each), &sum))
        return ~std::uint64_t{0};
  return sum;
}

void clear_imports(ImportTable& imports, std::uint32_t slot) noexcept {
  ImportTable::Slot& mine = imports.slot[slot];
  for (std::uint32_t i = 0, count = entry_count(mine); i < count; ++i)
    mine.entry[i].bytes.store(0);
  mine.high.store(0);
}

bool Imports::add(std::uint64_t owner, std::uint64_t key, std::uint32_t unit, std::uint64_t bytes) {
  const std::lock_guard guard(mutex_);
  const auto [at, fresh] = held_.try_emplace({owner, key});
  if (!fresh) {
    ++at->second.count;
    return true;
  }
  ImportTable::Slot& mine = table_.slot[slot_];
  const std::uint32_t used = entry_count(mine);
  std::uint32_t index = 0;
  while (index < used && mine.entry[index].bytes.load() != 0)
    ++index;
  if (index == kMaxImports) {
    held_.erase(at);
    return false;
  }
  ImportTable::Entry& entry = mine.entry[index];
  entry.owner.store(owner);
  entry.key.store(key);
  entry.unit.store(unit);
  entry.bytes.store(bytes); // last: it counts from here on
  mine.high.store(std::max(used, index + 1));
  at->second = {index, 1};
  return true;
}

void Imports::remove(std::uint64_t owner, std::uint64_t key) noexcept {
  const std::lock_guard guard(mutex_);
  const auto at = held_.find({owner, key});
  if (at == held_.end() || --at->second.count != 0)
    return;
  table_.slot[slot_].entry[at->second.index].bytes.store(0);
  held_.erase(at);
}

} // namespace aliquot::simgpu::machine
