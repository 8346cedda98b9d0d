// Initialisation, versions and finding entry points.
#include "native/api/exported_symbols.hpp"
#include "native/api/lookup.hpp"
#include "native/common/log.hpp"
#include "native/simgpu/driver/entry.hpp"

using namespace aliquot;
using namespace aliquot::simgpu::driver;

extern "C" {

ALIQUOT_EXPORT CUresult cuInit(unsigned int flags) {
  if (flags != 0)
    return CUDA_ERROR_INVALID_VALUE;
  return Driver::initialise();
}

// Needs no cuInit. The newest version whose ABI we carry: a cudart of this major or an older one accepts it.
ALIQUOT_EXPORT CUresult cuDriverGetVersion(int* version) {
  if (version == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

// Needs no cuInit either.
ALIQUOT_EXPORT CUresult cuGetProcAddress_v2(const char* symbol, void** function, int cuda_version,
                                            cuuint64_t flags, CUdriverProcAddressQueryResult* status) {
  if (symbol == nullptr || function == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  if (flags > api::kPerThreadStream)
    return CUDA_ERROR_INVALID_VALUE;
  const api::Lookup found = api::find_entry_point(symbol, cuda_version, flags);
  if (status != nullptr)
    *status = static_cast<CUdriverProcAddressQueryResult>(found.status);
  if (found.status != api::LookupStatus::Success) {
    *function = nullptr;
    return CUDA_ERROR_NOT_FOUND;
  }
  *function = reinterpret_cast<void*>(api::cuda_symbols()[found.index].address);
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuGetProcAddress(const char* symbol, void** function, int cuda_version,
                                         cuuint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, cuda_version, flags, nullptr);
}

} // extern "C"
