// A gate that every command of a stream passes, so that the bytes behind device addresses can be moved while
// nobody reads or writes them.
//
// Kernels are asked to yield, and go on where they were. A leaf: whoever makes a Quiet holds no lock that a
// command may want, and is no command himself.
#pragma once

#include <atomic>
#include <mutex>

namespace aliquot::simgpu::driver {

class MemoryGate {
 public:
  static MemoryGate& instance() noexcept;

  // Waits while the gate is closed.
  void enter() noexcept;
  void leave() noexcept { inside_.fetch_sub(1, std::memory_order_release); }

 private:
  friend class Quiet;
  void close() noexcept;
  void open() noexcept { closed_.store(false, std::memory_order_release); }

  std::atomic<int> inside_{0};
  std::atomic<bool> closed_{false};
  std::mutex closing_; // one at a time
};

// For as long as it lives, no command of this process runs.
class Quiet {
 public:
  Quiet() noexcept { MemoryGate::instance().close(); }
  ~Quiet() {
    MemoryGate::instance().open();
    MemoryGate::instance().closing_.unlock();
  }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
};

// While it lives, this thread reads or writes device memory as a command does.
class InsideGate {
 public:
  InsideGate() noexcept { MemoryGate::instance().enter(); }
  ~InsideGate() { MemoryGate::instance().leave(); }
  InsideGate(const InsideGate&) = delete;
  InsideGate& operator=(const InsideGate&) = delete;
};

} // namespace aliquot::simgpu::driver
