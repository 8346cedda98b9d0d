#include "native/simgpu/driver/core/device_malloc_heap.hpp"

#include <iterator>
#include <utility>

namespace aliquot::simgpu::driver {
namespace {

// CUDA Programming Guide, "Dynamic Global Memory Allocation": aligned to a 16-byte boundary.
constexpr std::uint64_t kAlignment = 16;

} // namespace

std::uint64_t DeviceMallocHeap::allocate(std::uint64_t bytes) noexcept try {
  if (bytes == 0 || bytes > ~std::uint64_t{0} - kAlignment)
    return 0;
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const std::lock_guard guard(mutex_);
  auto found = free_.begin();
  while (found != free_.end() && found->second < bytes)
    ++found;
  if (found == free_.end())
    return 0;
  const std::uint64_t address = found->first;
  taken_.emplace(address, bytes);
  auto rest = free_.extract(found); // used again, so that nothing can fail from here on
  rest.key() += bytes;
  rest.mapped() -= bytes;
  if (rest.mapped() != 0)
    free_.insert(std::move(rest));
  return address;
} catch (...) { // the host has no memory to note it
  return 0;
}

bool DeviceMallocHeap::release(std::uint64_t address) noexcept try {
  const std::lock_guard guard(mutex_);
  const auto taken = taken_.find(address);
  if (taken == taken_.end())
    return false;
  const auto [at, inserted] = free_.emplace(address, taken->second);
  taken_.erase(taken);
  if (const auto next = std::next(at); next != free_.end() && at->first + at->second == next->first) {
    at->second += next->second;
    free_.erase(next);
  }
  if (at != free_.begin())
    if (const auto before = std::prev(at); before->first + before->second == at->first) {
      before->second += at->second;
      free_.erase(at);
    }
  return true;
} catch (...) { // the host has no memory to note it: what is freed stays taken
  return true;
}

} // namespace aliquot::simgpu::driver
