// Copies between arrays and linear memory by offset: each becomes a box.
#include "native/simgpu/driver/copy_box.hpp"
#include "native/simgpu/driver/core/array.hpp"
#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

// `offset` and `bytes` of an array as a part of one row, or as whole rows.
struct Rows {
  std::size_t x = 0, y = 0, width = 0, height = 0;
};

CUresult rows_of(CUarray handle, std::size_t offset, std::size_t bytes, Rows& rows) {
  const auto array = Driver::instance().arrays.find(handle);
  if (!array)
    return CUDA_ERROR_INVALID_HANDLE;
  const std::size_t row = array->row_bytes();
  rows = {offset % row, offset / row, bytes, 1};
  if (bytes <= row - rows.x)
    return CUDA_SUCCESS;
  rows = {0, offset / row, row, bytes / row};
  return offset % row == 0 && bytes % row == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

void from_array(CUDA_MEMCPY3D& box, CUarray array, const Rows& rows) noexcept {
  box.srcMemoryType = CU_MEMORYTYPE_ARRAY;
  box.srcArray = array;
  box.srcXInBytes = rows.x;
  box.srcY = rows.y;
}

void to_array(CUDA_MEMCPY3D& box, CUarray array, const Rows& rows) noexcept {
  box.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  box.dstArray = array;
  box.dstXInBytes = rows.x;
  box.dstY = rows.y;
}

CUDA_MEMCPY3D box_of(const Rows& rows) noexcept {
  // Both sides' types are set by who asks for it.
  CUDA_MEMCPY3D box{}; // NOLINT(bugprone-invalid-enum-default-initialization)
  box.WidthInBytes = rows.width;
  box.Height = rows.height;
  box.Depth = 1;
  return box;
}

// Which side of a box the array is: from_array or to_array.
using ArraySide = void (*)(CUDA_MEMCPY3D& box, CUarray array, const Rows& rows) noexcept;

struct Part {
  CUarray array;
  std::size_t offset, bytes;
};

// `place` names the side that is linear memory.
template <class Place>
CUresult copy_part(ArraySide side, const Part& part, Place place, CUstream stream, bool blocking) {
  return with_context([&](Driver&, const ContextPtr&) {
    Rows rows;
    if (const CUresult found = rows_of(part.array, part.offset, part.bytes, rows); found != CUDA_SUCCESS)
      return found;
    CUDA_MEMCPY3D box = box_of(rows);
    side(box, part.array, rows);
    place(box);
    return copy_box(box, stream, blocking);
  });
}

auto from_host(const void* pointer) noexcept {
  return [pointer](CUDA_MEMCPY3D& box) {
    box.srcMemoryType = CU_MEMORYTYPE_HOST;
    box.srcHost = pointer;
  };
}

auto to_host(void* pointer) noexcept {
  return [pointer](CUDA_MEMCPY3D& box) {
    box.dstMemoryType = CU_MEMORYTYPE_HOST;
    box.dstHost = pointer;
  };
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemcpyDtoA_v2(CUarray to, size_t offset, CUdeviceptr from, size_t bytes) {
  const auto place = [from](CUDA_MEMCPY3D& box) {
    box.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    box.srcDevice = from;
  };
  return copy_part(to_array, {to, offset, bytes}, place, nullptr, true);
}

ALIQUOT_EXPORT CUresult cuMemcpyAtoD_v2(CUdeviceptr to, CUarray from, size_t offset, size_t bytes) {
  const auto place = [to](CUDA_MEMCPY3D& box) {
    box.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    box.dstDevice = to;
  };
  return copy_part(from_array, {from, offset, bytes}, place, nullptr, true);
}

ALIQUOT_EXPORT CUresult cuMemcpyHtoA_v2(CUarray to, size_t offset, const void* from, size_t bytes) {
  return copy_part(to_array, {to, offset, bytes}, from_host(from), nullptr, true);
}

ALIQUOT_EXPORT CUresult cuMemcpyAtoH_v2(void* to, CUarray from, size_t offset, size_t bytes) {
  return copy_part(from_array, {from, offset, bytes}, to_host(to), nullptr, true);
}

ALIQUOT_EXPORT CUresult cuMemcpyHtoAAsync_v2(CUarray to, size_t offset, const void* from, size_t bytes,
                                             CUstream stream) {
  return copy_part(to_array, {to, offset, bytes}, from_host(from), stream, false);
}

ALIQUOT_EXPORT CUresult cuMemcpyAtoHAsync_v2(void* to, CUarray from, size_t offset, size_t bytes,
                                             CUstream stream) {
  return copy_part(from_array, {from, offset, bytes}, to_host(to), stream, false);
}

ALIQUOT_EXPORT CUresult cuMemcpyAtoA_v2(CUarray to, size_t to_offset, CUarray from, size_t from_offset,
                                        size_t bytes) {
  return with_context([&](Driver&, const ContextPtr&) {
    Rows source, target;
    if (const CUresult found = rows_of(from, from_offset, bytes, source); found != CUDA_SUCCESS)
      return found;
    if (const CUresult found = rows_of(to, to_offset, bytes, target); found != CUDA_SUCCESS)
      return found;
    if (source.width != target.width)
      return CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D box = box_of(source);
    from_array(box, from, source);
    to_array(box, to, target);
    return copy_box(box, nullptr, true);
  });
}

} // extern "C"
