// What a context takes of its card for itself: the driver's own structures, local memory for all threads that
// can be resident, and the buffers whose sizes are limits of the context.
//
// It is charged, and nothing lies behind it: what kernels need of it they have on the host.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "native/simgpu/driver/core/device.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::driver {

class ContextOverhead {
 public:
  ContextOverhead(const Device& device, std::shared_ptr<machine::Machine> machine)
      : device_(device), machine_(std::move(machine)) {}
  ~ContextOverhead() { release(); }
  ContextOverhead(const ContextOverhead&) = delete;
  ContextOverhead& operator=(const ContextOverhead&) = delete;

  // Charges what contexts with these limits take (bytes a thread, bytes), in place of what is charged now.
  // False, and nothing changes, where the card has no room.
  bool resize(std::uint64_t stack, std::uint64_t print_buffer) noexcept;
  void release() noexcept;

 private:
  const Device& device_;
  const std::shared_ptr<machine::Machine> machine_;
  std::mutex mutex_; // guards charged_
  std::uint64_t charged_ = 0;
};

} // namespace aliquot::simgpu::driver
