// Temperature, power, energy and fans. Derived, not measured: physics.hpp says how.
#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

bool has_fans(const View& view) {
  return view.model.fans != 0;
}

unsigned int power_limit(const View& view) {
  return view.model.power_limit_mw;
}

// Fans are those of the card: one outside its count is no fan.
nvmlReturn_t fan(nvmlDevice_t device, unsigned int number, unsigned int* speed) {
  return on_card(device, {speed}, [&](const View& view) {
    if (!has_fans(view))
      return NVML_ERROR_NOT_SUPPORTED;
    if (number >= view.model.fans)
      return NVML_ERROR_INVALID_ARGUMENT;
    *speed = fan_percent(view);
    return NVML_SUCCESS;
  });
}

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
  return on_card(device, {temperature}, [&](const View&) {
    switch (type) {
    case NVML_TEMPERATURE_THRESHOLD_SHUTDOWN:
      *temperature = kShutdownC;
      return NVML_SUCCESS;
    case NVML_TEMPERATURE_THRESHOLD_SLOWDOWN:
      *temperature = kSlowdownC;
      return NVML_SUCCESS;
    case NVML_TEMPERATURE_THRESHOLD_GPU_MAX:
      *temperature = kTargetC;
      return NVML_SUCCESS;
    default:
      return type < NVML_TEMPERATURE_THRESHOLD_COUNT ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
    }
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int* milliwatts) {
  return read_value(device, milliwatts, power_mw);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
  return read_value(device, mode, [](const View&) { return NVML_FEATURE_ENABLED; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned int* limit) {
  return read_value(device, limit, power_limit);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device,
                                                                     unsigned int* limit) {
  return read_value(device, limit, power_limit);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int* limit) {
  return read_value(device, limit, power_limit);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device,
                                                                         unsigned int* minimum,
                                                                         unsigned int* maximum) {
  return on_card(device, {minimum, maximum}, [&](const View& view) {
    *minimum = power_limit(view) / 2;
    *maximum = power_limit(view);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device,
                                                                unsigned long long* millijoules) {
  return read_value(device, millijoules, energy_mj);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned int* speed) {
  return fan(device, 0, speed);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int number,
                                                     unsigned int* speed) {
  return fan(device, number, speed);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNumFans(nvmlDevice_t device, unsigned int* count) {
  return read_value(device, count, [](const View& view) { return view.model.fans; });
}

} // extern "C"
