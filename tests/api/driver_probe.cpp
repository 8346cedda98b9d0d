// A driver with four functions: enough to see that strong definitions win, that stream variants reach them
// with the right stream, and that coverage says so.
#include "aliquot/cuda_abi.h"
#include "native/api/exported_symbols.hpp"
#include "native/api/per_thread_default.hpp"

extern "C" {

ALIQUOT_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* dptr, size_t bytesize) {
  *dptr = bytesize;
  return CUDA_SUCCESS;
}

// The stream that arrived, as a status.
ALIQUOT_EXPORT CUresult cuStreamQuery(CUstream hStream) {
  return static_cast<CUresult>(reinterpret_cast<uintptr_t>(hStream));
}

ALIQUOT_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr, const void*, size_t) {
  return static_cast<CUresult>(aliquot::api::default_stream_is_per_thread() ? 2 : 1);
}

ALIQUOT_EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction, void**, void**) {
  return config == nullptr ? CUDA_ERROR_INVALID_VALUE
                           : static_cast<CUresult>(reinterpret_cast<uintptr_t>(config->hStream));
}

ALIQUOT_EXPORT size_t aliquot_probe_count() {
  return aliquot::api::cuda_symbols().size();
}

ALIQUOT_EXPORT const char* aliquot_probe_name(size_t index) {
  return aliquot::api::cuda_symbols()[index].name.data();
}

ALIQUOT_EXPORT int aliquot_probe_implemented(size_t index) {
  return aliquot::api::is_implemented(aliquot::api::cuda_symbols(), index) ? 1 : 0;
}

ALIQUOT_EXPORT void* aliquot_probe_address(size_t index) {
  return reinterpret_cast<void*>(aliquot::api::cuda_symbols()[index].address);
}
}
