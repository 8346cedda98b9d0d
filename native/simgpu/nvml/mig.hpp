// What the MIG calls share.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

// Changing instances, and looking at them, is for root.
template <typename Answer>
nvmlReturn_t on_divided_card(nvmlDevice_t device, Outputs outputs, Answer&& answer) noexcept {
  return on_card(device, outputs, [&](const View& view) {
    if (!view.machine.mig().enabled(view.index))
      return NVML_ERROR_NOT_SUPPORTED;
    return may_administer() ? answer(view) : NVML_ERROR_NO_PERMISSION;
  });
}

// Runs `answer(session, card, instance)` for the handle of a GPU or compute instance.
template <typename Instance, typename Handle, typename Answer>
nvmlReturn_t on_instance(Handle handle, Outputs outputs, Answer&& answer) noexcept {
  return on_session({}, [&](const Session& session) {
    std::uint32_t card;
    Instance instance;
    if (!instance_of(handle, *session.machine, card, instance) || any_missing(outputs))
      return NVML_ERROR_INVALID_ARGUMENT;
    if (is_lost(*session.machine, card))
      return NVML_ERROR_GPU_IS_LOST;
    return answer(view_of(session, card), instance);
  });
}

template <typename Answer>
nvmlReturn_t on_gpu_instance(nvmlGpuInstance_t handle, Outputs outputs, Answer&& answer) noexcept {
  return on_instance<machine::GpuInstance>(handle, outputs, answer);
}

template <typename Answer>
nvmlReturn_t on_gpu_instance_as_root(nvmlGpuInstance_t handle, Outputs outputs, Answer&& answer) noexcept {
  return on_gpu_instance(handle, outputs, [&](const View& view, const machine::GpuInstance& instance) {
    return may_administer() ? answer(view, instance) : NVML_ERROR_NO_PERMISSION;
  });
}

inline nvmlReturn_t result_of(machine::MigStatus status) noexcept {
  switch (status) {
  case machine::MigStatus::Ok:
    return NVML_SUCCESS;
  case machine::MigStatus::NotSupported:
  case machine::MigStatus::Disabled:
    return NVML_ERROR_NOT_SUPPORTED;
  case machine::MigStatus::NoRoom:
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
  case machine::MigStatus::InUse:
    return NVML_ERROR_IN_USE;
  case machine::MigStatus::Invalid:
  case machine::MigStatus::NotFound:
    break;
  }
  return NVML_ERROR_INVALID_ARGUMENT;
}

// By the number that the vendor's tools show (19, 14, 9 ...). Null: the model has no such profile.
const machine::MigProfile* profile_by_id(const CardModel& model, unsigned int id) noexcept;

// NVML_COMPUTE_INSTANCE_PROFILE_*, which is also the profile's id, and the slices that it takes. 0: none.
inline std::uint32_t slices_of_compute_profile(unsigned int profile) noexcept {
  constexpr std::uint32_t kSlices[] = {1, 2, 3, 4, 7, 8, 6, 1};
  return profile <= NVML_COMPUTE_INSTANCE_PROFILE_6_SLICE ? kSlices[profile] : 0;
}
unsigned int compute_profile_of_slices(std::uint32_t slices) noexcept;

template <std::size_t Size>
void write_mig_name(char (&text)[Size], const std::string& name) {
  std::snprintf(text, Size, "MIG %s", name.c_str());
}

} // namespace aliquot::simgpu::nvml
