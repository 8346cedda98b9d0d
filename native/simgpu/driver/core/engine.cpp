#include "native/simgpu/driver/core/engine.hpp"

namespace aliquot::simgpu::driver {

bool CardEngine::enter() noexcept {
  std::unique_lock lock(mutex_);
  while (!abandoned_) {
    if (held_ && !draining_) {
      ++users_;
      return true;
    }
    if (held_ || acquiring_) {
      changed_.wait(lock);
      continue;
    }
    acquiring_ = true;
    lock.unlock();
    const bool ours = machine_->engine_acquire(card_, abandoned_);
    lock.lock();
    acquiring_ = false;
    held_ = ours;
    changed_.notify_all();
  }
  return false;
}

void CardEngine::leave() noexcept {
  const std::lock_guard guard(mutex_);
  if (--users_ != 0)
    return;
  machine_->engine_release(card_);
  held_ = draining_ = false;
  changed_.notify_all();
}

bool CardEngine::turn_is_over() noexcept {
  const std::lock_guard guard(mutex_);
  if (held_ && !draining_ && machine_->engine_should_yield(card_))
    draining_ = true;
  return held_ && draining_;
}

void CardEngine::abandon() noexcept {
  abandoned_ = true;
  const std::lock_guard guard(mutex_);
  changed_.notify_all();
}

} // namespace aliquot::simgpu::driver
