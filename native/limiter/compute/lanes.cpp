#include "native/limiter/compute/lanes.hpp"

#include <algorithm>
#include <new>

#include "native/limiter/compute/futex.hpp"

namespace aliquot::limiter::compute {

std::atomic<unsigned> captures_under_way{0};

bool is_capturing(CUstream stream) noexcept {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  // The legacy stream is refused while another of its context captures; it cannot capture itself.
  return driver().cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS &&
         status != CU_STREAM_CAPTURE_STATUS_NONE;
}

bool has_passed(CUevent event) noexcept {
  // An error is the program's: its context has failed, and it is told by its own next call.
  return driver().cuEventQuery(event) != CUDA_ERROR_NOT_READY;
}

// A stream that captures may not be asked, nor the legacy one while another captures.
bool is_empty(const Lane& lane) noexcept {
  if (lane.waits || lane.stream == nullptr || lane.is_unnamed())
    return false;
  if (something_captures() && (lane.is_legacy() || is_capturing(lane.stream)))
    return false;
  return driver().cuStreamQuery(lane.stream) != CUDA_ERROR_NOT_READY;
}

bool is_forgotten(const Lane& lane, std::uint64_t now) noexcept {
  constexpr std::uint64_t kLongAgo = 50'000'000; // ns beyond many times what it should take
  return lane.is_unnamed() && now - std::min(now, lane.seen_at) > kLongAgo + 20 * lane.in_flight();
}

CUevent EventPool::take(CUcontext context) noexcept {
  if (!supported_)
    return nullptr;
  if (const auto found = known_.find(context); found != known_.end() && !found->second.spare.empty()) {
    CUevent event = found->second.spare.back();
    found->second.spare.pop_back();
    return event;
  }
  CUevent event = nullptr;
  const CUresult made = driver().cuEventCreate(&event, CU_EVENT_DEFAULT);
  if (made == CUDA_ERROR_NOT_SUPPORTED)
    supported_ = false;
  return made == CUDA_SUCCESS ? event : nullptr;
}

void EventPool::give_back(CUcontext context, CUevent event) noexcept {
  if (event == nullptr)
    return;
  try {
    known_[context].spare.push_back(event);
  } catch (const std::bad_alloc&) {
    driver().cuEventDestroy_v2(event);
  }
}

std::uint64_t EventPool::passed_at(CUcontext context, const Marker& marker, std::uint64_t before) noexcept {
  CUevent event = marker.end;
  std::uint64_t at = before;
  try {
    at = known_[context].clock.read(event, marker.after, before);
  } catch (const std::bad_alloc&) {
    // The event itself is given up with the next line.
  }
  give_back(context, event);
  return at;
}

Lane& Lanes::find(const void* thread, CUcontext context, CUstream stream, bool waits) {
  Lane* unused = nullptr;
  for (const auto& lane : lanes_) {
    if (lane->spare)
      unused = lane.get();
    else if (lane->thread == thread && lane->context == context && lane->stream == stream &&
             lane->waits == waits)
      return *lane;
  }
  if (unused == nullptr)
    unused = lanes_.emplace_back(std::make_unique<Lane>()).get();
  unused->spare = false;
  unused->thread = thread;
  unused->context = context;
  unused->stream = stream;
  unused->waits = waits;
  return *unused;
}

std::uint64_t Lanes::in_flight() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& lane : lanes_)
    sum += lane->in_flight();
  return sum;
}

std::uint64_t Lanes::finished() const noexcept {
  std::uint64_t sum = reclaimed_;
  for (const auto& lane : lanes_)
    sum += lane->finished.load(std::memory_order_relaxed);
  return sum;
}

std::size_t Lanes::markers_out() const noexcept {
  std::size_t most = 0;
  for (const auto& lane : lanes_)
    most = std::max(most, lane->markers.size());
  return most;
}

bool Lanes::may_mark(const Lane& lane) const noexcept {
  if (!lane.is_legacy())
    return true;
  for (const auto& other : lanes_) {
    if (other.get() != &lane && other->context == lane.context && other->in_flight() != 0)
      return false;
  }
  return true;
}

void Lanes::reclaim(Lane& lane) noexcept {
  reclaimed_ += lane.admitted.load(std::memory_order_relaxed);
  lane.admitted.store(0, std::memory_order_relaxed);
  lane.finished.store(0, std::memory_order_relaxed);
  lane.calling.store(false, std::memory_order_relaxed);
  lane.marked = lane.seen = lane.seen_at = 0;
  lane.thread = nullptr;
  lane.context = nullptr;
  lane.stream = nullptr;
  lane.spare = true;
}

// The driver has ended its events and all that was in flight.
void Lanes::forget_context(CUcontext context) noexcept {
  for (const auto& lane : lanes_) {
    if (lane->spare || lane->context != context)
      continue;
    lane->markers.clear();
    reclaim(*lane);
  }
  events.forget(context);
}

void Lanes::forget_thread(const void* thread) noexcept {
  for (const auto& lane : lanes_) {
    if (lane->spare || lane->thread != thread)
      continue;
    lane->thread = nullptr;
    lane->calling.store(false, std::memory_order_relaxed); // it may have ended within the call
    if (lane->in_flight() == 0 && lane->markers.empty())
      reclaim(*lane);
    else if (lane->is_unnamed())
      lane->stream = nullptr; // its markers tell; what has none is taken to have ended with them
  }
}

void Lanes::drained(const void* thread, CUcontext context, CUstream stream) noexcept {
  for (const auto& lane : lanes_) {
    if (!lane->spare && lane->thread == thread && lane->context == context && !lane->waits &&
        (stream == nullptr || lane->stream == stream))
      lane->drain();
  }
}

void Lanes::close_stream(CUcontext context, CUstream stream) noexcept {
  for (const auto& lane : lanes_) {
    if (lane->spare || lane->stream != stream || lane->context != context)
      continue;
    const std::uint64_t sum = lane->admitted.load(std::memory_order_relaxed);
    if (lane->in_flight() != 0 && (lane->markers.empty() || lane->markers.back().sum != sum)) {
      Marker marker;
      marker.end = events.take(context);
      marker.after = marker.recorded = now_ns();
      marker.sum = sum;
      const bool recorded =
          marker.end != nullptr && driver().cuEventRecord(marker.end, stream) == CUDA_SUCCESS;
      try {
        if (recorded)
          lane->markers.push_back(marker);
      } catch (const std::bad_alloc&) {
        driver().cuEventDestroy_v2(marker.end);
      }
    }
    lane->stream = nullptr;
  }
}

} // namespace aliquot::limiter::compute
