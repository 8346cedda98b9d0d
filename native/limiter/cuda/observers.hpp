// Entry points that are passed through and counted: copies and launches. One specialisation stands for all
// ABI versions and stream variants of a base name, since their arguments come in the same order.
#pragma once

#include <cstdint>
#include <type_traits>

#include "aliquot/cuda_abi.h"
#include "native/limiter/cuda/limiter.hpp"

namespace aliquot::limiter {

// One type for each base name, e.g. cuMemcpyHtoD_entry.
#define ALIQUOT_CUDA_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments)        \
  struct base##_entry;
#include "aliquot/cuda_entry_points.inc"

inline void add(std::atomic<std::uint64_t>& counter, std::uint64_t amount) noexcept {
  counter.fetch_add(amount, std::memory_order_relaxed);
}

inline void note_copy(std::atomic<std::uint64_t> layout::Counters::* direction,
                      std::uint64_t bytes) noexcept {
  if (Limiter* here = limiter()) {
    add(here->counters().copies, 1);
    add(here->counters().*direction, bytes);
  }
}

inline void note_launch(std::atomic<std::uint64_t> layout::Counters::* kind) noexcept {
  if (Limiter* here = limiter())
    add(here->counters().*kind, 1);
}

// What is known of an entry point after it succeeded; by default nothing.
template <typename Entry>
struct Observer {
  static constexpr bool kObserves = false;
};

// Calls the driver's function, and shows the call to its observer if it succeeded.
template <typename Entry, typename Result, typename... Parameters>
struct Forwarder {
  Result (*function)(Parameters...);
  Result operator()(Parameters... arguments) const {
    if constexpr (Observer<Entry>::kObserves) {
      const CUresult answer = function(arguments...);
      if (answer == CUDA_SUCCESS)
        Observer<Entry>::after(arguments...);
      return answer;
    } else {
      return function(arguments...);
    }
  }
};
template <typename Entry, typename Result, typename... Parameters>
Forwarder<Entry, Result, Parameters...> forward(Result (*function)(Parameters...)) noexcept {
  return {function};
}

struct LaunchObserver {
  static constexpr bool kObserves = true;
  template <typename... Arguments>
  static void after(Arguments...) noexcept {
    note_launch(&layout::Counters::launches);
  }
};
template <>
struct Observer<cuLaunch_entry> : LaunchObserver {};
template <>
struct Observer<cuLaunchGrid_entry> : LaunchObserver {};
template <>
struct Observer<cuLaunchGridAsync_entry> : LaunchObserver {};
template <>
struct Observer<cuLaunchKernel_entry> : LaunchObserver {};
template <>
struct Observer<cuLaunchKernelEx_entry> : LaunchObserver {};
template <>
struct Observer<cuLaunchCooperativeKernel_entry> : LaunchObserver {};
template <>
struct Observer<cuLaunchCooperativeKernelMultiDevice_entry> {
  static constexpr bool kObserves = true;
  static void after(CUDA_LAUNCH_PARAMS*, unsigned int devices, unsigned int) noexcept {
    if (Limiter* here = limiter())
      add(here->counters().launches, devices);
  }
};
template <>
struct Observer<cuGraphLaunch_entry> {
  static constexpr bool kObserves = true;
  static void after(CUgraphExec, CUstream) noexcept { note_launch(&layout::Counters::graph_launches); }
};

// Copies whose size is the `Size`-th argument.
template <std::atomic<std::uint64_t> layout::Counters::* Direction, unsigned Size>
struct CopyObserver {
  static constexpr bool kObserves = true;
  template <typename... Arguments>
  static void after(Arguments... arguments) noexcept {
    std::uint64_t bytes = 0;
    unsigned position = 0;
    ((position++ == Size ? void(bytes = as_bytes(arguments)) : void()), ...);
    note_copy(Direction, bytes);
  }

 private:
  template <typename Argument>
  static std::uint64_t as_bytes(Argument argument) noexcept {
    if constexpr (std::is_integral_v<Argument>)
      return argument;
    return 0;
  }
};
using ToDevice2 = CopyObserver<&layout::Counters::copied_to_device, 2>;
using ToDevice3 = CopyObserver<&layout::Counters::copied_to_device, 3>;
using ToHost2 = CopyObserver<&layout::Counters::copied_to_host, 2>;
using ToHost3 = CopyObserver<&layout::Counters::copied_to_host, 3>;
using OnDevice2 = CopyObserver<&layout::Counters::copied_on_device, 2>;
using OnDevice3 = CopyObserver<&layout::Counters::copied_on_device, 3>;
using OnDevice4 = CopyObserver<&layout::Counters::copied_on_device, 4>;
template <>
struct Observer<cuMemcpyHtoD_entry> : ToDevice2 {};
template <>
struct Observer<cuMemcpyHtoDAsync_entry> : ToDevice2 {};
template <>
struct Observer<cuMemcpyHtoA_entry> : ToDevice3 {};
template <>
struct Observer<cuMemcpyHtoAAsync_entry> : ToDevice3 {};
template <>
struct Observer<cuMemcpyDtoH_entry> : ToHost2 {};
template <>
struct Observer<cuMemcpyDtoHAsync_entry> : ToHost2 {};
template <>
struct Observer<cuMemcpyAtoH_entry> : ToHost3 {};
template <>
struct Observer<cuMemcpyAtoHAsync_entry> : ToHost3 {};
template <>
struct Observer<cuMemcpyDtoD_entry> : OnDevice2 {};
template <>
struct Observer<cuMemcpyDtoDAsync_entry> : OnDevice2 {};
template <>
struct Observer<cuMemcpyDtoA_entry> : OnDevice3 {};
template <>
struct Observer<cuMemcpyAtoD_entry> : OnDevice3 {};
template <>
struct Observer<cuMemcpyAtoA_entry> : OnDevice4 {};
template <>
struct Observer<cuMemcpyPeer_entry> : OnDevice4 {};
template <>
struct Observer<cuMemcpyPeerAsync_entry> : OnDevice4 {};
template <>
struct Observer<cuMemcpy_entry> : OnDevice2 {};
template <>
struct Observer<cuMemcpyAsync_entry> : OnDevice2 {};
template <>
struct Observer<cuMemcpyWithAttributesAsync_entry> : OnDevice2 {};

// Copies whose shape and ends stand in a descriptor.
struct DescribedCopyObserver {
  static constexpr bool kObserves = true;
  template <typename Copy, typename... Stream>
  static void after(const Copy* copy, Stream...) noexcept {
    std::uint64_t bytes = std::uint64_t{copy->WidthInBytes} * copy->Height;
    if constexpr (requires { copy->Depth; })
      bytes *= copy->Depth;
    note_copy(direction(*copy), bytes);
  }

 private:
  template <typename Copy>
  static std::atomic<std::uint64_t> layout::Counters::* direction(const Copy& copy) noexcept {
    if (copy.srcMemoryType == CU_MEMORYTYPE_HOST)
      return &layout::Counters::copied_to_device;
    if (copy.dstMemoryType == CU_MEMORYTYPE_HOST)
      return &layout::Counters::copied_to_host;
    return &layout::Counters::copied_on_device;
  }
};
template <>
struct Observer<cuMemcpy2D_entry> : DescribedCopyObserver {};
template <>
struct Observer<cuMemcpy2DUnaligned_entry> : DescribedCopyObserver {};
template <>
struct Observer<cuMemcpy2DAsync_entry> : DescribedCopyObserver {};
template <>
struct Observer<cuMemcpy3D_entry> : DescribedCopyObserver {};
template <>
struct Observer<cuMemcpy3DAsync_entry> : DescribedCopyObserver {};
template <>
struct Observer<cuMemcpy3DPeer_entry> : DescribedCopyObserver {};
template <>
struct Observer<cuMemcpy3DPeerAsync_entry> : DescribedCopyObserver {};

template <>
struct Observer<cuMemcpyBatchAsync_entry> {
  static constexpr bool kObserves = true;
  template <typename... Rest>
  static void after(CUdeviceptr*, CUdeviceptr*, const std::size_t* sizes, std::size_t count,
                    Rest...) noexcept {
    for (std::size_t i = 0; i < count; ++i)
      note_copy(&layout::Counters::copied_on_device, sizes[i]);
  }
};

} // namespace aliquot::limiter
