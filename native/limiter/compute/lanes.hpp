// What of a device's work is still in flight: sums by thread and stream, and the events behind them.
//
// A lane is what one thread put on one stream. Only that thread adds to `admitted`, so no launch needs a
// locked instruction. A marker is an event behind some of a lane's work; when it has passed, everything up to
// its sum has ended. All but `admitted` is guarded by the device's mutex.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "aliquot/cuda_abi.h"
#include "native/limiter/compute/driver_call.hpp"
#include "native/limiter/compute/event_clock.hpp"

namespace aliquot::limiter::compute {

struct Marker {
  CUevent end = nullptr;
  CUevent begin = nullptr;    // where the work is measured, recorded in front of it
  std::uint64_t sum = 0;      // of the lane, this work included
  std::uint64_t key = 0;      // of the work that is measured
  std::uint64_t price = 0;    // what it was charged
  std::uint64_t turn = 0;     // as the grant said when it was admitted
  std::uint64_t escapes = 0;  // see DeviceGate
  std::uint64_t recorded = 0; // when, CLOCK_MONOTONIC
  std::uint64_t after = 0;    // it had not passed then
  bool cold = false;          // nothing was in flight before what is measured
};

struct Lane {
  std::atomic<std::uint64_t> admitted{0}, finished{0}; // ns, by price
  // Between admission and the driver's answer: an empty stream means nothing then. Stored before `admitted`
  // is.
  std::atomic<bool> calling{false};
  std::uint64_t marked = 0;
  std::uint64_t seen = 0, seen_at = 0; // `admitted` when it was last seen to have changed, CLOCK_MONOTONIC
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
  // Another thread's default stream cannot be named, so nobody else can ask whether it is empty.
  bool is_unnamed() const noexcept { return stream == CU_STREAM_PER_THREAD; }
  // A failed call put nothing there. 0 at the least: the context may have been reset during the call.
  void take_back(std::uint64_t price) noexcept {
    const std::uint64_t sum = admitted.load(std::memory_order_relaxed);
    admitted.store(sum > price ? sum - price : 0, std::memory_order_relaxed);
  }
  // Everything on it has ended. For its own thread, or where that launches nothing meanwhile.
  void drain() noexcept {
    finished.store(admitted.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
};

// Events of our own, by context; they end with it.
class EventPool {
 public:
  // Null where the driver gives none. The context is current on the calling thread.
  CUevent take(CUcontext context) noexcept;
  void give_back(CUcontext context, CUevent event) noexcept;
  // When the marker passed, which is known to lie before `before`. Takes its end back, which tells the same
  // until it is taken again.
  std::uint64_t passed_at(CUcontext context, const Marker& marker, std::uint64_t before) noexcept;
  void forget(CUcontext context) noexcept { known_.erase(context); }
  bool supported() const noexcept { return supported_; }

 private:
  struct Known {
    std::vector<CUevent> spare;
    EventClock clock;
  };
  std::unordered_map<CUcontext, Known> known_;
  bool supported_ = true;
};

class Lanes {
 public:
  // May throw std::bad_alloc.
  Lane& find(const void* thread, CUcontext context, CUstream stream, bool waits);

  std::uint64_t in_flight() const noexcept;
  std::uint64_t finished() const noexcept;
  // The most that are out in one lane.
  std::size_t markers_out() const noexcept;

  // Looks at the markers, and, where `ask_streams`, at whether streams without one have become empty. What
  // has passed is shown to `passed`(context, marker, what ended with it).
  template <typename Passed>
  void poll(std::uint64_t now, bool ask_streams, Passed passed) noexcept;

  // The thread's own call has waited for the stream, or for the whole context where that is null.
  void drained(const void* thread, CUcontext context, CUstream stream) noexcept;

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
  void poll_lane(Lane& lane, std::uint64_t now, bool ask_stream, Passed passed) noexcept;
  void reclaim(Lane& lane) noexcept;

  std::vector<std::unique_ptr<Lane>> lanes_; // never freed: a launch on another thread may be adding to one
  std::uint64_t reclaimed_ = 0;              // what lanes had done that were given to others since
};

// Whether the event has passed, or will never.
bool has_passed(CUevent event) noexcept;
// Whether the lane's stream is known to be empty.
bool is_empty(const Lane& lane) noexcept;
// Whether what has no marker in a stream that cannot be asked was put there so long ago that it must have
// ended: little work, from a time when nobody else wanted the card.
bool is_forgotten(const Lane& lane, std::uint64_t now) noexcept;

template <typename Passed>
void Lanes::poll(std::uint64_t now, bool ask_streams, Passed passed) noexcept {
  for (const auto& lane : lanes_) {
    if (!lane->spare && (lane->in_flight() != 0 || !lane->markers.empty()))
      poll_lane(*lane, now, ask_streams, passed);
    const bool over = lane->stream == nullptr || (lane->thread == nullptr && lane->in_flight() == 0);
    if (!lane->spare && over && lane->markers.empty())
      reclaim(*lane);
  }
}

template <typename Passed>
void Lanes::poll_lane(Lane& lane, std::uint64_t now, bool ask_stream, Passed passed) noexcept {
  const ContextScope scope(lane.context); // a query from a thread without a context is refused
  while (!lane.markers.empty() && has_passed(lane.markers.front().end)) {
    const Marker marker = lane.markers.front();
    lane.markers.pop_front();
    const std::uint64_t before = lane.finished.load(std::memory_order_relaxed);
    lane.finished.store(std::max(before, marker.sum), std::memory_order_relaxed);
    passed(lane.context, marker, std::max(before, marker.sum) - before);
  }
  if (!lane.markers.empty())
    lane.markers.front().after = std::max(lane.markers.front().after, now);
  const std::uint64_t sum = lane.admitted.load(std::memory_order_acquire);
  if (sum != lane.seen) {
    lane.seen = sum;
    lane.seen_at = now;
  }
  if (ask_stream && lane.markers.empty() && lane.in_flight() != 0 &&
      !lane.calling.load(std::memory_order_acquire) && (is_empty(lane) || is_forgotten(lane, now)))
    lane.finished.store(sum, std::memory_order_relaxed);
}

} // namespace aliquot::limiter::compute
