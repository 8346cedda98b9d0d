// Pools by location: the pool of a card, named by where it is and what it gives. The host has no pools here.
#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

bool is_place_of_the_host(CUmemLocationType type) noexcept {
  return type == CU_MEM_LOCATION_TYPE_HOST || type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
         type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

CUresult check(const CUmemLocation* location, CUmemAllocationType type) noexcept {
  if (location == nullptr ||
      (type != CU_MEM_ALLOCATION_TYPE_PINNED && type != CU_MEM_ALLOCATION_TYPE_MANAGED))
    return CUDA_ERROR_INVALID_VALUE;
  if (location->type == CU_MEM_LOCATION_TYPE_NONE && type == CU_MEM_ALLOCATION_TYPE_MANAGED)
    return CUDA_ERROR_NOT_SUPPORTED;
  if (is_place_of_the_host(location->type))
    return CUDA_ERROR_NOT_SUPPORTED;
  if (location->type != CU_MEM_LOCATION_TYPE_DEVICE)
    return CUDA_ERROR_INVALID_VALUE;
  return type == CU_MEM_ALLOCATION_TYPE_PINNED ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemGetDefaultMemPool(CUmemoryPool* pool, CUmemLocation* location,
                                               CUmemAllocationType type) {
  return with_driver([&](Driver&) {
    const CUresult checked = check(location, type);
    return checked == CUDA_SUCCESS ? cuDeviceGetDefaultMemPool(pool, location->id) : checked;
  });
}

ALIQUOT_EXPORT CUresult cuMemGetMemPool(CUmemoryPool* pool, CUmemLocation* location,
                                        CUmemAllocationType type) {
  return with_driver([&](Driver&) {
    const CUresult checked = check(location, type);
    return checked == CUDA_SUCCESS ? cuDeviceGetMemPool(pool, location->id) : checked;
  });
}

ALIQUOT_EXPORT CUresult cuMemSetMemPool(CUmemLocation* location, CUmemAllocationType type,
                                        CUmemoryPool pool) {
  return with_driver([&](Driver&) {
    const CUresult checked = check(location, type);
    return checked == CUDA_SUCCESS ? cuDeviceSetMemPool(location->id, pool) : checked;
  });
}

} // extern "C"
