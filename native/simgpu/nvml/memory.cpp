// Device memory, the window on it, and its errors (there are none).
#include <algorithm>
#include <bit>

#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

constexpr unsigned long long kMib = 1 << 20;

bool has_ecc(const View& view) {
  return view.model.ecc;
}

nvmlReturn_t no_errors(nvmlDevice_t device, unsigned long long* count) {
  return read_value_if(has_ecc, device, count, [](const View&) { return 0; });
}

bool known(nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter) {
  return type < NVML_MEMORY_ERROR_TYPE_COUNT && counter < NVML_ECC_COUNTER_TYPE_COUNT;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
  return on_card(device, {memory}, [&](const View& view) {
    const auto vram = view.machine.vram(view.index);
    memory->total = vram.total;
    memory->used = vram.used;
    memory->free = vram.total - vram.used;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
  return on_card(device, {memory}, [&](const View& view) {
    if (memory->version != struct_version(sizeof(nvmlMemory_v2_t), 2))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    const auto vram = view.machine.vram(view.index);
    memory->total = vram.total;
    memory->used = vram.used;
    memory->reserved = 0; // the simulated driver keeps nothing for itself
    memory->free = vram.total - vram.used;
    return NVML_SUCCESS;
  });
}

// The window covers all of the memory, as it does on cards with a resizable one.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t* memory) {
  return on_card(device, {memory}, [&](const View& view) {
    memory->bar1Total = std::bit_ceil(view.model.vram_bytes);
    memory->bar1Used = kMib;
    memory->bar1Free = memory->bar1Total - memory->bar1Used;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t* current,
                                                 nvmlEnableState_t* pending) {
  return on_card(device, {current, pending}, [&](const View& view) {
    if (!has_ecc(view))
      return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDefaultEccMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
  return read_value_if(has_ecc, device, mode, [](const View&) { return NVML_FEATURE_ENABLED; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                        nvmlEccCounterType_t counter,
                                                        unsigned long long* count) {
  return known(type, counter) ? no_errors(device, count) : NVML_ERROR_INVALID_ARGUMENT;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                            nvmlEccCounterType_t counter,
                                                            nvmlMemoryLocation_t location,
                                                            unsigned long long* count) {
  const bool valid = known(type, counter) && location < NVML_MEMORY_LOCATION_COUNT;
  return valid ? no_errors(device, count) : NVML_ERROR_INVALID_ARGUMENT;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                           nvmlEccCounterType_t counter,
                                                           nvmlEccErrorCounts_t* counts) {
  if (!known(type, counter))
    return NVML_ERROR_INVALID_ARGUMENT;
  return read_value_if(has_ecc, device, counts, [](const View&) { return nvmlEccErrorCounts_t{}; });
}

} // extern "C"
