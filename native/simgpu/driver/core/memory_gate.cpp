#include "native/simgpu/driver/core/memory_gate.hpp"

#include <cstddef>
#include <ctime>
#include <new>

#include "native/simgpu/driver/core/executor.hpp"

namespace aliquot::simgpu::driver {
namespace {

void nap() noexcept {
  const timespec pause{0, 20000};
  nanosleep(&pause, nullptr);
}

} // namespace

MemoryGate& MemoryGate::instance() noexcept {
  alignas(MemoryGate) static std::byte storage[sizeof(MemoryGate)];
  static auto* gate = new (storage) MemoryGate; // never destroyed: threads may pass while the process ends
  return *gate;
}

void MemoryGate::enter() noexcept {
  for (;;) {
    // Counted before the gate is looked at, while `close` shuts it before it counts: one of the two sees the
    // other.
    inside_.fetch_add(1, std::memory_order_seq_cst);
    if (!closed_.load(std::memory_order_seq_cst))
      return;
    leave();
    while (closed_.load(std::memory_order_acquire))
      nap();
  }
}

void MemoryGate::close() noexcept {
  closing_.lock();
  closed_.store(true, std::memory_order_seq_cst);
  while (inside_.load(std::memory_order_seq_cst) != 0) {
    Executor::instance().interrupt_grids();
    nap();
  }
}

} // namespace aliquot::simgpu::driver
