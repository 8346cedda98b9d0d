// Events: a point in a stream, and when it was reached.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "native/simgpu/driver/core/stream.hpp"

namespace aliquot::simgpu::driver {

// One recording of an event. An event that is recorded again points to a new one, so whoever waits for the
// old one is not disturbed.
struct EventRecord {
  std::shared_ptr<Stream> stream;
  std::uint64_t sequence = 0;
  std::atomic<std::uint64_t> reached_ns{0}; // CLOCK_MONOTONIC; 0 = not yet

  bool reached() const noexcept { return reached_ns.load(std::memory_order_acquire) != 0; }
};

// Where in a capture an event was recorded (graph/capture.hpp).
struct CapturedPoint;
class SharedEvent;

class Event {
 public:
  Event(std::shared_ptr<Context> context_, unsigned flags_) : context(std::move(context_)), flags(flags_) {}

  std::shared_ptr<EventRecord> record() const {
    const std::lock_guard guard(mutex_);
    return record_;
  }
  void set_record(std::shared_ptr<EventRecord> record) {
    const std::lock_guard guard(mutex_);
    record_ = std::move(record);
    captured_ = nullptr;
  }
  // Null unless the event was last recorded in a stream that was capturing.
  std::shared_ptr<CapturedPoint> captured() const {
    const std::lock_guard guard(mutex_);
    return captured_;
  }
  void set_captured(std::shared_ptr<CapturedPoint> point) {
    const std::lock_guard guard(mutex_);
    captured_ = std::move(point);
  }

  const std::shared_ptr<Context> context;
  const unsigned flags;
  std::shared_ptr<SharedEvent> shared; // CU_EVENT_INTERPROCESS alone; set before others see the event

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<EventRecord> record_;
  std::shared_ptr<CapturedPoint> captured_;
};

std::uint64_t now_ns() noexcept;

} // namespace aliquot::simgpu::driver
