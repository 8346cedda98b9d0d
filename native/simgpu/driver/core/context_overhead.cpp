#include "native/simgpu/driver/core/context_overhead.hpp"

namespace aliquot::simgpu::driver {
namespace {

std::uint64_t overhead(const Device& device, const machine::Machine& machine, std::uint64_t stack,
                       std::uint64_t print_buffer) noexcept {
  const machine::CardModel& model = device.model;
  const std::uint64_t set = machine.context_bytes(device.card);
  const std::uint64_t own =
      set == machine::kUsualContext ? std::uint64_t{model.context_bytes_per_sm} * model.sm_count : set;
  // The stack limit is for each thread that can be resident, whether or not it runs.
  const std::uint64_t local = stack * model.threads_per_sm * model.sm_count;
  const std::uint64_t sum = own + local + print_buffer;
  return (sum + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

} // namespace

bool ContextOverhead::resize(std::uint64_t stack, std::uint64_t print_buffer) noexcept {
  const std::lock_guard guard(mutex_);
  const std::uint64_t wanted = overhead(device_, *machine_, stack, print_buffer);
  if (wanted > charged_ && machine_->reserve_overhead(device_.card, wanted - charged_) != machine::Status::Ok)
    return false;
  if (wanted < charged_)
    machine_->release_overhead(device_.card, charged_ - wanted);
  charged_ = wanted;
  return true;
}

void ContextOverhead::release() noexcept {
  const std::lock_guard guard(mutex_);
  if (charged_ != 0)
    machine_->release_overhead(device_.card, charged_);
  charged_ = 0;
}

} // namespace aliquot::simgpu::driver
