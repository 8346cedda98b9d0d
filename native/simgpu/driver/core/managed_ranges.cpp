#include "native/simgpu/driver/core/managed_ranges.hpp"

#include <cstddef>
#include <iterator>
#include <new>

namespace aliquot::simgpu::driver {

ManagedRanges& ManagedRanges::instance() noexcept {
  alignas(ManagedRanges) static std::byte storage[sizeof(ManagedRanges)];
  static auto* ranges = new (storage) ManagedRanges; // never destroyed: calls may come while the process ends
  return *ranges;
}

// A range around `at` becomes two.
void ManagedRanges::split(std::uint64_t at) {
  auto around = ranges_.lower_bound(at);
  if (around == ranges_.begin())
    return;
  --around;
  if (around->second.end <= at)
    return;
  ranges_.emplace(at, around->second);
  around->second.end = at;
}

void ManagedRanges::fill_gaps(std::uint64_t begin, std::uint64_t end) {
  std::uint64_t covered = begin;
  while (covered < end) {
    const auto next = ranges_.lower_bound(covered);
    const std::uint64_t until = next != ranges_.end() && next->first < end ? next->first : end;
    if (until != covered)
      ranges_.emplace(covered, Range{until, {}});
    covered = until == covered ? next->second.end : until;
  }
}

void ManagedRanges::forget(std::uint64_t address, std::uint64_t bytes) noexcept {
  const std::lock_guard guard(mutex_);
  // Ranges never reach beyond their allocation.
  ranges_.erase(ranges_.lower_bound(address), ranges_.lower_bound(address + bytes));
}

} // namespace aliquot::simgpu::driver
