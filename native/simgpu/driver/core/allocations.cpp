#include "native/simgpu/driver/core/allocations.hpp"

#include <iterator>
#include <mutex>

namespace aliquot::simgpu::driver {

bool Allocations::insert(Allocation allocation) {
  const std::unique_lock guard(mutex_);
  const auto next = entries_.lower_bound(allocation.address);
  if (next != entries_.end() && next->first < allocation.address + allocation.bytes)
    return false;
  if (next != entries_.begin()) {
    const auto& [address, previous] = *std::prev(next);
    if (address + previous.bytes > allocation.address)
      return false;
  }
  allocation.buffer_id = next_buffer_id_++;
  const std::uint64_t address = allocation.address;
  entries_.emplace_hint(next, address, std::move(allocation));
  return true;
}

Allocation* Allocations::find_locked(std::uint64_t address) noexcept {
  auto at = entries_.upper_bound(address);
  if (at == entries_.begin())
    return nullptr;
  --at;
  return address - at->first < at->second.bytes ? &at->second : nullptr;
}

std::optional<Allocation> Allocations::find(std::uint64_t address) const {
  const std::shared_lock guard(mutex_);
  const Allocation* found = const_cast<Allocations*>(this)->find_locked(address);
  if (found == nullptr)
    return std::nullopt;
  return *found;
}

std::vector<Allocation> Allocations::erase_all_of(std::uint64_t context_id) {
  std::vector<Allocation> erased;
  const std::unique_lock guard(mutex_);
  for (auto at = entries_.begin(); at != entries_.end();) {
    if (at->second.context_id != context_id) {
      ++at;
      continue;
    }
    erased.push_back(std::move(at->second));
    at = entries_.erase(at);
  }
  return erased;
}

exec::Range Allocations::host_range(std::uint64_t address) const noexcept {
  const std::shared_lock guard(mutex_);
  const Allocation* found = const_cast<Allocations*>(this)->find_locked(address);
  if (found == nullptr || on_device(found->kind))
    return {};
  return {found->address, found->address + found->bytes, 0, true};
}

bool Allocations::page_locked(std::uint64_t address, std::uint64_t bytes) const noexcept {
  const exec::Range range = host_range(address);
  return range.end != 0 && bytes <= range.end - address;
}

} // namespace aliquot::simgpu::driver
