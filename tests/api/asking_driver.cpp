// A driver that implements nothing but its own start, and writes down what clients ask `cuGetProcAddress`
// for: one line a question, "name version flags status symbol", to the file that ALIQUOT_TEST_QUESTIONS
// names.
#include <cstdio>
#include <cstdlib>

#include "aliquot/cuda_abi.h"
#include "native/api/exported_symbols.hpp"
#include "native/api/lookup.hpp"

namespace {

void note(const char* name, int version, cuuint64_t flags, const aliquot::api::Lookup& found) {
  std::FILE* file = std::fopen(std::getenv("ALIQUOT_TEST_QUESTIONS"), "a");
  if (file == nullptr) {
    return;
  }
  std::fprintf(file, "%s %d %llu %d %s\n", *name != '\0' ? name : "-", version,
               static_cast<unsigned long long>(flags), static_cast<int>(found.status),
               found.symbol != nullptr ? found.symbol : "-");
  std::fclose(file);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuInit(unsigned int) {
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuDriverGetVersion(int* driverVersion) {
  *driverVersion = CUDA_VERSION;
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuDeviceGetCount(int* count) {
  *count = 0;
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuGetProcAddress_v2(const char* symbol, void** pfn, int cudaVersion, cuuint64_t flags,
                                            CUdriverProcAddressQueryResult* symbolStatus) {
  const auto found = aliquot::api::find_entry_point(symbol, cudaVersion, flags);
  note(symbol, cudaVersion, flags, found);
  const bool success = found.status == aliquot::api::LookupStatus::Success;
  *pfn = success ? reinterpret_cast<void*>(aliquot::api::cuda_symbols()[found.index].address) : nullptr;
  if (symbolStatus != nullptr) {
    *symbolStatus = static_cast<CUdriverProcAddressQueryResult>(found.status);
  }
  return success ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
}
