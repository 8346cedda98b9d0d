// Hooks of arrays and mipmapped arrays. What the bytes of their texels take is reserved; what the driver's
// tiling makes of it, its own figure says, and where there is none, that is what they are charged.
#include "native/limiter/cuda/array_size.hpp"
#include "native/limiter/cuda/charging.hpp"
#include "native/limiter/cuda/physical_size.hpp"

namespace aliquot::limiter {
namespace {

// Arrays that are given their pages later.
constexpr unsigned int kWithoutMemory =
    unsigned{CUDA_ARRAY3D_SPARSE} | unsigned{CUDA_ARRAY3D_DEFERRED_MAPPING};

// More than was reserved is undone where it is over the limit; less is refunded.
template <typename Array, typename Undo>
CUresult with_tiling(Array* handle, Undo undo) noexcept {
  Limiter* here = limiter();
  Place place;
  if (here == nullptr || InsideDriver::here() || !here->overhead.is_exact() || !here->current_place(place))
    return CUDA_SUCCESS;
  return here->overhead.taking(
      place.device, [] { return CUDA_SUCCESS; },
      [&] {
        Allocation allocation;
        if (here->handles.take(as_key(*handle), allocation))
          here->refund(allocation);
        in_driver(undo);
      },
      0);
}

template <typename Array, typename Call, typename Undo>
CUresult array(Array* handle, const ArrayShape& shape, Call call, Undo undo) noexcept {
  std::uint64_t bytes = 0;
  if (!array_bytes(shape, bytes) || bytes == 0)
    return in_driver(call);
  const std::uint64_t size = whole_blocks(bytes);
  const CUresult answer =
      charged(&Limiter::handles, Charge::Rounded, handle, size, call, [size] { return size; }, undo);
  return answer == CUDA_SUCCESS ? with_tiling(handle, undo) : answer;
}

template <typename Descriptor>
ArrayShape shape_of(const Descriptor* descriptor, unsigned levels) noexcept {
  if (descriptor == nullptr)
    return {};
  ArrayShape shape{descriptor->Width,  descriptor->Height,      0,
                   descriptor->Format, descriptor->NumChannels, levels};
  if constexpr (requires { descriptor->Depth; }) {
    shape.depth = descriptor->Depth;
    shape.takes_memory = (descriptor->Flags & kWithoutMemory) == 0;
  }
  return shape;
}

template <typename Descriptor, typename Call>
CUresult plain_array(CUarray* handle, const Descriptor* descriptor, Call call) noexcept {
  return array(handle, shape_of(descriptor, 1), call, [&] { return driver().cuArrayDestroy(*handle); });
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT CUresult cuArrayCreate_v2(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR* descriptor) {
  return plain_array(handle, descriptor, [&] { return driver().cuArrayCreate_v2(handle, descriptor); });
}

ALIQUOT_EXPORT CUresult cuArrayCreate(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR_v1* descriptor) {
  return plain_array(handle, descriptor, [&] { return driver().cuArrayCreate(handle, descriptor); });
}

ALIQUOT_EXPORT CUresult cuArray3DCreate_v2(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR* descriptor) {
  return plain_array(handle, descriptor, [&] { return driver().cuArray3DCreate_v2(handle, descriptor); });
}

ALIQUOT_EXPORT CUresult cuArray3DCreate(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR_v1* descriptor) {
  return plain_array(handle, descriptor, [&] { return driver().cuArray3DCreate(handle, descriptor); });
}

ALIQUOT_EXPORT CUresult cuMipmappedArrayCreate(CUmipmappedArray* handle,
                                               const CUDA_ARRAY3D_DESCRIPTOR* descriptor,
                                               unsigned int levels) {
  return array(
      handle, shape_of(descriptor, levels),
      [&] { return driver().cuMipmappedArrayCreate(handle, descriptor, levels); },
      [&] { return driver().cuMipmappedArrayDestroy(*handle); });
}

ALIQUOT_EXPORT CUresult cuArrayDestroy(CUarray handle) {
  return refunded(&Limiter::handles, as_key(handle), [&] { return driver().cuArrayDestroy(handle); });
}

ALIQUOT_EXPORT CUresult cuMipmappedArrayDestroy(CUmipmappedArray handle) {
  return refunded(&Limiter::handles, as_key(handle),
                  [&] { return driver().cuMipmappedArrayDestroy(handle); });
}
}
