#include "native/simgpu/driver/core/address_space.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace aliquot::simgpu::driver {
namespace {

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

// Addresses for mappings of the program's own: PyTorch reserves somewhat more than a card's VRAM for each of
// its segments. Bounded, so that many large cards still leave the host most of its 47 bits.
constexpr std::uint64_t kReservableFactor = 16;
constexpr std::uint64_t kLeastReservable = std::uint64_t{1} << 40, kMostReservable = std::uint64_t{16} << 40;

void* map_private(std::uint64_t bytes, int protection) noexcept {
  void* at = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}

} // namespace

int UnitMap::take(std::uint32_t units) noexcept {
  if (units > longest_free_)
    return -1;
  std::uint32_t run = 0, longest = 0;
  for (std::uint32_t unit = 0; unit < kUnitsPerBlock; ++unit) {
    if (unit % 64 == 0 && used_[unit / 64].load(std::memory_order_relaxed) == ~std::uint64_t{0}) {
      run = 0;
      unit += 63;
      continue;
    }
    run = used(unit) ? 0 : run + 1;
    longest = std::max(longest, run);
    if (run < units)
      continue;
    const std::uint32_t first = unit + 1 - units;
    for (std::uint32_t i = first; i <= unit; ++i)
      used_[i / 64].fetch_or(std::uint64_t{1} << (i % 64), std::memory_order_relaxed);
    first_[first / 64].fetch_or(std::uint64_t{1} << (first % 64), std::memory_order_release);
    used_count_ += units;
    return static_cast<int>(first);
  }
  longest_free_ = longest;
  return -1;
}

void UnitMap::give_back(std::uint32_t first, std::uint32_t units) noexcept {
  first_[first / 64].fetch_and(~(std::uint64_t{1} << (first % 64)), std::memory_order_relaxed);
  for (std::uint32_t i = first; i < first + units; ++i)
    used_[i / 64].fetch_and(~(std::uint64_t{1} << (i % 64)), std::memory_order_relaxed);
  used_count_ -= units;
  longest_free_ = kUnitsPerBlock;
}

bool UnitMap::find(std::uint32_t unit, std::uint32_t& first, std::uint32_t& last) const noexcept {
  if (!used(unit))
    return false;
  first = unit;
  while (first > 0 && !starts(first))
    --first;
  if (!starts(first))
    return false;
  last = unit + 1;
  while (last < kUnitsPerBlock && used(last) && !starts(last))
    ++last;
  return true;
}

bool AddressSpace::map(std::uint64_t bytes) noexcept {
  void* device = map_private(bytes + kBlockBytes, PROT_NONE);
  void* host = map_private(bytes + kBlockBytes, PROT_READ | PROT_WRITE);
  const std::uint64_t table_bytes = bytes / kBlockBytes * sizeof(BlockEntry);
  void* table = map_private(table_bytes, PROT_READ | PROT_WRITE);
  if (device == nullptr || host == nullptr || table == nullptr) {
    if (device != nullptr)
      munmap(device, bytes + kBlockBytes);
    if (host != nullptr)
      munmap(host, bytes + kBlockBytes);
    if (table != nullptr)
      munmap(table, table_bytes);
    return false;
  }
  base_ = round_up(reinterpret_cast<std::uint64_t>(device), kBlockBytes);
  bytes_ = bytes;
  const std::uint64_t backing = round_up(reinterpret_cast<std::uint64_t>(host), kBlockBytes);
  delta_ = static_cast<std::int64_t>(backing - base_);
  entries_ = static_cast<BlockEntry*>(table);
  // A child of fork must not copy VRAM, and a core dump must not hold it.
  madvise(host, bytes + kBlockBytes, MADV_DONTFORK);
  madvise(host, bytes + kBlockBytes, MADV_DONTDUMP);
  return true;
}

bool AddressSpace::open(const std::vector<std::uint64_t>& card_bytes) noexcept try {
  // Twice the VRAM, so that fragmentation of addresses never makes an allocation fail that would fit; less
  // where the process may not have so many addresses.
  return open_scaled(card_bytes, 2, true) || open_scaled(card_bytes, 2, false) ||
         open_scaled(card_bytes, 1, false);
} catch (...) {
  return false;
}

bool AddressSpace::open_scaled(const std::vector<std::uint64_t>& card_bytes, unsigned factor,
                               bool reservable) {
  std::uint64_t total = 0, vram = 0;
  for (const std::uint64_t bytes : card_bytes) {
    vram += bytes;
    total += round_up(bytes * factor, kBlockBytes);
  }
  const std::uint64_t own = reservable ? std::clamp(round_up(vram * kReservableFactor, kBlockBytes),
                                                    kLeastReservable, kMostReservable)
                                       : round_up(vram, kBlockBytes);
  if (!map(total + own))
    return false;
  std::uint64_t at = base_;
  const auto next_window = [&at](std::uint64_t bytes) {
    Window window;
    window.begin = at;
    window.end = at += bytes;
    window.free.emplace(window.begin, bytes);
    return window;
  };
  for (const std::uint64_t bytes : card_bytes)
    windows_.push_back(next_window(round_up(bytes * factor, kBlockBytes)));
  reservable_ = next_window(own);
  return true;
}

std::uint64_t AddressSpace::take(Window& window, std::uint64_t bytes, std::uint64_t alignment) {
  for (const auto& [begin, size] : window.free) {
    const std::uint64_t address = round_up(begin, alignment);
    if (address - begin > size || size - (address - begin) < bytes)
      continue;
    return take_at(window, address, bytes) ? address : 0;
  }
  return 0;
}

bool AddressSpace::take_at(Window& window, std::uint64_t address, std::uint64_t bytes) {
  auto at = window.free.upper_bound(address);
  if (at == window.free.begin())
    return false;
  --at;
  const std::uint64_t begin = at->first, end = begin + at->second;
  if (address > end || end - address < bytes)
    return false;
  if (address + bytes != end)
    window.free.emplace_hint(std::next(at), address + bytes, end - address - bytes);
  if (address == begin)
    window.free.erase(at);
  else
    at->second = address - begin;
  return true;
}

void AddressSpace::give_back(Window& window, std::uint64_t address, std::uint64_t bytes) {
  auto& free = window.free;
  auto at = free.emplace(address, bytes).first;
  if (const auto next = std::next(at); next != free.end() && at->first + at->second == next->first) {
    at->second += next->second;
    free.erase(next);
  }
  if (at == free.begin())
    return;
  const auto previous = std::prev(at);
  if (previous->first + previous->second != at->first)
    return;
  previous->second += at->second;
  free.erase(at);
}

std::uint64_t AddressSpace::take_blocks(std::uint32_t card, std::uint64_t count) {
  const std::lock_guard guard(mutex_);
  return take(windows_[card], count * kBlockBytes, kBlockBytes);
}

void AddressSpace::give_back_blocks(std::uint64_t address, std::uint64_t count) {
  const std::lock_guard guard(mutex_);
  give_back(windows_[card_of(address)], address, count * kBlockBytes);
}

std::uint64_t AddressSpace::reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t hint) {
  if (bytes > reservable_.end - reservable_.begin)
    return 0;
  const std::uint64_t whole = round_up(bytes, kBlockBytes);
  const std::uint64_t aligned = std::max(alignment, kBlockBytes);
  const std::lock_guard guard(mutex_);
  if (hint != 0 && hint % aligned == 0 && take_at(reservable_, hint, whole))
    return hint;
  return take(reservable_, whole, aligned);
}

void AddressSpace::unreserve(std::uint64_t address, std::uint64_t bytes) {
  const std::lock_guard guard(mutex_);
  give_back(reservable_, address, round_up(bytes, kBlockBytes));
}

AddressSpace::Extent* AddressSpace::spare_extent() {
  const std::lock_guard guard(mutex_);
  if (spare_extents_.empty())
    return new Extent;
  Extent* extent = spare_extents_.back();
  spare_extents_.pop_back();
  return extent;
}

void AddressSpace::publish_large(std::uint64_t address, std::uint64_t bytes) {
  Extent* extent = spare_extent();
  extent->begin.store(address, std::memory_order_relaxed);
  extent->end.store(address + bytes, std::memory_order_relaxed);
  for (std::uint64_t block = address; block < address + bytes; block += kBlockBytes)
    entry_of(block).store(reinterpret_cast<std::uint64_t>(extent), std::memory_order_release);
}

UnitMap* AddressSpace::publish_small(std::uint64_t block) {
  UnitMap* units = nullptr;
  {
    const std::lock_guard guard(mutex_);
    if (spare_unit_maps_.empty())
      spare_unit_maps_.push_back(new UnitMap);
    units = spare_unit_maps_.back();
    spare_unit_maps_.pop_back();
  }
  entry_of(block).store(reinterpret_cast<std::uint64_t>(units) | kSmallTag, std::memory_order_release);
  return units;
}

void AddressSpace::withdraw(std::uint64_t address, std::uint64_t block_count) noexcept {
  const std::uint64_t entry = entry_of(address).load(std::memory_order_relaxed);
  for (std::uint64_t i = 0; i < block_count; ++i)
    entry_of(address + i * kBlockBytes).store(0, std::memory_order_release);
  const std::lock_guard guard(mutex_);
  try {
    if ((entry & kSmallTag) != 0)
      spare_unit_maps_.push_back(reinterpret_cast<UnitMap*>(entry & ~kSmallTag));
    else if (entry != 0)
      spare_extents_.push_back(reinterpret_cast<Extent*>(entry));
  } catch (...) { // lost to reuse, which is all that matters here
  }
}

void AddressSpace::publish_mapping(std::uint64_t address, std::uint64_t bytes, CardAccess access) {
  publish_large(address, bytes);
  set_access(address, access);
}

void AddressSpace::set_access(std::uint64_t address, CardAccess access) noexcept {
  auto* extent = reinterpret_cast<Extent*>(entry_of(address).load(std::memory_order_relaxed));
  extent->readers.store(access.read, std::memory_order_release);
  extent->writers.store(access.write, std::memory_order_release);
}

CardAccess AddressSpace::access_at(std::uint64_t address) const noexcept {
  const auto* extent = reinterpret_cast<const Extent*>(entry_of(address).load(std::memory_order_acquire));
  return extent == nullptr ? CardAccess{} : CardAccess{extent->readers.load(), extent->writers.load()};
}

void AddressSpace::discard(std::uint64_t address, std::uint64_t bytes) noexcept {
  constexpr std::uint64_t page = 4096;
  const std::uint64_t begin = round_up(address, page);
  const std::uint64_t end = (address + bytes) / page * page;
  if (end > begin && !discard_in_file(begin, end - begin))
    madvise(bytes_at(begin), end - begin, MADV_DONTNEED);
}

exec::Range AddressSpace::find(std::uint64_t address) const noexcept {
  if (!in_window(address))
    return {};
  const std::uint64_t entry = entry_of(address).load(std::memory_order_acquire);
  if (entry == 0)
    return {};
  if ((entry & kSmallTag) == 0) {
    const auto* extent = reinterpret_cast<const Extent*>(entry);
    const std::uint64_t begin = extent->begin.load(std::memory_order_relaxed);
    const std::uint64_t end = extent->end.load(std::memory_order_relaxed);
    if (address < begin || address >= end)
      return {};
    return {begin, end, delta_, true};
  }
  const auto* units = reinterpret_cast<const UnitMap*>(entry & ~kSmallTag);
  const std::uint64_t block = address / kBlockBytes * kBlockBytes;
  std::uint32_t first = 0, last = 0;
  if (!units->find(static_cast<std::uint32_t>((address - block) / kUnitBytes), first, last))
    return {};
  return {block + first * kUnitBytes, block + last * kUnitBytes, delta_, true};
}

exec::Range AddressSpace::find_mapped(std::uint64_t address, std::uint32_t card) const noexcept {
  const std::uint64_t entry = entry_of(address).load(std::memory_order_acquire);
  if (entry == 0)
    return {};
  const auto* extent = reinterpret_cast<const Extent*>(entry);
  const std::uint64_t bit = std::uint64_t{1} << (card % 64);
  const std::uint64_t begin = extent->begin.load(std::memory_order_relaxed);
  const std::uint64_t end = extent->end.load(std::memory_order_relaxed);
  if ((extent->readers.load(std::memory_order_acquire) & bit) == 0 || address < begin || address >= end)
    return {};
  return {begin, end, delta_, (extent->writers.load(std::memory_order_acquire) & bit) != 0};
}

std::uint32_t AddressSpace::card_of(std::uint64_t address) const noexcept {
  for (std::uint32_t card = 0; card < windows_.size(); ++card)
    if (address >= windows_[card].begin && address < windows_[card].end)
      return card;
  return 0;
}

} // namespace aliquot::simgpu::driver
