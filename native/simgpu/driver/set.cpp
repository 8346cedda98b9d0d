// Sets: a pattern of 1, 2 or 4 bytes over device memory, in one or two dimensions.
#include "native/simgpu/driver/copy_box.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/graph/capture.hpp"

using namespace aliquot::simgpu::driver;

namespace {

// `width` in elements.
CUresult set(CUdeviceptr to, std::size_t pitch, std::uint32_t pattern, unsigned element, std::size_t width,
             std::size_t height, CUstream handle) {
  return with_capturable_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    if (width == 0 || height == 0)
      return CUDA_SUCCESS;
    if (stream->capturing)
      return capture_set(*stream, {to, pitch, pattern, element, width, height, nullptr});
    bool on_device = false;
    std::unique_ptr<Command> command;
    const CUresult made =
        make_set_command(driver, {to, pitch, pattern, element, width, height, nullptr}, command, &on_device);
    if (made != CUDA_SUCCESS)
      return made;
    Executor& executor = Executor::instance();
    const std::uint64_t sequence = executor.submit(stream, std::move(command));
    // Device memory is set asynchronously; host memory is to be there when the call returns.
    if (on_device)
      executor.run_light(stream);
    else
      executor.wait(stream, sequence);
    return CUDA_SUCCESS;
  });
}

} // namespace

CUresult aliquot::simgpu::driver::make_set_command(Driver& driver, const CUDA_MEMSET_NODE_PARAMS_v2& what,
                                                   std::unique_ptr<Command>& command, bool* on_device) {
  const std::size_t element = what.elementSize;
  if ((element != 1 && element != 2 && element != 4) || what.width == 0 || what.height == 0)
    return CUDA_ERROR_INVALID_VALUE;
  std::size_t row = 0, span = 0;
  if (__builtin_mul_overflow(what.width, element, &row) || what.dst % element != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (what.height > 1 && (what.pitch < row || what.pitch % element != 0))
    return CUDA_ERROR_INVALID_VALUE;
  if (__builtin_mul_overflow(what.pitch, what.height - 1, &span) || __builtin_add_overflow(span, row, &span))
    return CUDA_ERROR_INVALID_VALUE;
  Endpoint target;
  if (resolve_endpoint(driver, what.dst, span, Role::Device, target, true) != CUDA_SUCCESS)
    return CUDA_ERROR_INVALID_VALUE;
  const Pitched layout{target.at, what.height == 1 ? row : what.pitch, 0};
  command = std::make_unique<SetCommand>(layout, Extent3D{row, what.height, 1}, what.value, what.elementSize);
  if (on_device != nullptr)
    *on_device = target.device;
  return CUDA_SUCCESS;
}

extern "C" {

ALIQUOT_EXPORT CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
  return set(to, 0, value, 1, count, 1, nullptr);
}
ALIQUOT_EXPORT CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) {
  return set(to, 0, value, 2, count, 1, nullptr);
}
ALIQUOT_EXPORT CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int value, size_t count) {
  return set(to, 0, value, 4, count, 1, nullptr);
}
ALIQUOT_EXPORT CUresult cuMemsetD2D8_v2(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                                        size_t height) {
  return set(to, pitch, value, 1, width, height, nullptr);
}
ALIQUOT_EXPORT CUresult cuMemsetD2D16_v2(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                                         size_t height) {
  return set(to, pitch, value, 2, width, height, nullptr);
}
ALIQUOT_EXPORT CUresult cuMemsetD2D32_v2(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                                         size_t height) {
  return set(to, pitch, value, 4, width, height, nullptr);
}
ALIQUOT_EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  return set(to, 0, value, 1, count, 1, stream);
}
ALIQUOT_EXPORT CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count,
                                         CUstream stream) {
  return set(to, 0, value, 2, count, 1, stream);
}
ALIQUOT_EXPORT CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream stream) {
  return set(to, 0, value, 4, count, 1, stream);
}
ALIQUOT_EXPORT CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width,
                                          size_t height, CUstream stream) {
  return set(to, pitch, value, 1, width, height, stream);
}
ALIQUOT_EXPORT CUresult cuMemsetD2D16Async(CUdeviceptr to, size_t pitch, unsigned short value, size_t width,
                                           size_t height, CUstream stream) {
  return set(to, pitch, value, 2, width, height, stream);
}
ALIQUOT_EXPORT CUresult cuMemsetD2D32Async(CUdeviceptr to, size_t pitch, unsigned int value, size_t width,
                                           size_t height, CUstream stream) {
  return set(to, pitch, value, 4, width, height, stream);
}

} // extern "C"
