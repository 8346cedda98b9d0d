// Fans: those of the card. Modules and passive cards are cooled by the chassis and have none.
#include "native/simgpu/nvml/fans.hpp"

#include <algorithm>

#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"
#include "native/simgpu/nvml/traits.hpp"

using namespace aliquot::simgpu::nvml;

namespace aliquot::simgpu::nvml {

constexpr unsigned int kSlowest = 30, kFastest = 100; // percent

std::uint32_t fan_percent(const View& view, std::uint32_t fan) noexcept {
  const std::uint64_t set = view.controls.fan[fan % machine::kMaxFans].load();
  return set != 0 ? static_cast<std::uint32_t>(set - 1)
                  : std::min(kFastest, kSlowest + load_percent(view) / 2);
}

} // namespace aliquot::simgpu::nvml

namespace {

constexpr unsigned int kRpmPerPercent = 30; // 3000 a minute at full speed

template <typename Answer>
nvmlReturn_t on_fan(nvmlDevice_t device, unsigned int fan, Outputs outputs, Answer&& answer) {
  return on_card(device, outputs, [&](const View& view) {
    if (!has_fans(view))
      return NVML_ERROR_NOT_SUPPORTED;
    const unsigned int fans = std::min<unsigned int>(view.model.fans, aliquot::simgpu::machine::kMaxFans);
    return fan < fans ? answer(view) : NVML_ERROR_INVALID_ARGUMENT;
  });
}

template <typename Answer>
nvmlReturn_t on_fan_as_root(nvmlDevice_t device, unsigned int fan, Answer&& answer) {
  return on_fan(device, fan, {},
                [&](const View& view) { return may_administer() ? answer(view) : NVML_ERROR_NO_PERMISSION; });
}

nvmlReturn_t give_speed(nvmlDevice_t device, unsigned int fan, unsigned int* speed) {
  return on_fan(device, fan, {speed}, [&](const View& view) {
    *speed = fan_percent(view, fan);
    return NVML_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNumFans(nvmlDevice_t device, unsigned int* count) {
  return read_value(device, count, [](const View& view) { return view.model.fans; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned int* speed) {
  return give_speed(device, 0, speed);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan,
                                                     unsigned int* speed) {
  return give_speed(device, fan, speed);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTargetFanSpeed(nvmlDevice_t device, unsigned int fan,
                                                        unsigned int* speed) {
  return give_speed(device, fan, speed);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFanSpeedRPM(nvmlDevice_t device, nvmlFanSpeedInfo_t* info) {
  return on_card(device, {info}, [&](const View&) {
    if (info->version != struct_version(sizeof(nvmlFanSpeedInfo_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return on_fan(device, info->fan, {}, [&](const View& view) {
      info->speed = fan_percent(view, info->fan) * kRpmPerPercent;
      return NVML_SUCCESS;
    });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMinMaxFanSpeed(nvmlDevice_t device, unsigned int* lowest,
                                                        unsigned int* highest) {
  return on_fan(device, 0, {lowest, highest}, [&](const View&) {
    *lowest = kSlowest;
    *highest = kFastest;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFanControlPolicy_v2(nvmlDevice_t device, unsigned int fan,
                                                             nvmlFanControlPolicy_t* policy) {
  return on_fan(device, fan, {policy}, [&](const View& view) {
    *policy = view.controls.fan[fan].load() != 0 ? NVML_FAN_POLICY_MANUAL
                                                 : NVML_FAN_POLICY_TEMPERATURE_CONTINOUS_SW;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetFanControlPolicy(nvmlDevice_t device, unsigned int fan,
                                                          nvmlFanControlPolicy_t policy) {
  return on_fan_as_root(device, fan, [&](const View& view) {
    if (policy != NVML_FAN_POLICY_MANUAL && policy != NVML_FAN_POLICY_TEMPERATURE_CONTINOUS_SW)
      return NVML_ERROR_INVALID_ARGUMENT;
    view.controls.fan[fan].store(policy == NVML_FAN_POLICY_MANUAL ? fan_percent(view, fan) + 1 : 0);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetFanSpeed_v2(nvmlDevice_t device, unsigned int fan,
                                                     unsigned int speed) {
  return on_fan_as_root(device, fan, [&](const View& view) {
    if (speed > kFastest)
      return NVML_ERROR_INVALID_ARGUMENT;
    view.controls.fan[fan].store(std::uint64_t{speed} + 1);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetDefaultFanSpeed_v2(nvmlDevice_t device, unsigned int fan) {
  return on_fan_as_root(device, fan, [&](const View& view) {
    view.controls.fan[fan].store(0);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCoolerInfo(nvmlDevice_t device, nvmlCoolerInfo_t* info) {
  return on_card(device, {info}, [&](const View&) {
    if (info->version != struct_version(sizeof(nvmlCoolerInfo_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return on_fan(device, info->index, {}, [&](const View&) {
      info->signalType = NVML_THERMAL_COOLER_SIGNAL_VARIABLE;
      info->target = NVML_THERMAL_COOLER_TARGET_GPU_RELATED;
      return NVML_SUCCESS;
    });
  });
}

} // extern "C"
