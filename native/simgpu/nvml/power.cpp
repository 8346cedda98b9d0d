// Power, its limits, and energy. Derived, not measured: physics.hpp says how.
#include "native/simgpu/nvml/health.hpp"
#include "native/simgpu/nvml/ledger.hpp"
#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

nvmlReturn_t set_limit(const View& view, unsigned int milliwatts) {
  if (milliwatts < lowest_power_limit_mw(view.model) || milliwatts > view.model.power_limit_mw)
    return NVML_ERROR_INVALID_ARGUMENT;
  if (!change_settings(view, [&] { view.controls.power_limit_mw.store(milliwatts); }))
    return NVML_ERROR_UNKNOWN;
  report_clock_change(view);
  return NVML_SUCCESS;
}

nvmlReturn_t give_violation(const View& view, nvmlPerfPolicyType_t policy, nvmlViolationTime_t& time) {
  const Totals now = totals(view);
  switch (policy) {
  case NVML_PERF_POLICY_POWER:
    time.violationTime = now.power_capped_ns;
    break;
  case NVML_PERF_POLICY_THERMAL:
    time.violationTime = now.thermal_ns;
    break;
  case NVML_PERF_POLICY_SYNC_BOOST:
  case NVML_PERF_POLICY_BOARD_LIMIT:
  case NVML_PERF_POLICY_RELIABILITY:
    time.violationTime = 0; // nothing of the kind is simulated
    break;
  default:
    return policy < NVML_PERF_POLICY_COUNT ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
  }
  time.referenceTime = now.at_ns / 1000; // microseconds
  return NVML_SUCCESS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int* milliwatts) {
  return read_value(device, milliwatts, power_mw);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
  return read_value(device, mode, [](const View&) { return NVML_FEATURE_ENABLED; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned int* limit) {
  return read_value(device, limit, power_limit_mw);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int* limit) {
  return read_value(device, limit, power_limit_mw);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device,
                                                                     unsigned int* limit) {
  return read_value(device, limit, [](const View& view) { return view.model.power_limit_mw; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device,
                                                                         unsigned int* lowest,
                                                                         unsigned int* highest) {
  return on_card(device, {lowest, highest}, [&](const View& view) {
    *lowest = lowest_power_limit_mw(view.model);
    *highest = view.model.power_limit_mw;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, unsigned int limit) {
  return on_card_as_root(device, {}, [&](const View& view) { return set_limit(view, limit); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetPowerManagementLimit_v2(nvmlDevice_t device,
                                                                 nvmlPowerValue_v2_t* value) {
  return on_card_as_root(device, {value}, [&](const View& view) {
    if (value->version != struct_version(sizeof(nvmlPowerValue_v2_t), 2))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (value->powerScope >= NVML_POWER_SCOPE_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    return value->powerScope == NVML_POWER_SCOPE_GPU ? set_limit(view, value->powerValueMw)
                                                     : NVML_ERROR_NOT_SUPPORTED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device,
                                                                unsigned long long* millijoules) {
  return read_value(device, millijoules, [](const View& view) { return totals(view).energy_uj / 1000; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t policy,
                                                         nvmlViolationTime_t* time) {
  return on_card(device, {time}, [&](const View& view) { return give_violation(view, policy, *time); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerSource(nvmlDevice_t device, nvmlPowerSource_t* source) {
  return read_value(device, source, [](const View&) { return NVML_POWER_SOURCE_AC; });
}

} // extern "C"
