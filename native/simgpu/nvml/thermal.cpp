// Temperature. Derived, not measured: physics.hpp says how.
#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

bool has_thresholds(nvmlTemperatureThresholds_t type) noexcept {
  return type == NVML_TEMPERATURE_THRESHOLD_SHUTDOWN || type == NVML_TEMPERATURE_THRESHOLD_SLOWDOWN ||
         type == NVML_TEMPERATURE_THRESHOLD_GPU_MAX || type == NVML_TEMPERATURE_THRESHOLD_MEM_MAX;
}

constexpr unsigned int kAllSensors = 15; // NVML_THERMAL_TARGET_ALL, as a sensor's index

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor,
                                                     unsigned int* temperature) {
  if (sensor != NVML_TEMPERATURE_GPU)
    return NVML_ERROR_INVALID_ARGUMENT;
  return read_value(device, temperature, temperature_c);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t* temperature) {
  return on_card(device, {temperature}, [&](const View& view) {
    if (temperature->version != struct_version(sizeof(nvmlTemperature_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensorType != NVML_TEMPERATURE_GPU)
      return NVML_ERROR_INVALID_ARGUMENT;
    temperature->temperature = static_cast<int>(temperature_c(view));
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device,
                                                              nvmlTemperatureThresholds_t type,
                                                              unsigned int* temperature) {
  return on_card(device, {temperature}, [&](const View& view) {
    if (type >= NVML_TEMPERATURE_THRESHOLD_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    const bool of_memory = type == NVML_TEMPERATURE_THRESHOLD_MEM_MAX;
    if (!has_thresholds(type) || (of_memory && !has_memory_temperature(view)))
      return NVML_ERROR_NOT_SUPPORTED;
    *temperature = type == NVML_TEMPERATURE_THRESHOLD_SHUTDOWN   ? kShutdownC
                   : type == NVML_TEMPERATURE_THRESHOLD_SLOWDOWN ? kSlowdownC
                   : of_memory                                   ? kMemoryMaxC
                                                                 : kTargetC;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device,
                                                           nvmlMarginTemperature_t* margin) {
  return on_card(device, {margin}, [&](const View& view) {
    if (margin->version != struct_version(sizeof(nvmlMarginTemperature_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    margin->marginTemperature = static_cast<int>(kSlowdownC) - static_cast<int>(temperature_c(view));
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetThermalSettings(nvmlDevice_t device, unsigned int sensor,
                                                         nvmlGpuThermalSettings_t* settings) {
  return on_card(device, {settings}, [&](const View& view) {
    if (sensor != 0 && sensor != kAllSensors)
      return NVML_ERROR_INVALID_ARGUMENT;
    *settings = {};
    settings->count = 1;
    auto& only = settings->sensor[0];
    only.controller = NVML_THERMAL_CONTROLLER_GPU_INTERNAL;
    only.target = NVML_THERMAL_TARGET_GPU;
    only.defaultMaxTemp = static_cast<int>(kShutdownC);
    only.currentTemp = static_cast<int>(temperature_c(view));
    return NVML_SUCCESS;
  });
}

} // extern "C"
