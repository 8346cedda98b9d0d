// What every entry point begins with: is there a driver, is there a context, and no exception gets out.
#pragma once

#include <new>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/driver.hpp"
#include "native/simgpu/driver/core/executor.hpp"
#include "native/simgpu/driver/core/thread_state.hpp"
#include "native/simgpu/driver/graph/capture_rules.hpp"

namespace aliquot::simgpu::driver {

using ContextPtr = std::shared_ptr<Context>;
using StreamPtr = std::shared_ptr<Stream>;

// The context on top of this thread's stack. INVALID_CONTEXT where there is none, CONTEXT_IS_DESTROYED where
// it is gone, its sticky error where it has failed, NOT_PERMITTED inside a host function.
CUresult current_context(ContextPtr& context);
// The same, but a failed context is as good as any other.
CUresult current_context_even_if_failed(ContextPtr& context);

// The stream behind a handle, the special ones and 0 included, in `context`.
CUresult resolve_stream(CUstream handle, const ContextPtr& context, StreamPtr& stream);

template <class Body>
CUresult guarded(Body body) noexcept try {
  return body();
} catch (const std::bad_alloc&) {
  return CUDA_ERROR_OUT_OF_MEMORY;
} catch (...) {
  return CUDA_ERROR_UNKNOWN;
}

// For calls that need cuInit alone. body(Driver&).
template <class Body>
CUresult with_driver(Body body) noexcept {
  if (const CUresult status = Driver::status(); status != CUDA_SUCCESS)
    return status;
  return guarded([&] { return body(Driver::instance()); });
}

// For calls about a device. body(Device&).
template <class Body>
CUresult with_device(CUdevice ordinal, Body body) noexcept {
  return with_driver([&](Driver& driver) {
    Device* device = driver.device(ordinal);
    return device == nullptr ? CUDA_ERROR_INVALID_DEVICE : body(*device);
  });
}

// For calls that work in the current context. body(Driver&, const ContextPtr&).
template <class Body>
CUresult with_context(Body body) noexcept {
  return with_driver([&](Driver& driver) {
    ContextPtr context;
    if (const CUresult found = current_context(context); found != CUDA_SUCCESS)
      return found;
    return body(driver, context);
  });
}

// For calls that put work on a stream, or wait for it, and that no capture can take: refused on a stream that
// is capturing. body(Driver&, const StreamPtr&).
template <class Body>
CUresult with_stream(CUstream handle, Body body) noexcept {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    StreamPtr stream;
    if (const CUresult found = resolve_stream(handle, context, stream); found != CUDA_SUCCESS)
      return found;
    if (stream->context().failed())
      return stream->context().failure();
    if (const CUresult captured = check_not_captured(*stream); captured != CUDA_SUCCESS)
      return captured;
    return body(driver, stream);
  });
}

// For calls that put work on a stream and can be captured: where `stream->capturing`, body adds a node to the
// capture's graph in place of a command (graph/capture.hpp). If it fails, so has the capture.
template <class Body>
CUresult with_capturable_stream(CUstream handle, Body body) noexcept {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    StreamPtr stream;
    if (const CUresult found = resolve_stream(handle, context, stream); found != CUDA_SUCCESS)
      return found;
    if (stream->context().failed())
      return stream->context().failure();
    if (nothing_captures())
      return body(driver, stream);
    if (!stream->capturing) {
      const CUresult implicit = check_not_captured(*stream);
      return implicit != CUDA_SUCCESS ? implicit : body(driver, stream);
    }
    CUresult result = capture_is_valid(*stream);
    if (result == CUDA_SUCCESS)
      result = guarded([&] { return body(driver, stream); });
    if (result != CUDA_SUCCESS)
      invalidate_capture(*stream);
    return result;
  });
}

} // namespace aliquot::simgpu::driver
