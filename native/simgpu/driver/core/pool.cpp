#include "native/simgpu/driver/core/pool.hpp"

namespace aliquot::simgpu::driver {
namespace {

void raise_to(std::atomic<std::uint64_t>& high, std::uint64_t value) noexcept {
  std::uint64_t seen = high.load(std::memory_order_relaxed);
  while (seen < value && !high.compare_exchange_weak(seen, value)) {
  }
}

std::uint64_t next_share_key() noexcept {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

} // namespace

Pool::Pool(Device& device_, AddressSpace& space, const std::shared_ptr<machine::Machine>& machine,
           bool is_default_)
    : device(device_), is_default(is_default_), heap(space, machine, device_.card, true),
      share_key(next_share_key()) {}

std::uint64_t Pool::allocate(std::uint64_t bytes) {
  if (max_bytes != 0 && used.load() + bytes > max_bytes)
    return 0;
  const std::uint64_t address = heap.allocate(bytes);
  if (address == 0)
    return 0;
  raise_to(used_high, used.fetch_add(bytes) + bytes);
  raise_to(reserved_high, heap.charged());
  return address;
}

void Pool::free(std::uint64_t address, std::uint64_t bytes) noexcept {
  heap.free(address, bytes);
  used.fetch_sub(bytes);
  if (destroyed.load() && used.load() == 0)
    heap.trim(0);
}

void Pool::release_above_threshold() noexcept {
  const std::uint64_t threshold = release_threshold.load();
  if (heap.charged() > threshold)
    heap.trim(threshold);
}

} // namespace aliquot::simgpu::driver
