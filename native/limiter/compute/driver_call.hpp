// Calls that the gate itself makes to the driver: they pass the hooks, disturb no stream capture, and leave
// the thread's context as it was. None of them waits for anything.
#pragma once

#include <atomic>

#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"

namespace aliquot::limiter::compute {

// Captures that began and did not end, in the whole process.
extern std::atomic<unsigned> captures_under_way;

inline bool something_captures() noexcept {
  return captures_under_way.load(std::memory_order_acquire) != 0;
}

// An event query in another mode than this can invalidate a capture, even another thread's, which may begin
// at any moment.
class DriverCall {
 public:
  DriverCall() noexcept : relaxed_(driver().cuThreadExchangeStreamCaptureMode(&mode_) == CUDA_SUCCESS) {}
  ~DriverCall() {
    if (relaxed_)
      driver().cuThreadExchangeStreamCaptureMode(&mode_);
  }
  DriverCall(const DriverCall&) = delete;
  DriverCall& operator=(const DriverCall&) = delete;

 private:
  const InsideDriver inside_;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
  bool relaxed_;
};

// Has `context` current, if it can be made so.
class ContextScope {
 public:
  explicit ContextScope(CUcontext context) noexcept {
    CUcontext current = nullptr;
    driver().cuCtxGetCurrent(&current);
    entered_ = current == context;
    pushed_ = !entered_ && driver().cuCtxPushCurrent_v2(context) == CUDA_SUCCESS;
    entered_ = entered_ || pushed_;
  }
  ~ContextScope() {
    CUcontext popped = nullptr;
    if (pushed_)
      driver().cuCtxPopCurrent_v2(&popped);
  }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;
  explicit operator bool() const noexcept { return entered_; }

 private:
  bool entered_ = false, pushed_ = false;
};

// True where what is put on the stream is recorded and not run.
bool is_capturing(CUstream stream) noexcept;

} // namespace aliquot::limiter::compute
