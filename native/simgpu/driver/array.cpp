// Arrays and mipmapped arrays: made, described, destroyed. Copies of them are in `copy_array`,
// `copy_pitched`.
#include <algorithm>

#include "native/simgpu/driver/core/array.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/graph/capture_rules.hpp"

using namespace aliquot::simgpu::driver;

namespace {

using ArrayPtr = std::shared_ptr<Array>;

// The largest of cards from compute capability 7.5 on (CUDA C++ Programming Guide, table of technical
// specifications): of one, two and three dimensions, and how many layers.
constexpr std::size_t kWidest1D = 131072, kWidest2D = 131072, kTallest2D = 65536, kWidest3D = 16384;
constexpr std::size_t kWidestLayered = 32768, kMostLayers = 2048, kFaces = 6;

constexpr unsigned kKnownFlags = CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP |
                                 CUDA_ARRAY3D_TEXTURE_GATHER | CUDA_ARRAY3D_DEPTH_TEXTURE |
                                 CUDA_ARRAY3D_COLOR_ATTACHMENT;
constexpr unsigned kRefusedFlags =
    CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING | CUDA_ARRAY3D_VIDEO_ENCODE_DECODE;

bool layers_fit(const CUDA_ARRAY3D_DESCRIPTOR& what) noexcept {
  const bool cube = (what.Flags & CUDA_ARRAY3D_CUBEMAP) != 0;
  if (cube && (what.Width != what.Height || what.Depth % kFaces != 0 || what.Depth == 0))
    return false;
  if (cube && (what.Flags & CUDA_ARRAY3D_LAYERED) == 0 && what.Depth != kFaces)
    return false;
  return what.Depth != 0 && what.Depth <= kMostLayers && what.Width <= kWidestLayered &&
         what.Height <= kWidestLayered;
}

bool extents_fit(const CUDA_ARRAY3D_DESCRIPTOR& what) noexcept {
  if (what.Width == 0)
    return false;
  if ((what.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0)
    return layers_fit(what);
  if (what.Depth != 0)
    return what.Height != 0 && std::max({what.Width, what.Height, what.Depth}) <= kWidest3D;
  if ((what.Flags & CUDA_ARRAY3D_TEXTURE_GATHER) != 0 && what.Height == 0)
    return false;
  return what.Height != 0 ? what.Width <= kWidest2D && what.Height <= kTallest2D : what.Width <= kWidest1D;
}

// The size of an element, or why there can be no such array.
CUresult check(const CUDA_ARRAY3D_DESCRIPTOR& what, std::uint32_t& element) noexcept {
  bool supported = false;
  element = element_bytes(what.Format, what.NumChannels, supported);
  if (!supported || ((what.Flags & kRefusedFlags) != 0 && (what.Flags & ~(kKnownFlags | kRefusedFlags)) == 0))
    return CUDA_ERROR_NOT_SUPPORTED;
  if (element == 0 || (what.Flags & ~kKnownFlags) != 0 || !extents_fit(what))
    return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

CUresult create(CUarray* out, const CUDA_ARRAY3D_DESCRIPTOR& what) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    std::uint32_t element = 0;
    if (const CUresult checked = check(what, element); checked != CUDA_SUCCESS)
      return checked;
    const auto array = std::make_shared<Array>(what, element);
    array->memory = ArrayMemory::make(context->device(), array->bytes());
    if (!array->memory)
      return CUDA_ERROR_OUT_OF_MEMORY;
    array->context_id = context->id();
    *out = static_cast<CUarray>(driver.arrays.insert(array));
    return CUDA_SUCCESS;
  });
}

template <class Body>
CUresult with_array(CUarray handle, Body body) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    const ArrayPtr array = driver.arrays.find(handle);
    return array ? body(driver, context, array) : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUDA_ARRAY3D_DESCRIPTOR level_of(CUDA_ARRAY3D_DESCRIPTOR what, unsigned level) noexcept {
  const auto halved = [level](std::size_t extent) {
    return extent != 0 ? std::max<std::size_t>(extent >> level, 1) : 0;
  };
  what.Width = halved(what.Width);
  what.Height = halved(what.Height);
  if ((what.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) == 0)
    what.Depth = halved(what.Depth);
  return what;
}

// 1 + the binary logarithm of the largest extent; layers do not get fewer.
unsigned most_levels(const CUDA_ARRAY3D_DESCRIPTOR& what) noexcept {
  const bool layers = (what.Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) != 0;
  std::size_t largest = std::max({what.Width, what.Height, layers ? std::size_t{0} : what.Depth});
  unsigned levels = 0;
  for (; largest != 0; largest >>= 1)
    ++levels;
  return levels;
}

// All levels in one piece of memory.
CUresult create_levels(Driver& driver, const ContextPtr& context, const CUDA_ARRAY3D_DESCRIPTOR& what,
                       std::uint32_t element, unsigned count, MipmappedArray& mipmapped) {
  std::vector<ArrayPtr> levels;
  std::uint64_t bytes = 0;
  for (unsigned level = 0; level < count; ++level) {
    levels.push_back(std::make_shared<Array>(level_of(what, level), element));
    levels.back()->offset = bytes;
    bytes += (levels.back()->bytes() + kUnitBytes - 1) / kUnitBytes * kUnitBytes;
  }
  const std::shared_ptr<ArrayMemory> memory = ArrayMemory::make(context->device(), bytes);
  if (!memory)
    return CUDA_ERROR_OUT_OF_MEMORY;
  mipmapped.context_id = context->id();
  mipmapped.levels.reserve(count);
  for (const ArrayPtr& level : levels) {
    level->memory = memory;
    level->context_id = context->id();
    level->is_level = true;
    mipmapped.levels.push_back(static_cast<CUarray>(driver.arrays.insert(level)));
  }
  return CUDA_SUCCESS;
}

CUDA_ARRAY3D_DESCRIPTOR in_three_dimensions(const CUDA_ARRAY_DESCRIPTOR& what) noexcept {
  return {what.Width, what.Height, 0, what.Format, what.NumChannels, 0};
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuArrayCreate_v2(CUarray* out, const CUDA_ARRAY_DESCRIPTOR* what) {
  if (const CUresult allowed = check_unsafe_call(); allowed != CUDA_SUCCESS)
    return allowed;
  return what == nullptr ? CUDA_ERROR_INVALID_VALUE : create(out, in_three_dimensions(*what));
}

ALIQUOT_EXPORT CUresult cuArray3DCreate_v2(CUarray* out, const CUDA_ARRAY3D_DESCRIPTOR* what) {
  if (const CUresult allowed = check_unsafe_call(); allowed != CUDA_SUCCESS)
    return allowed;
  return what == nullptr ? CUDA_ERROR_INVALID_VALUE : create(out, *what);
}

ALIQUOT_EXPORT CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR* what, CUarray handle) {
  return with_array(handle, [&](Driver&, const ContextPtr&, const ArrayPtr& array) {
    if (what == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const CUDA_ARRAY3D_DESCRIPTOR& full = array->descriptor;
    *what = {full.Width, full.Height, full.Format, full.NumChannels};
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR* what, CUarray handle) {
  return with_array(handle, [&](Driver&, const ContextPtr&, const ArrayPtr& array) {
    if (what == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *what = array->descriptor;
    return CUDA_SUCCESS;
  });
}

// A level goes with its mipmapped array.
ALIQUOT_EXPORT CUresult cuArrayDestroy(CUarray handle) {
  return with_array(handle, [&](Driver& driver, const ContextPtr& context, const ArrayPtr& array) {
    if (array->is_level)
      return CUDA_ERROR_INVALID_HANDLE;
    context->synchronize();
    return driver.arrays.erase(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

// No array that this driver makes has planes, is sparse, or waits to be mapped.
ALIQUOT_EXPORT CUresult cuArrayGetPlane(CUarray*, CUarray handle, unsigned int) {
  return with_array(handle,
                    [](Driver&, const ContextPtr&, const ArrayPtr&) { return CUDA_ERROR_INVALID_VALUE; });
}

ALIQUOT_EXPORT CUresult cuArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES*, CUarray handle) {
  return with_array(handle,
                    [](Driver&, const ContextPtr&, const ArrayPtr&) { return CUDA_ERROR_INVALID_VALUE; });
}

ALIQUOT_EXPORT CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS*, CUarray handle,
                                                     CUdevice) {
  return with_array(handle,
                    [](Driver&, const ContextPtr&, const ArrayPtr&) { return CUDA_ERROR_INVALID_VALUE; });
}

ALIQUOT_EXPORT CUresult cuMipmappedArrayCreate(CUmipmappedArray* out, const CUDA_ARRAY3D_DESCRIPTOR* what,
                                               unsigned int level_count) {
  if (const CUresult allowed = check_unsafe_call(); allowed != CUDA_SUCCESS)
    return allowed;
  return with_context([&](Driver& driver, const ContextPtr& context) {
    if (out == nullptr || what == nullptr || level_count == 0)
      return CUDA_ERROR_INVALID_VALUE;
    std::uint32_t element = 0;
    if (const CUresult checked = check(*what, element); checked != CUDA_SUCCESS)
      return checked;
    const auto mipmapped = std::make_shared<MipmappedArray>();
    const unsigned count = std::min(level_count, most_levels(*what));
    const CUresult created = create_levels(driver, context, *what, element, count, *mipmapped);
    if (created == CUDA_SUCCESS)
      *out = static_cast<CUmipmappedArray>(driver.mipmapped_arrays.insert(mipmapped));
    return created;
  });
}

ALIQUOT_EXPORT CUresult cuMipmappedArrayGetLevel(CUarray* out, CUmipmappedArray handle, unsigned int level) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    const auto mipmapped = driver.mipmapped_arrays.find(handle);
    if (!mipmapped)
      return CUDA_ERROR_INVALID_HANDLE;
    if (out == nullptr || level >= mipmapped->levels.size())
      return CUDA_ERROR_INVALID_VALUE;
    *out = mipmapped->levels[level];
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMipmappedArrayDestroy(CUmipmappedArray handle) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    if (!driver.mipmapped_arrays.live(handle))
      return CUDA_ERROR_INVALID_HANDLE;
    context->synchronize();
    const auto mipmapped = driver.mipmapped_arrays.erase(handle);
    if (!mipmapped)
      return CUDA_ERROR_INVALID_HANDLE;
    for (const CUarray level : mipmapped->levels)
      driver.arrays.erase(level);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMipmappedArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES*,
                                                            CUmipmappedArray handle) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    return driver.mipmapped_arrays.live(handle) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
  });
}

ALIQUOT_EXPORT CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS*,
                                                              CUmipmappedArray handle, CUdevice) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    return driver.mipmapped_arrays.live(handle) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
  });
}

} // extern "C"
