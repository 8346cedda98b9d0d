// Hooks of virtual memory management.
#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"

using namespace aliquot::limiter;

namespace {

// The driver itself may make memory this way; and without cuInit there is nobody to charge.
Limiter* accountant() noexcept {
  return InsideDriver::here() ? nullptr : limiter();
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes,
                                    const CUmemAllocationProp* properties, unsigned long long flags) {
  if (InsideDriver::here())
    return driver().cuMemCreate(handle, bytes, properties, flags);
  Limiter* here = limiter();
  return here != nullptr ? here->virtual_memory.create(handle, bytes, properties, flags)
                         : CUDA_ERROR_NOT_INITIALIZED;
}

ALIQUOT_EXPORT CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* address) {
  Limiter* here = accountant();
  return here != nullptr && handle != nullptr ? here->virtual_memory.retain(handle, address)
                                              : driver().cuMemRetainAllocationHandle(handle, address);
}

ALIQUOT_EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Limiter* here = accountant();
  return here != nullptr ? here->virtual_memory.release(handle) : driver().cuMemRelease(handle);
}

ALIQUOT_EXPORT CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
                                 CUmemGenericAllocationHandle handle, unsigned long long flags) {
  Limiter* here = accountant();
  return here != nullptr ? here->virtual_memory.map(address, bytes, offset, handle, flags)
                         : driver().cuMemMap(address, bytes, offset, handle, flags);
}

ALIQUOT_EXPORT CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  Limiter* here = accountant();
  return here != nullptr ? here->virtual_memory.unmap(address, bytes) : driver().cuMemUnmap(address, bytes);
}

ALIQUOT_EXPORT CUresult cuMemExportToShareableHandle(void* exported, CUmemGenericAllocationHandle handle,
                                                     CUmemAllocationHandleType type,
                                                     unsigned long long flags) {
  Limiter* here = exported != nullptr ? accountant() : nullptr;
  return here != nullptr ? here->virtual_memory.export_to(exported, handle, type, flags)
                         : driver().cuMemExportToShareableHandle(exported, handle, type, flags);
}

ALIQUOT_EXPORT CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* exported,
                                                       CUmemAllocationHandleType type) {
  Limiter* here = handle != nullptr ? accountant() : nullptr;
  return here != nullptr ? here->virtual_memory.import_from(handle, exported, type)
                         : driver().cuMemImportFromShareableHandle(handle, exported, type);
}
}
