// What of a device's work is still in flight: sums by thread and stream, and the events behind them.
//
// A lane is what one thread put on one stream. Only that thread adds to `admitted`, so no launch needs a
// locked instruction. A marker is an event behind some of a lane's work; when it has passed, everything up to
// its sum has ended. All but `admitted` is guarded by the device's mutex.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "aliquot/cuda_abi.h"
#include "native/limiter/compute/driver_call.hpp"

namespace aliquot::limiter::compute {

struct Marker {
  CUevent end = nullptr;
  CUevent begin = nullptr;   // where the work is measured, recorded in front of it
  std::uint64_t sum = 0;     // of the lane, this work included
  std::uint64_t key = 0;     // of the work that is measured
  std::uint64_t price = 0;   // what it was charged
  std::uint64_t turn = 0;    // as the grant said when it was admitted
  std::uint64_t escapes = 0; // see DeviceGate
};

struct Lane {
  std::atomic<std::uint64_t> admitted{0}, finished{0}; // ns, by price
  // Between admission and the driver's answer: an empty stream means nothing then. Stored before `admitted`
  // is.
  std::atomic<bool> calling{false};
  std::uint64_t marked = 0;
  std::uint64_t admitted_at = 0; // CLOCK_MONOTONIC, of the last admission that was looked at closely
  CUcontext context = nullptr;
  CUstream stream = nullptr; // null once it was destroyed; markers may still be out
  const void* thread = nullptr;
  bool waits = false; // for work that has ended when the call returns
  bool spare = false;
  std::deque<Marker> markers;

  std::uint64_t in_flight() const noexcept {
    const std::uint64_t done = finished.load(std::memory_order_relaxed);
    const std::uint64_t sum = admitted.load(std::memory_order_relaxed);
    return sum > done ? sum - done : 0;
  }
  bool is_legacy() const noexcept { return stream == CU_STREAM_LEGACY; }
};

// Events of our own, by context; they end with it.
class EventPool {
 public:
  // Null where the driver gives none. The context is current on the calling thread.
  CUevent take(CUcontext context, bool timed) noexcept;
  void give_back(CUcontext context, CUevent event, bool timed) noexcept;
  void forget(CUcontext context) noexcept { spare_.erase(context); }
  bool supported() const noexcept { return supported_; }

 private:
  struct Spare {
    std::vector<CUevent> plain, timed;
  };
  std::unordered_map<CUcontext, Spare> spare_;
  bool supported_ = true;
};

class Lanes {
 public:
  // May throw std::bad_alloc.
  Lane& find(const void* thread, CUcontext context, CUstream stream, bool waits);

  std::uint64_t in_flight() const noexcept;
  std::uint64_t admitted() const noexcept;
  std::uint64_t finished() const noexcept;

  // Looks at the markers, and, where `ask_streams`, at whether streams without one have become empty. What
  // has passed is shown to `passed`(context, marker). True where anything did.
  template <typename Passed>
  bool poll(bool ask_streams, Passed passed) noexcept;

  // Whether an event in this lane's stream orders nothing that the program did not order: one in the legacy
  // stream waits for all blocking streams, and they for it.
  bool may_mark(const Lane& lane) const noexcept;

  void forget_context(CUcontext context) noexcept;
  void forget_thread(const void* thread) noexcept;
  // Nothing more is put on the stream; what it holds is marked.
  void close_stream(CUcontext context, CUstream stream) noexcept;

  EventPool events;

 private:
  template <typename Passed>
  bool poll_lane(Lane& lane, bool ask_stream, Passed passed) noexcept;
  void reclaim(Lane& lane) noexcept;

  std::vector<std::unique_ptr<Lane>> lanes_; // never freed: a launch on another thread may be adding to one
  std::uint64_t reclaimed_ = 0;              // what lanes had done that were given to others since
};

// Whether the event has passed, or will never.
bool has_passed(CUevent event) noexcept;
// Whether the lane's stream is known to be empty.
bool is_empty(const Lane& lane) noexcept;

template <typename Passed>
bool Lanes::poll(bool ask_streams, Passed passed) noexcept {
  bool progress = false;
  for (const auto& lane : lanes_) {
    if (!lane->spare && (lane->in_flight() != 0 || !lane->markers.empty()))
      progress = poll_lane(*lane, ask_streams, passed) || progress;
    const bool over = lane->stream == nullptr || (lane->thread == nullptr && lane->in_flight() == 0);
    if (!lane->spare && over && lane->markers.empty())
      reclaim(*lane);
  }
  return progress;
}

template <typename Passed>
bool Lanes::poll_lane(Lane& lane, bool ask_stream, Passed passed) noexcept {
  bool progress = false;
  const ContextScope scope(lane.context); // a query from a thread without a context is refused
  while (!lane.markers.empty() && has_passed(lane.markers.front().end)) {
    const Marker marker = lane.markers.front();
    lane.markers.pop_front();
    if (marker.sum > lane.finished.load(std::memory_order_relaxed))
      lane.finished.store(marker.sum, std::memory_order_relaxed);
    passed(lane.context, marker);
    progress = true;
  }
  const std::uint64_t sum = lane.admitted.load(std::memory_order_acquire);
  if (ask_stream && lane.markers.empty() && lane.in_flight() != 0 &&
      !lane.calling.load(std::memory_order_acquire) && is_empty(lane)) {
    lane.finished.store(sum, std::memory_order_relaxed);
    progress = true;
  }
  return progress;
}

} // namespace aliquot::limiter::compute
