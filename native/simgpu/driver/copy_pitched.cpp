// Copies in two and three dimensions, between the host, devices and arrays.
#include "native/simgpu/driver/copy_box.hpp"
#include "native/simgpu/driver/core/array.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/graph/capture.hpp"

using namespace aliquot::simgpu::driver;

namespace {

// One side of CUDA_MEMCPY2D or CUDA_MEMCPY3D, without its type.
struct Side {
  CUmemorytype type;
  std::uint64_t host, device;
  std::size_t x, y, z, pitch, height;
  CUarray array;
  bool writes; // the copy's target
};

bool multiply_add(std::size_t a, std::size_t b, std::size_t c, std::size_t& result) noexcept {
  return !__builtin_mul_overflow(a, b, &result) && !__builtin_add_overflow(result, c, &result);
}

// An array has its own pitches, and elements that are not to be cut.
CUresult resolve_array(Driver& driver, const Side& side, const Extent3D& extent, Endpoint& endpoint,
                       Pitched& layout) {
  const auto array = driver.arrays.find(side.array);
  if (!array)
    return CUDA_ERROR_INVALID_HANDLE;
  const auto inside = [](std::size_t begin, std::size_t count, std::size_t all) {
    return begin <= all && count <= all - begin;
  };
  if (side.x % array->element != 0 || extent.width % array->element != 0 ||
      !inside(side.x, extent.width, array->row_bytes()) || !inside(side.y, extent.height, array->rows()) ||
      !inside(side.z, extent.depth, array->slices()))
    return CUDA_ERROR_INVALID_VALUE;
  const std::size_t row = array->row_bytes(), slice = row * array->rows();
  endpoint.at = driver.space.bytes_at(array->address()) + side.z * slice + side.y * row + side.x;
  endpoint.device = true;
  layout = {endpoint.at, row, slice};
  return CUDA_SUCCESS;
}

// Finds where the box lies and checks that it is all there.
CUresult resolve_side(Driver& driver, Side side, const Extent3D& extent, Endpoint& endpoint,
                      Pitched& layout) {
  if (side.type == CU_MEMORYTYPE_ARRAY)
    return resolve_array(driver, side, extent, endpoint, layout);
  if (side.type < CU_MEMORYTYPE_HOST || side.type > CU_MEMORYTYPE_UNIFIED)
    return CUDA_ERROR_INVALID_VALUE;
  std::size_t row_end = 0;
  if (__builtin_add_overflow(side.x, extent.width, &row_end))
    return CUDA_ERROR_INVALID_VALUE;
  if (side.pitch == 0)
    side.pitch = row_end;
  if (side.height == 0)
    side.height = side.y + extent.height;
  if (side.pitch < row_end || side.height < extent.height)
    return CUDA_ERROR_INVALID_VALUE;
  std::size_t slice = 0, offset = 0, span = 0;
  if (!multiply_add(side.pitch, side.height, 0, slice) || !multiply_add(side.pitch, side.y, side.x, offset) ||
      !multiply_add(slice, side.z, offset, offset) ||
      !multiply_add(side.pitch, extent.height - 1, extent.width, span) ||
      !multiply_add(slice, extent.depth - 1, span, span))
    return CUDA_ERROR_INVALID_VALUE;
  const bool host = side.type == CU_MEMORYTYPE_HOST;
  const Role role = host ? Role::Host : side.type == CU_MEMORYTYPE_DEVICE ? Role::Device : Role::Unified;
  const std::uint64_t start = host ? side.host : side.device;
  std::uint64_t address = 0;
  if (start == 0 || __builtin_add_overflow(start, offset, &address))
    return CUDA_ERROR_INVALID_VALUE;
  const CUresult resolved = resolve_endpoint(driver, address, span, role, endpoint, side.writes);
  layout = {endpoint.at, side.pitch, slice};
  return resolved;
}

// What the descriptions of two and of three dimensions have in common.
template <class Parameters>
CUDA_MEMCPY3D box_of(const Parameters& what) noexcept {
  // Both memory types are set below. NOLINTNEXTLINE(bugprone-invalid-enum-default-initialization)
  CUDA_MEMCPY3D box{};
  box.srcXInBytes = what.srcXInBytes;
  box.srcY = what.srcY;
  box.srcMemoryType = what.srcMemoryType;
  box.srcHost = what.srcHost;
  box.srcDevice = what.srcDevice;
  box.srcArray = what.srcArray;
  box.srcPitch = what.srcPitch;
  box.dstXInBytes = what.dstXInBytes;
  box.dstY = what.dstY;
  box.dstMemoryType = what.dstMemoryType;
  box.dstHost = what.dstHost;
  box.dstDevice = what.dstDevice;
  box.dstArray = what.dstArray;
  box.dstPitch = what.dstPitch;
  return box;
}

CUresult copy_2d(const CUDA_MEMCPY2D* what, CUstream stream, bool blocking) {
  if (what == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  CUDA_MEMCPY3D box = box_of(*what);
  box.WidthInBytes = what->WidthInBytes;
  box.Height = what->Height;
  box.Depth = 1;
  return copy_box(box, stream, blocking);
}

// CUDA_MEMCPY3D and CUDA_MEMCPY3D_PEER have the fields that matter here under the same names.
template <class Parameters>
CUresult copy_3d(const Parameters* what, CUstream stream, bool blocking) {
  if (what == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  CUDA_MEMCPY3D box = box_of(*what);
  box.srcZ = what->srcZ;
  box.dstZ = what->dstZ;
  box.srcLOD = what->srcLOD;
  box.dstLOD = what->dstLOD;
  box.srcHeight = what->srcHeight;
  box.dstHeight = what->dstHeight;
  box.WidthInBytes = what->WidthInBytes;
  box.Height = what->Height;
  box.Depth = what->Depth;
  return copy_box(box, stream, blocking);
}

} // namespace

// A copy that blocks cannot be captured: it is to be over when the call returns.
CUresult aliquot::simgpu::driver::copy_box(const CUDA_MEMCPY3D& what, CUstream handle, bool blocking) {
  const auto run = [&](Driver& driver, const StreamPtr& stream) {
    if (what.WidthInBytes == 0 || what.Height == 0 || what.Depth == 0)
      return CUDA_SUCCESS;
    if (stream->capturing)
      return capture_box(*stream, what);
    ResolvedBox box;
    if (const CUresult found = resolve_box(driver, what, box); found != CUDA_SUCCESS)
      return found;
    return submit_copy(stream, box.to, box.from, box.to_layout, box.from_layout, box.extent, blocking);
  };
  return blocking ? with_stream(handle, run) : with_capturable_stream(handle, run);
}

CUresult aliquot::simgpu::driver::resolve_box(Driver& driver, const CUDA_MEMCPY3D& what, ResolvedBox& box) {
  if (what.srcLOD != 0 || what.dstLOD != 0 || what.WidthInBytes == 0 || what.Height == 0 || what.Depth == 0)
    return CUDA_ERROR_INVALID_VALUE;
  const Side to{what.dstMemoryType, reinterpret_cast<std::uint64_t>(what.dstHost),
                what.dstDevice,     what.dstXInBytes,
                what.dstY,          what.dstZ,
                what.dstPitch,      what.dstHeight,
                what.dstArray,      true};
  const Side from{what.srcMemoryType, reinterpret_cast<std::uint64_t>(what.srcHost),
                  what.srcDevice,     what.srcXInBytes,
                  what.srcY,          what.srcZ,
                  what.srcPitch,      what.srcHeight,
                  what.srcArray,      false};
  box.extent = {what.WidthInBytes, what.Height, what.Depth};
  const CUresult found = resolve_side(driver, to, box.extent, box.to, box.to_layout);
  return found == CUDA_SUCCESS ? resolve_side(driver, from, box.extent, box.from, box.from_layout) : found;
}

extern "C" {

ALIQUOT_EXPORT CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* what) {
  return copy_2d(what, nullptr, true);
}
ALIQUOT_EXPORT CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* what) {
  return copy_2d(what, nullptr, true);
}
ALIQUOT_EXPORT CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* what, CUstream stream) {
  return copy_2d(what, stream, false);
}
ALIQUOT_EXPORT CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D* what) {
  return copy_3d(what, nullptr, true);
}
ALIQUOT_EXPORT CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D* what, CUstream stream) {
  return copy_3d(what, stream, false);
}
ALIQUOT_EXPORT CUresult cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER* what) {
  return copy_3d(what, nullptr, true);
}
ALIQUOT_EXPORT CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER* what, CUstream stream) {
  return copy_3d(what, stream, false);
}

} // extern "C"
