// One card's engine as this process sees it: held while at least one of our threads runs a kernel there.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::driver {

class CardEngine {
 public:
  CardEngine(std::shared_ptr<machine::Machine> machine, std::uint32_t card)
      : machine_(std::move(machine)), card_(card) {}

  // Blocks while other processes have their turn. False once `abandon` was called.
  bool enter() noexcept;
  void leave() noexcept;
  // True when the turn is over: every thread inside must leave. From then on `enter` waits for the next turn.
  bool turn_is_over() noexcept;
  void abandon() noexcept;
  std::uint32_t card() const noexcept { return card_; }

 private:
  const std::shared_ptr<machine::Machine> machine_;
  const std::uint32_t card_;
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned users_ = 0;
  bool held_ = false, acquiring_ = false, draining_ = false;
  std::atomic<bool> abandoned_{false};
};

} // namespace aliquot::simgpu::driver
