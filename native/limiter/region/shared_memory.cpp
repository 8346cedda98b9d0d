#include "native/limiter/region/shared_memory.hpp"

#include <algorithm>

#include "native/limiter/region/slots.hpp"

namespace aliquot::limiter {
namespace {

// Marks an entry whose fields are being written.
constexpr std::uint64_t kBeingWritten = std::uint64_t{1} << 63u;

std::uint32_t entries_used(const layout::Account& account) noexcept {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(account.shared_used.load(), layout::kMaxShared));
}

SharedEntry read(const layout::SharedMemory& from) noexcept {
  return {from.maker.load(std::memory_order_relaxed), from.key.load(std::memory_order_relaxed),
          std::min(from.bytes.load(std::memory_order_relaxed), kMaxBytes),
          static_cast<unsigned>(
              std::min<std::uint64_t>(from.device.load(std::memory_order_relaxed), layout::kMaxDevices))};
}

void write(layout::SharedMemory& to, const SharedEntry& entry) noexcept {
  to.maker.store(entry.maker, std::memory_order_relaxed);
  to.key.store(entry.key, std::memory_order_relaxed);
  to.bytes.store(entry.bytes, std::memory_order_relaxed);
  to.device.store(entry.device, std::memory_order_relaxed);
}

using Lives = bool(const layout::Account&, std::uint64_t owner);

// An entry that keeps bytes of the device charged although their maker has gone.
bool is_orphan(const layout::Account& account, const layout::SharedMemory& from, unsigned device,
               SharedEntry& entry, Lives* lives) noexcept {
  const std::uint64_t holder = from.holder.load();
  entry = read(from);
  return holder != 0 && (holder & kBeingWritten) == 0 && holder != entry.maker && entry.device == device &&
         lives(account, holder) && !lives(account, entry.maker);
}

bool counted_before(const layout::Account& account, std::uint32_t end, const SharedEntry& entry,
                    Lives* lives) noexcept {
  for (std::uint32_t index = 0; index < end; ++index) {
    SharedEntry other = read(account.shared[index]);
    if (other.key == entry.key && other.maker == entry.maker &&
        is_orphan(account, account.shared[index], entry.device, other, lives)) {
      return true;
    }
  }
  return false;
}

} // namespace

bool has_slot(const layout::Account& account, std::uint64_t owner) noexcept {
  if (owner == 0)
    return false;
  for (std::uint32_t index = 0; index < slots_used(account); ++index) {
    if (account.processes[index].owner.load() == owner)
      return true;
  }
  return false;
}

std::uint32_t add_shared(layout::Account& account, std::uint64_t holder, const SharedEntry& entry) noexcept {
  for (std::uint32_t index = 0; index < layout::kMaxShared; ++index) {
    layout::SharedMemory& place = account.shared[index];
    std::uint64_t there = place.holder.load();
    if (there != 0 && has_slot(account, there & ~kBeingWritten))
      continue;
    std::uint64_t used = account.shared_used.load();
    while (used <= index && !account.shared_used.compare_exchange_weak(used, index + 1)) {
    }
    if (!place.holder.compare_exchange_strong(there, holder | kBeingWritten))
      continue;
    write(place, entry);
    place.holder.store(holder);
    return index;
  }
  return kNoShared;
}

void remove_shared(layout::Account& account, std::uint32_t index, std::uint64_t holder) noexcept {
  if (index < layout::kMaxShared)
    account.shared[index].holder.compare_exchange_strong(holder, 0);
}

bool find_made(const layout::Account& account, std::uint64_t key, SharedEntry& found) noexcept {
  for (std::uint32_t index = 0; index < entries_used(account); ++index) {
    const std::uint64_t holder = account.shared[index].holder.load();
    found = read(account.shared[index]);
    if (holder != 0 && holder == found.maker && found.key == key && has_slot(account, holder))
      return true;
  }
  return false;
}

std::uint64_t add_orphaned(const layout::Account& account, unsigned device) noexcept {
  return orphaned_bytes(account, device, has_slot);
}

std::uint64_t orphaned_bytes(const layout::Account& account, unsigned device,
                             bool (*lives)(const layout::Account&, std::uint64_t)) noexcept {
  std::uint64_t sum = 0;
  for (std::uint32_t index = 0; index < entries_used(account); ++index) {
    SharedEntry entry;
    if (is_orphan(account, account.shared[index], device, entry, lives) &&
        !counted_before(account, index, entry, lives))
      sum += entry.bytes;
  }
  return sum;
}

std::uint64_t orphaned_bytes_of(const layout::Account& account, unsigned device,
                                std::uint64_t holder) noexcept {
  std::uint64_t sum = 0;
  for (std::uint32_t index = 0; index < entries_used(account); ++index) {
    SharedEntry entry;
    if (account.shared[index].holder.load() == holder &&
        is_orphan(account, account.shared[index], device, entry, has_slot)) {
      sum += entry.bytes;
    }
  }
  return sum;
}

} // namespace aliquot::limiter
