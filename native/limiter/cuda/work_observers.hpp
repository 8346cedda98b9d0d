// What launches, copies and sets ask of the device, by entry point: each is described to the gate, which
// admits it, and counted when the driver has taken it. One specialisation stands for all ABI versions and
// stream variants of a base name, since their arguments come in the same order.
#pragma once

#include <cstdint>
#include <tuple>
#include <type_traits>

#include "native/limiter/compute/gate.hpp"
#include "native/limiter/cuda/observer.hpp"

namespace aliquot::limiter {

// The calling thread's, and null inside of a hooked call: what the driver does there is part of that call.
inline compute::ThreadState* counting_thread() noexcept {
  if (InsideDriver::here()) [[unlikely]]
    return nullptr;
  return compute::this_thread();
}

// Launches of functions.
template <bool PerThread, typename Call>
[[gnu::always_inline]] inline CUresult launch(const compute::Arguments& arguments, CUfunction function,
                                              const compute::Shape& shape, CUstream stream,
                                              Call call) noexcept {
  compute::ThreadState* thread = counting_thread();
  const auto describe = [&]() noexcept {
    return compute::Work{compute::launch_key(function, shape), compute::named_stream<PerThread>(stream), 0,
                         false, arguments};
  };
  bool repeated = false;
  const CUresult answer = compute::submit(thread, describe, call, repeated);
  if (answer != CUDA_SUCCESS || thread == nullptr) [[unlikely]]
    return answer;
  thread->count(compute::Counter::Launches, 1);
  if (!repeated && thread->is_new(function)) [[unlikely]] { // the driver may load it now
    if (Limiter* here = limiter())
      here->overhead.may_have_grown_anywhere();
  }
  return answer;
}

struct LaunchKernelObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  [[gnu::always_inline]] static CUresult
  around(Call call, CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
         unsigned bz, unsigned shared, CUstream stream, void** parameters, void** extra = nullptr) noexcept {
    return launch<PerThread>({function, parameters, extra}, function, {gx, gy, gz, bx, by, bz, shared},
                             stream, call);
  }
};
template <>
struct Observer<cuLaunchKernel_entry> : LaunchKernelObserver {};
template <>
struct Observer<cuLaunchCooperativeKernel_entry> : LaunchKernelObserver {};
template <>
struct Observer<cuLaunchKernelEx_entry> {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  [[gnu::always_inline]] static CUresult around(Call call, const CUlaunchConfig* config, CUfunction function,
                                                void** parameters, void** extra) noexcept {
    if (config == nullptr)
      return call();
    return launch<PerThread>({function, parameters, extra}, function,
                             {config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX,
                              config->blockDimY, config->blockDimZ, config->sharedMemBytes},
                             config->hStream, call);
  }
};

// The block's shape and the shared memory of these stand in the function.
struct LaunchGridObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  static CUresult around(Call call, CUfunction function, int width = 1, int height = 1,
                         CUstream stream = nullptr) noexcept {
    const compute::Shape shape{static_cast<unsigned>(width), static_cast<unsigned>(height), 1, 0, 0, 0, 0};
    return launch<PerThread>({}, function, shape, stream, call);
  }
};
template <>
struct Observer<cuLaunch_entry> : LaunchGridObserver {};
template <>
struct Observer<cuLaunchGrid_entry> : LaunchGridObserver {};
template <>
struct Observer<cuLaunchGridAsync_entry> : LaunchGridObserver {};

// Kernels on several devices at once: each device is asked for in its turn, and all are launched together.
template <>
struct Observer<cuLaunchCooperativeKernelMultiDevice_entry> {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  static CUresult around(Call call, CUDA_LAUNCH_PARAMS* list, unsigned int devices, unsigned int) noexcept {
    compute::ThreadState* thread = counting_thread();
    const CUresult answer = list == nullptr ? call() : next<PerThread>(thread, call, list, devices);
    if (answer == CUDA_SUCCESS && thread != nullptr)
      thread->count(compute::Counter::Launches, devices);
    return answer;
  }

 private:
  template <bool PerThread, typename Call>
  static CUresult next(compute::ThreadState* thread, Call call, const CUDA_LAUNCH_PARAMS* list,
                       unsigned int left) noexcept {
    CUcontext context = nullptr, current = nullptr;
    if (left == 0 || left > layout::kMaxDevices || driver().cuCtxGetCurrent(&current) != CUDA_SUCCESS ||
        driver().cuStreamGetCtx(list->hStream, &context) != CUDA_SUCCESS)
      return call();
    const compute::Shape shape{list->gridDimX,  list->gridDimY,  list->gridDimZ,      list->blockDimX,
                               list->blockDimY, list->blockDimZ, list->sharedMemBytes};
    const compute::Work work{compute::launch_key(list->function, shape),
                             compute::named_stream<PerThread>(list->hStream),
                             0,
                             false,
                             {list->function, list->kernelParams, nullptr}};
    const compute::ContextScope there(context);
    const auto describe = [&]() noexcept { return work; };
    return compute::submit(thread, describe, [&] {
      const compute::ContextScope back(current);
      return next<PerThread>(thread, call, list + 1, left - 1);
    });
  }
};

template <>
struct Observer<cuGraphLaunch_entry> {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  [[gnu::always_inline]] static CUresult around(Call call, CUgraphExec graph, CUstream stream) noexcept {
    compute::ThreadState* thread = counting_thread();
    const auto describe = [&]() noexcept {
      return compute::Work{
          compute::launch_key(graph, {}), compute::named_stream<PerThread>(stream), 0, false, {}};
    };
    const CUresult answer = compute::submit(thread, describe, call);
    if (answer == CUDA_SUCCESS && thread != nullptr)
      thread->count(compute::Counter::GraphLaunches, 1);
    return answer;
  }
};

// Copies and sets.
template <typename Call>
[[gnu::always_inline]] inline CUresult copy(compute::Counter direction, std::uint64_t bytes, CUstream stream,
                                            bool waits, Call call, std::uint64_t copies = 1) noexcept {
  using compute::Counter;
  using compute::Transfer;
  compute::ThreadState* thread = counting_thread();
  const auto describe = [&]() noexcept {
    const Transfer kind = direction == Counter::ToDevice ? Transfer::ToDevice
                          : direction == Counter::ToHost ? Transfer::ToHost
                                                         : Transfer::OnDevice;
    return compute::transfer(kind, bytes, stream, waits);
  };
  const CUresult answer = compute::submit(thread, describe, call);
  if (answer == CUDA_SUCCESS && thread != nullptr) {
    thread->count(Counter::Copies, copies);
    thread->count(direction, bytes);
  }
  return answer;
}

// The last argument of all these, where it is a stream; those without one return when the work is done.
template <typename... Arguments>
struct Ending {
  using Last = std::tuple_element_t<sizeof...(Arguments) - 1, std::tuple<Arguments...>>;
  static constexpr bool kWaits = !std::is_same_v<Last, CUstream>;
};
template <bool PerThread, typename... Arguments>
CUstream stream_of(Arguments... arguments) noexcept {
  const auto last = std::get<sizeof...(Arguments) - 1>(std::tuple(arguments...));
  if constexpr (Ending<Arguments...>::kWaits)
    return compute::named_stream<PerThread>(nullptr);
  else
    return compute::named_stream<PerThread>(last);
}
template <unsigned Position, typename... Arguments>
std::uint64_t number_at(Arguments... arguments) noexcept {
  return std::get<Position>(std::tuple(arguments...));
}

// Copies whose size is the `Size`-th argument.
template <compute::Counter Direction, unsigned Size>
struct CopyObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call, typename... Arguments>
  [[gnu::always_inline]] static CUresult around(Call call, Arguments... arguments) noexcept {
    return copy(Direction, number_at<Size>(arguments...), stream_of<PerThread>(arguments...),
                Ending<Arguments...>::kWaits, call);
  }
};
using ToDevice2 = CopyObserver<compute::Counter::ToDevice, 2>;
using ToDevice3 = CopyObserver<compute::Counter::ToDevice, 3>;
using ToHost2 = CopyObserver<compute::Counter::ToHost, 2>;
using ToHost3 = CopyObserver<compute::Counter::ToHost, 3>;
using OnDevice2 = CopyObserver<compute::Counter::OnDevice, 2>;
using OnDevice3 = CopyObserver<compute::Counter::OnDevice, 3>;
using OnDevice4 = CopyObserver<compute::Counter::OnDevice, 4>;
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
  template <bool PerThread, typename Call, typename Copy, typename... Stream>
  static CUresult around(Call call, const Copy* described, Stream... stream) noexcept {
    if (described == nullptr)
      return call();
    std::uint64_t bytes = std::uint64_t{described->WidthInBytes} * described->Height;
    if constexpr (requires { described->Depth; })
      bytes *= described->Depth;
    return copy(direction(*described), bytes, stream_of<PerThread>(described, stream...),
                Ending<const Copy*, Stream...>::kWaits, call);
  }

 private:
  template <typename Copy>
  static compute::Counter direction(const Copy& copy) noexcept {
    if (copy.srcMemoryType == CU_MEMORYTYPE_HOST)
      return compute::Counter::ToDevice;
    return copy.dstMemoryType == CU_MEMORYTYPE_HOST ? compute::Counter::ToHost : compute::Counter::OnDevice;
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

// Batches count as many copies as they hold.
struct BatchObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call, typename... Rest>
  static CUresult around(Call call, CUdeviceptr* targets, CUdeviceptr* sources, std::size_t* sizes,
                         std::size_t copies, Rest... rest) noexcept {
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; sizes != nullptr && i < copies; ++i)
      bytes += sizes[i];
    return copy(compute::Counter::OnDevice, bytes,
                stream_of<PerThread>(targets, sources, sizes, copies, rest...), false, call, copies);
  }
};
template <>
struct Observer<cuMemcpyBatchAsync_entry> : BatchObserver {};

// Copies of boxes whose ends stand in operands; prefetches of managed memory.
inline std::uint64_t bytes_of(const CUextent3D& extent) noexcept {
  return std::uint64_t{extent.width} * extent.height * extent.depth;
}
template <>
struct Observer<cuMemcpy3DBatchAsync_entry> {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call, typename... Rest>
  static CUresult around(Call call, std::size_t copies, CUDA_MEMCPY3D_BATCH_OP* operations,
                         Rest... rest) noexcept {
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; operations != nullptr && i < copies; ++i)
      bytes += bytes_of(operations[i].extent);
    return copy(compute::Counter::OnDevice, bytes, stream_of<PerThread>(copies, operations, rest...), false,
                call, copies);
  }
};
template <>
struct Observer<cuMemcpy3DWithAttributesAsync_entry> {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call>
  static CUresult around(Call call, CUDA_MEMCPY3D_BATCH_OP* operation, unsigned long long,
                         CUstream stream) noexcept {
    if (operation == nullptr)
      return call();
    return copy(compute::Counter::OnDevice, bytes_of(operation->extent),
                compute::named_stream<PerThread>(stream), false, call);
  }
};

template <typename Call>
CUresult set(std::uint64_t elements, CUstream stream, bool waits, Call call) noexcept {
  const auto describe = [&]() noexcept {
    return compute::transfer(compute::Transfer::Set, elements, stream, waits);
  };
  return compute::submit(counting_thread(), describe, call);
}

template <unsigned Size>
struct SetObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call, typename... Arguments>
  static CUresult around(Call call, Arguments... arguments) noexcept {
    return set(number_at<Size>(arguments...), stream_of<PerThread>(arguments...),
               Ending<Arguments...>::kWaits, call);
  }
};
template <>
struct Observer<cuMemsetD8_entry> : SetObserver<2> {};
template <>
struct Observer<cuMemsetD8Async_entry> : SetObserver<2> {};
template <>
struct Observer<cuMemsetD16_entry> : SetObserver<2> {};
template <>
struct Observer<cuMemsetD16Async_entry> : SetObserver<2> {};
template <>
struct Observer<cuMemsetD32_entry> : SetObserver<2> {};
template <>
struct Observer<cuMemsetD32Async_entry> : SetObserver<2> {};
template <>
struct Observer<cuMemPrefetchAsync_entry> : SetObserver<1> {};

// By rows and their width: an element more or less of width makes no other price.
struct SetRowsObserver {
  static constexpr bool kObserves = true;
  template <bool PerThread, typename Call, typename... Arguments>
  static CUresult around(Call call, Arguments... arguments) noexcept {
    const std::uint64_t elements = number_at<3>(arguments...) * number_at<4>(arguments...);
    return set(elements, stream_of<PerThread>(arguments...), Ending<Arguments...>::kWaits, call);
  }
};
template <>
struct Observer<cuMemsetD2D8_entry> : SetRowsObserver {};
template <>
struct Observer<cuMemsetD2D8Async_entry> : SetRowsObserver {};
template <>
struct Observer<cuMemsetD2D16_entry> : SetRowsObserver {};
template <>
struct Observer<cuMemsetD2D16Async_entry> : SetRowsObserver {};
template <>
struct Observer<cuMemsetD2D32_entry> : SetRowsObserver {};
template <>
struct Observer<cuMemsetD2D32Async_entry> : SetRowsObserver {};

} // namespace aliquot::limiter
