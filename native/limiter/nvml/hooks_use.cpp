// Hooks of what a card is used for: its memory and its processes, cut to the slice's.
#include <algorithm>

#include "native/limiter/nvml/library.hpp"
#include "native/limiter/nvml/scope.hpp"
#include "native/limiter/own_slice.hpp"
#include "native/limiter/region/slice_view.hpp"

namespace aliquot::limiter {
namespace {

template <typename Memory>
nvmlReturn_t cut_memory(nvmlReturn_t answer, nvmlDevice_t device, Memory* memory) noexcept {
  const SliceRegion* region = slice_region(SliceRegion::Access::Look);
  if (answer != NVML_SUCCESS || region == nullptr)
    return answer;
  const unsigned number = slice_device(device);
  const VramUse use = number == kNotInSlice ? VramUse{} : vram_use(*region, number);
  const unsigned long long total = memory->total;
  memory->total = std::min<unsigned long long>(total, use.limit);
  memory->used = std::min<unsigned long long>(use.used, memory->total);
  memory->free = std::min<unsigned long long>(memory->free, memory->total - memory->used);
  if constexpr (requires { memory->reserved; })
    memory->reserved = 0;
  return answer;
}

template <typename Info>
void write_process(Info& info, const Tenant& tenant) noexcept {
  info.pid = tenant.pid;
  info.usedGpuMemory = tenant.held;
  if constexpr (requires { info.gpuInstanceId; })
    info.gpuInstanceId = info.computeInstanceId = 0xFFFFFFFFu;
}

// The protocol of all these lists: `count` holds how many fit and then how many there are; too few is an
// error.
template <typename Info>
nvmlReturn_t list_processes(nvmlReturn_t answer, nvmlDevice_t device, unsigned int* count,
                            Info* infos) noexcept {
  const SliceRegion* region = slice_region(SliceRegion::Access::Look);
  if ((answer != NVML_SUCCESS && answer != NVML_ERROR_INSUFFICIENT_SIZE) || region == nullptr)
    return answer;
  Tenant tenants[layout::kMaxProcesses];
  const unsigned number = slice_device(device);
  unsigned found = number == kNotInSlice ? 0 : tenants_of(*region, number, tenants);
  const Tenant* end = std::remove_if(
      tenants, tenants + found, [](const Tenant& tenant) { return tenant.pid == 0 || tenant.held == 0; });
  found = static_cast<unsigned>(end - tenants);
  const unsigned room = infos != nullptr ? *count : 0;
  *count = found;
  if (room < found)
    return NVML_ERROR_INSUFFICIENT_SIZE;
  for (unsigned i = 0; i < found; ++i)
    write_process(infos[i], tenants[i]);
  return NVML_SUCCESS;
}

template <typename Info, typename List>
nvmlReturn_t compute_processes(List list, nvmlDevice_t device, unsigned int* count, Info* infos) noexcept {
  if (count == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  unsigned int none = 0;
  return list_processes(list(device, &none, nullptr), device, count, infos);
}

// A slice's programs compute; none of them draws, and MPS is not how they share.
template <typename List>
nvmlReturn_t no_processes(List list, nvmlDevice_t device, unsigned int* count) noexcept {
  if (count == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  unsigned int none = 0;
  const nvmlReturn_t answer = list(device, &none, nullptr);
  if (answer != NVML_SUCCESS && answer != NVML_ERROR_INSUFFICIENT_SIZE)
    return answer;
  *count = 0;
  return NVML_SUCCESS;
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
  return cut_memory(nvml().nvmlDeviceGetMemoryInfo(device, memory), device, memory);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
  return cut_memory(nvml().nvmlDeviceGetMemoryInfo_v2(device, memory), device, memory);
}

#define ALIQUOT_PROCESS_LIST(symbol, info, lister)                                                           \
  ALIQUOT_EXPORT nvmlReturn_t symbol(nvmlDevice_t device, unsigned int* count, info* infos) {                \
    static_cast<void>(infos);                                                                                \
    return lister;                                                                                           \
  }
#define ALIQUOT_COMPUTE_LIST(symbol, info)                                                                   \
  ALIQUOT_PROCESS_LIST(symbol, info, compute_processes(nvml().symbol, device, count, infos))
#define ALIQUOT_EMPTY_LIST(symbol, info)                                                                     \
  ALIQUOT_PROCESS_LIST(symbol, info, no_processes(nvml().symbol, device, count))

ALIQUOT_COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t)
ALIQUOT_COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
ALIQUOT_COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t)
ALIQUOT_EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
ALIQUOT_EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
ALIQUOT_EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)
ALIQUOT_EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
ALIQUOT_EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
ALIQUOT_EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)
}
