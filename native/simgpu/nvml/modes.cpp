// Modes that a card is in. They are fixed: setters keep the generated answer, which is "not supported".
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
  return read_value(device, mode, [](const View&) { return NVML_FEATURE_ENABLED; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t* mode) {
  return read_value(device, mode, [](const View&) { return NVML_COMPUTEMODE_DEFAULT; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDisplayMode(nvmlDevice_t device, nvmlEnableState_t* display) {
  return read_value(device, display, [](const View&) { return NVML_FEATURE_DISABLED; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDisplayActive(nvmlDevice_t device, nvmlEnableState_t* active) {
  return read_value(device, active, [](const View&) { return NVML_FEATURE_DISABLED; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAccountingMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
  return read_value(device, mode, [](const View&) { return NVML_FEATURE_DISABLED; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device,
                                                            nvmlGpuVirtualizationMode_t* mode) {
  return read_value(device, mode, [](const View&) { return NVML_GPU_VIRTUALIZATION_MODE_NONE; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerSource(nvmlDevice_t device, nvmlPowerSource_t* source) {
  return read_value(device, source, [](const View&) { return NVML_POWER_SOURCE_AC; });
}

} // extern "C"
