// What stream capture forbids: asked by every call that puts work on a stream, waits, or acts outside of any
// stream. Cheap while nothing captures. What captures hold is in capture.hpp.
#pragma once

#include <atomic>

#include "aliquot/cuda_abi.h"

namespace aliquot::simgpu::driver {

class Context;
class Stream;

// Capture sequences that have begun and not ended, in the whole process.
inline std::atomic<unsigned> captures_under_way{0};

inline bool nothing_captures() noexcept {
  return captures_under_way.load(std::memory_order_acquire) == 0;
}

// The slow halves of what follows.
CUresult unsafe_call_under_capture() noexcept;
CUresult stream_under_capture(Stream& stream) noexcept;
CUresult capture_is_valid(Stream& stream) noexcept;
CUresult wait_under_capture(Context& context) noexcept;
// The capture that `stream` takes part in, if any, has failed: all that is left of it is to be ended.
void invalidate_capture(Stream& stream) noexcept;
// The stream is destroyed: a capture that began in it cannot be ended, and one that it joined goes on
// without.
void leave_capture(Stream& stream) noexcept;

// For calls that take effect outside of any stream (allocate, free, load, query an event). Where the thread's
// capture mode forbids them: STREAM_CAPTURE_UNSUPPORTED, and the captures that they disturb are invalid.
inline CUresult check_unsafe_call() noexcept {
  return nothing_captures() ? CUDA_SUCCESS : unsafe_call_under_capture();
}

// For calls on a stream that cannot be captured. STREAM_CAPTURE_UNSUPPORTED on a stream that is capturing,
// STREAM_CAPTURE_IMPLICIT on the legacy stream where it would wait for one; either ends the capture's use.
inline CUresult check_not_captured(Stream& stream) noexcept {
  return nothing_captures() ? CUDA_SUCCESS : stream_under_capture(stream);
}

// For calls that wait for all work of a context.
inline CUresult check_wait(Context& context) noexcept {
  return nothing_captures() ? CUDA_SUCCESS : wait_under_capture(context);
}

} // namespace aliquot::simgpu::driver
