// Batches of copies, and single ones with attributes. All of a batch is checked before any of it is
// submitted.
#include <cstdint>
#include <vector>

#include "native/simgpu/driver/copy_box.hpp"
#include "native/simgpu/driver/core/array.hpp"
#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

struct Copy {
  ResolvedBox box;
  CUmemcpySrcAccessOrder order = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID;
};

// Where a batch fails: at one of its copies, or (kNowhere) as a whole.
constexpr std::size_t kNowhere = SIZE_MAX;

bool attributes_are_good(CUmemcpySrcAccessOrder order, unsigned flags) noexcept {
  return order >= CU_MEMCPY_SRC_ACCESS_ORDER_STREAM && order <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY &&
         (flags & ~unsigned{CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE}) == 0;
}

// body(Driver&, const StreamPtr&), on a stream that takes batches: any but the legacy default one.
template <class Body>
CUresult with_batch_stream(CUstream handle, Body body) {
  return with_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    return stream->kind() == Stream::Kind::Legacy ? CUDA_ERROR_INVALID_VALUE : body(driver, stream);
  });
}

CUresult submit(const StreamPtr& stream, const std::vector<Copy>& copies) {
  for (const Copy& each : copies) {
    // What is to be read during the call is read when the copy is done.
    const bool during_call = each.order == CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL;
    const CUresult submitted =
        submit_copy(stream, each.box.to, each.box.from, each.box.to_layout, each.box.from_layout,
                    each.box.extent, during_call && !each.box.from.device);
    if (submitted != CUDA_SUCCESS)
      return submitted;
    if (during_call && each.box.from.device)
      Executor::instance().wait_idle(stream);
  }
  return CUDA_SUCCESS;
}

CUresult resolve_linear(Driver& driver, CUdeviceptr to, CUdeviceptr from, std::size_t bytes, Copy& copy) {
  // NOLINTNEXTLINE(bugprone-invalid-enum-default-initialization) -- set below
  CUDA_MEMCPY3D what{};
  what.srcMemoryType = what.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
  what.srcDevice = from;
  what.dstDevice = to;
  what.WidthInBytes = bytes;
  what.Height = what.Depth = 1;
  return resolve_box(driver, what, copy.box) == CUDA_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

struct Attributes {
  const CUmemcpyAttributes* each = nullptr;
  const std::size_t* first = nullptr; // index of the first copy that each applies to
  std::size_t count = 0;
};

bool indices_ascend(const std::size_t* first, std::size_t count, std::size_t copies) noexcept {
  if (first == nullptr || count == 0 || count > copies || first[0] != 0)
    return false;
  for (std::size_t i = 1; i < count; ++i)
    if (first[i] <= first[i - 1])
      return false;
  return first[count - 1] < copies;
}

CUresult copy_batch(const CUdeviceptr* to, const CUdeviceptr* from, const std::size_t* bytes,
                    std::size_t count, const Attributes& attributes, std::size_t& failed, CUstream handle) {
  failed = kNowhere;
  return with_batch_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    if (to == nullptr || from == nullptr || bytes == nullptr || count == 0 || attributes.each == nullptr ||
        !indices_ascend(attributes.first, attributes.count, count))
      return CUDA_ERROR_INVALID_VALUE;
    std::vector<Copy> copies;
    std::size_t group = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (group + 1 < attributes.count && attributes.first[group + 1] == i)
        ++group;
      const CUmemcpyAttributes& each = attributes.each[group];
      Copy copy;
      copy.order = each.srcAccessOrder;
      if (!attributes_are_good(each.srcAccessOrder, each.flags) ||
          resolve_linear(driver, to[i], from[i], bytes[i], copy) != CUDA_SUCCESS) {
        failed = i;
        return CUDA_ERROR_INVALID_VALUE;
      }
      copies.push_back(copy);
    }
    return submit(stream, copies);
  });
}

// Bytes of an element of an operand: those of an array, or 1. 0 where it is neither.
std::size_t element_of(Driver& driver, const CUmemcpy3DOperand& operand) {
  if (operand.type == CU_MEMCPY_OPERAND_TYPE_POINTER)
    return 1;
  if (operand.type != CU_MEMCPY_OPERAND_TYPE_ARRAY)
    return 0;
  const auto array = driver.arrays.find(operand.op.array.array);
  return array ? array->element : 0;
}

// One side of a box: its fields in CUDA_MEMCPY3D.
struct BoxSide {
  CUmemorytype& type;
  CUdeviceptr& address;
  CUarray& array;
  std::size_t &x, &y, &z, &pitch, &height;
};

bool describe(const CUmemcpy3DOperand& operand, const CUextent3D& extent, std::size_t element, BoxSide side) {
  if (operand.type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
    side.type = CU_MEMORYTYPE_ARRAY;
    side.array = operand.op.array.array;
    side.y = operand.op.array.offset.y;
    side.z = operand.op.array.offset.z;
    return !__builtin_mul_overflow(operand.op.array.offset.x, element, &side.x);
  }
  const auto& pointer = operand.op.ptr;
  if ((pointer.rowLength != 0 && pointer.rowLength < extent.width) ||
      (pointer.layerHeight != 0 && pointer.layerHeight < extent.height))
    return false;
  side.type = CU_MEMORYTYPE_UNIFIED;
  side.address = pointer.ptr;
  side.height = pointer.layerHeight;
  return !__builtin_mul_overflow(pointer.rowLength, element, &side.pitch);
}

CUresult resolve_operation(Driver& driver, const CUDA_MEMCPY3D_BATCH_OP& operation, Copy& copy) {
  const std::size_t from = element_of(driver, operation.src), to = element_of(driver, operation.dst);
  const bool both_arrays = operation.src.type == CU_MEMCPY_OPERAND_TYPE_ARRAY &&
                           operation.dst.type == CU_MEMCPY_OPERAND_TYPE_ARRAY;
  if (from == 0 || to == 0 || (both_arrays && from != to) ||
      !attributes_are_good(operation.srcAccessOrder, operation.flags))
    return CUDA_ERROR_INVALID_VALUE;
  const std::size_t element = from > to ? from : to; // a pointer's elements are the array's
  // NOLINTNEXTLINE(bugprone-invalid-enum-default-initialization) -- set below
  CUDA_MEMCPY3D box{};
  const BoxSide source{box.srcMemoryType, box.srcDevice, box.srcArray, box.srcXInBytes,
                       box.srcY,          box.srcZ,      box.srcPitch, box.srcHeight};
  const BoxSide target{box.dstMemoryType, box.dstDevice, box.dstArray, box.dstXInBytes,
                       box.dstY,          box.dstZ,      box.dstPitch, box.dstHeight};
  if (!describe(operation.src, operation.extent, element, source) ||
      !describe(operation.dst, operation.extent, element, target) ||
      __builtin_mul_overflow(operation.extent.width, element, &box.WidthInBytes))
    return CUDA_ERROR_INVALID_VALUE;
  box.Height = operation.extent.height;
  box.Depth = operation.extent.depth;
  copy.order = operation.srcAccessOrder;
  return resolve_box(driver, box, copy.box) == CUDA_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult copy_boxes(const CUDA_MEMCPY3D_BATCH_OP* operations, std::size_t count, unsigned long long flags,
                    std::size_t& failed, CUstream handle) {
  failed = kNowhere;
  return with_batch_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    if (operations == nullptr || count == 0 || flags != 0)
      return CUDA_ERROR_INVALID_VALUE;
    std::vector<Copy> copies;
    for (std::size_t i = 0; i < count; ++i) {
      Copy copy;
      if (resolve_operation(driver, operations[i], copy) != CUDA_SUCCESS) {
        failed = i;
        return CUDA_ERROR_INVALID_VALUE;
      }
      copies.push_back(copy);
    }
    return submit(stream, copies);
  });
}

void tell(std::size_t* out, std::size_t failed, CUresult result) noexcept {
  if (out != nullptr && result != CUDA_SUCCESS)
    *out = failed;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemcpyBatchAsync_v2(CUdeviceptr* to, CUdeviceptr* from, size_t* bytes, size_t count,
                                              CUmemcpyAttributes* attributes, size_t* first, size_t groups,
                                              CUstream stream) {
  std::size_t failed = 0;
  return copy_batch(to, from, bytes, count, {attributes, first, groups}, failed, stream);
}

ALIQUOT_EXPORT CUresult cuMemcpyBatchAsync(CUdeviceptr* to, CUdeviceptr* from, size_t* bytes, size_t count,
                                           CUmemcpyAttributes* attributes, size_t* first, size_t groups,
                                           size_t* failed_index, CUstream stream) {
  std::size_t failed = 0;
  const CUresult result = copy_batch(to, from, bytes, count, {attributes, first, groups}, failed, stream);
  tell(failed_index, failed, result);
  return result;
}

ALIQUOT_EXPORT CUresult cuMemcpyWithAttributesAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                                                    CUmemcpyAttributes* attributes, CUstream stream) {
  std::size_t failed = 0, first = 0;
  return copy_batch(&to, &from, &bytes, 1, {attributes, &first, 1}, failed, stream);
}

ALIQUOT_EXPORT CUresult cuMemcpy3DBatchAsync_v2(size_t count, CUDA_MEMCPY3D_BATCH_OP* operations,
                                                unsigned long long flags, CUstream stream) {
  std::size_t failed = 0;
  return copy_boxes(operations, count, flags, failed, stream);
}

ALIQUOT_EXPORT CUresult cuMemcpy3DBatchAsync(size_t count, CUDA_MEMCPY3D_BATCH_OP* operations,
                                             size_t* failed_index, unsigned long long flags,
                                             CUstream stream) {
  std::size_t failed = 0;
  const CUresult result = copy_boxes(operations, count, flags, failed, stream);
  tell(failed_index, failed, result);
  return result;
}

ALIQUOT_EXPORT CUresult cuMemcpy3DWithAttributesAsync(CUDA_MEMCPY3D_BATCH_OP* operation,
                                                      unsigned long long flags, CUstream stream) {
  std::size_t failed = 0;
  return copy_boxes(operation, 1, flags, failed, stream);
}

} // extern "C"
