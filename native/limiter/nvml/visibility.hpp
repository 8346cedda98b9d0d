// What a tenant may not do or see by calls that need no answer of their own, by the name of the call.
//
// The state of the card that protects it and explains its speed is shown as it is: clocks, temperature, power
// draw of the moment and its limits, throttling, ECC and health. What adds up the work of everybody on the
// card is not: energy, traffic, samples, counters of engines, other processes and instances. And nobody in a
// slice changes a card.
#pragma once

#include <string_view>

#include "aliquot/nvml_abi.h"

namespace aliquot::limiter {

namespace detail {

constexpr bool begins(std::string_view name, std::string_view with) noexcept {
  return name.substr(0, with.size()) == with;
}

template <typename... Names>
constexpr bool begins_with_any(std::string_view name, Names... names) noexcept {
  return (begins(name, names) || ...);
}

// A process may place itself as it likes; that changes nobody else's.
constexpr bool is_setter(std::string_view name) noexcept {
  if (begins_with_any(name, "nvmlDeviceSetCpuAffinity", "nvmlDeviceClearCpuAffinity"))
    return false;
  return begins_with_any(name, "nvmlDeviceSet", "nvmlDeviceClear", "nvmlDeviceReset", "nvmlDeviceFreeze",
                         "nvmlDeviceCreate", "nvmlDeviceModify", "nvmlDeviceRemove", "nvmlDeviceDiscover",
                         "nvmlDeviceLock", "nvmlDeviceReadWrite", "nvmlDeviceValidate", "nvmlDeviceVgpuForce",
                         "nvmlDevicePowerSmoothing", "nvmlDeviceWorkloadPowerProfileClear",
                         "nvmlDeviceWorkloadPowerProfileSet", "nvmlDeviceWorkloadPowerProfileUpdate",
                         "nvmlGpuInstanceCreate", "nvmlGpuInstanceDestroy", "nvmlGpuInstanceSet") ||
         begins_with_any(name, "nvmlComputeInstanceDestroy", "nvmlGpmSetStreaming", "nvmlSystemSet",
                         "nvmlSetVgpu", "nvmlUnitSet", "nvmlVgpuInstanceSet", "nvmlVgpuInstanceClear");
}

// Instances of a card that is divided: whose they are is no tenant's business.
constexpr bool is_of_instances(std::string_view name) noexcept {
  return begins_with_any(name, "nvmlDeviceGetGpuInstances", "nvmlDeviceGetGpuInstanceById",
                         "nvmlGpuInstanceGetComputeInstances", "nvmlGpuInstanceGetComputeInstanceById",
                         "nvmlDeviceGetGpuInstanceRemaining", "nvmlGpuInstanceGetComputeInstanceRemaining");
}

constexpr bool adds_up_everybody(std::string_view name) noexcept {
  return begins_with_any(name, "nvmlDeviceGetBAR1MemoryInfo", "nvmlDeviceGetTotalEnergyConsumption",
                         "nvmlDeviceGetPcieThroughput", "nvmlDeviceGetNvLinkUtilizationCounter",
                         "nvmlDeviceGetNvLinkTelemetry", "nvmlDeviceGetDynamicPstatesInfo",
                         "nvmlDeviceGetEncoder", "nvmlDeviceGetDecoder", "nvmlDeviceGetJpg",
                         "nvmlDeviceGetOfa", "nvmlDeviceGetFBC", "nvmlDevicePerfMetrics", "nvmlDeviceReadPRM",
                         "nvmlGpmSampleGet", "nvmlGpmMigSampleGet", "nvmlGpmMetricsGet",
                         "nvmlDeviceGetBBXTimeData") ||
         begins_with_any(name, "nvmlDeviceGetActiveVgpus", "nvmlDeviceGetVgpuUtilization",
                         "nvmlDeviceGetVgpuInstances", "nvmlDeviceGetVgpuProcess",
                         "nvmlDeviceGetVgpuScheduler", "nvmlGpuInstanceGetActiveVgpus",
                         "nvmlGpuInstanceGetVgpuScheduler", "nvmlVgpuInstanceGet",
                         "nvmlDeviceGetConfComputeProtectedMemory", "nvmlSystemRegisterEvents",
                         "nvmlSystemEventSet", "nvmlSystemGetCPER", "nvmlEventSetRegisterGpuOperational",
                         "nvmlUnitGetHandle", "nvmlUnitGetDevices");
}

} // namespace detail

// NVML_SUCCESS: the call is passed on. Each of the other codes is one that NVML documents for such calls.
constexpr nvmlReturn_t forbidden_by_name(std::string_view name) noexcept {
  if (detail::is_setter(name) || detail::is_of_instances(name))
    return NVML_ERROR_NO_PERMISSION;
  return detail::adds_up_everybody(name) ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
}

static_assert(forbidden_by_name("nvmlDeviceSetPersistenceMode") == NVML_ERROR_NO_PERMISSION);
static_assert(forbidden_by_name("nvmlDeviceGetEncoderUtilization") == NVML_ERROR_NOT_SUPPORTED);
static_assert(forbidden_by_name("nvmlDeviceGetTemperature") == NVML_SUCCESS);

} // namespace aliquot::limiter
