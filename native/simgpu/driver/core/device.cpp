#include "native/simgpu/driver/core/device.hpp"

#include "native/simgpu/machine/faults.hpp"

namespace aliquot::simgpu::driver {

bool Device::refuses(std::uint64_t bytes) noexcept {
  const auto pid = static_cast<std::int32_t>(machine_->identity() >> 42);
  return bytes > model.vram_bytes || machine_->faults().allocation_fails(card, pid);
}

std::uint64_t Device::last_fatal() const noexcept {
  return machine_->faults().last_fatal(card);
}

int Device::fatal_since(std::atomic<std::uint64_t>& seen) const noexcept {
  const machine::Faults& faults = machine_->faults();
  std::uint64_t after = seen.load(std::memory_order_relaxed);
  if (faults.last_fatal(card) == after)
    return 0;
  const auto found = faults.next_fatal(card, machine_->unit(card), machine_->identity(), after);
  seen.store(after, std::memory_order_relaxed);
  return found ? found->error : 0;
}

} // namespace aliquot::simgpu::driver
