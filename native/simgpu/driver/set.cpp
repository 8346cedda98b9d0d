// Sets: a pattern of 1, 2 or 4 bytes over device memory, in one or two dimensions.
#include "native/simgpu/driver/endpoint.hpp"
#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

// `width` in elements.
CUresult set(CUdeviceptr to, std::size_t pitch, std::uint32_t pattern, unsigned element, std::size_t width,
             std::size_t height, CUstream handle) {
  return with_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    if (width == 0 || height == 0)
      return CUDA_SUCCESS;
    std::size_t row = 0, span = 0;
    if (__builtin_mul_overflow(width, std::size_t{element}, &row) || to % element != 0)
      return CUDA_ERROR_INVALID_VALUE;
    if (height > 1 && (pitch < row || pitch % element != 0))
      return CUDA_ERROR_INVALID_VALUE;
    if (__builtin_mul_overflow(pitch, height - 1, &span) || __builtin_add_overflow(span, row, &span))
      return CUDA_ERROR_INVALID_VALUE;
    Endpoint target;
    if (resolve_endpoint(driver, to, span, Role::Device, target) != CUDA_SUCCESS)
      return CUDA_ERROR_INVALID_VALUE;
    const Pitched layout{target.at, height == 1 ? row : pitch, 0};
    Executor& executor = Executor::instance();
    const std::uint64_t sequence = executor.submit(
        stream, std::make_unique<SetCommand>(layout, Extent3D{row, height, 1}, pattern, element));
    // Device memory is set asynchronously; host memory is to be there when the call returns.
    if (target.device)
      executor.run_light(stream);
    else
      executor.wait(stream, sequence);
    return CUDA_SUCCESS;
  });
}

} // namespace

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
