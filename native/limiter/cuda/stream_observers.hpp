// What the gate learns from calls of the program that give the device no work: that work has ended, that a
// stream captures or goes, that a function or a graph is no more.
#pragma once

#include "native/limiter/compute/gate.hpp"
#include "native/limiter/cuda/limiter.hpp"
#include "native/limiter/cuda/observer.hpp"

namespace aliquot::limiter {

// What the driver took for work that has ended (local memory for a kernel's first launch) is charged when its
// end is waited for: a program that has all the memory it wants may not allocate again for hours.
inline void charge_growth() noexcept {
  Limiter* here = limiter();
  if (here != nullptr && here->overhead.has_grown()) [[unlikely]]
    here->overhead.catch_up();
}

// After a call that waited for the stream, or for all of the context where that is null.
template <typename Call>
CUresult synchronising(CUstream stream, Call call) noexcept {
  const CUresult answer = call();
  compute::Gate* gate = compute::gate();
  if (answer == CUDA_SUCCESS && gate != nullptr && !InsideDriver::here()) {
    gate->synchronised(stream);
    charge_growth();
  }
  return answer;
}

template <>
struct Observer<cuStreamSynchronize_entry> {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  static CUresult around(Call call, CUstream stream) noexcept {
    return synchronising(compute::named_stream<PerThread>(stream), call);
  }
};
template <>
struct Observer<cuCtxSynchronize_entry> {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  static CUresult around(Call call) noexcept {
    return synchronising(nullptr, call);
  }
  // Of a context that is named, and may not be the one that is current.
  template <bool PerThread, typename Call>
  static CUresult around(Call call, CUcontext) noexcept {
    const CUresult answer = call();
    if (compute::Gate* gate = compute::gate())
      gate->fold();
    if (answer == CUDA_SUCCESS && !InsideDriver::here())
      charge_growth();
    return answer;
  }
};
template <>
struct Observer<cuEventSynchronize_entry> {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  static CUresult around(Call call, CUevent) noexcept {
    const CUresult answer = call();
    if (compute::Gate* gate = compute::gate())
      gate->fold();
    if (answer == CUDA_SUCCESS && !InsideDriver::here())
      charge_growth();
    return answer;
  }
};

// Before the driver knows of the capture, so that none is ever missed.
struct BeginCaptureObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call, typename... Rest>
  static CUresult around(Call call, CUstream stream, Rest...) noexcept {
    compute::Gate* gate = compute::gate();
    if (gate == nullptr)
      return call();
    gate->capture_begins(compute::named_stream<PerThread>(stream));
    const CUresult answer = call();
    if (answer != CUDA_SUCCESS)
      gate->capture_ends(compute::named_stream<PerThread>(stream));
    return answer;
  }
};
template <>
struct Observer<cuStreamBeginCapture_entry> : BeginCaptureObserver {};
template <>
struct Observer<cuStreamBeginCaptureToGraph_entry> : BeginCaptureObserver {};
template <>
struct Observer<cuStreamBeginCaptureToCig_entry> : BeginCaptureObserver {};
struct EndCaptureObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call, typename... Rest>
  static CUresult around(Call call, CUstream stream, Rest...) noexcept {
    const CUresult answer = call();
    if (compute::Gate* gate = compute::gate())
      gate->capture_ends(compute::named_stream<PerThread>(stream));
    return answer;
  }
};
template <>
struct Observer<cuStreamEndCapture_entry> : EndCaptureObserver {};
template <>
struct Observer<cuStreamEndCaptureToCig_entry> : EndCaptureObserver {};

template <>
struct Observer<cuStreamDestroy_entry> {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  static CUresult around(Call call, CUstream stream) noexcept {
    if (compute::Gate* gate = compute::gate())
      gate->stream_ends(stream);
    return call();
  }
};

// Called by the hooks of memory, which stand in front of these entry points.
inline void functions_may_go() noexcept {
  if (compute::Gate* gate = compute::gate())
    gate->functions_may_go();
}
inline void functions_went() noexcept {
  if (compute::Gate* gate = compute::gate())
    gate->functions_went();
}
inline void graph_went(CUgraphExec graph) noexcept {
  if (compute::Gate* gate = compute::gate())
    gate->graph_went(compute::launch_key(graph, {}));
}

struct UnloadObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call, typename Code>
  static CUresult around(Call call, Code) noexcept {
    functions_may_go();
    const CUresult answer = call();
    functions_went();
    return answer;
  }
};
template <>
struct Observer<cuModuleUnload_entry> : UnloadObserver {};
template <>
struct Observer<cuLibraryUnload_entry> : UnloadObserver {};

struct GraphChangeObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call, typename... Rest>
  static CUresult around(Call call, CUgraphExec graph, Rest...) noexcept {
    const CUresult answer = call();
    graph_went(graph);
    return answer;
  }
};
template <>
struct Observer<cuGraphExecDestroy_entry> : GraphChangeObserver {};
template <>
struct Observer<cuGraphExecUpdate_entry> : GraphChangeObserver {};

} // namespace aliquot::limiter
