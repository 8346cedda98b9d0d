// GPU instances and compute instances: mode, making, listing and destroying them.
#include <optional>
#include <vector>

#include "native/simgpu/nvml/mig.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::ComputeInstance;
using aliquot::simgpu::machine::GpuInstance;
using aliquot::simgpu::machine::MigProfile;
using aliquot::simgpu::machine::MigStatus;

namespace {

nvmlReturn_t make_gpu_instance(const View& view, unsigned int profile_id, std::optional<std::uint32_t> start,
                               nvmlGpuInstance_t* handle) {
  const MigProfile* profile = profile_by_id(view.model, profile_id);
  if (profile == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  GpuInstance made;
  const MigStatus status = view.machine.mig().create_gpu_instance(view.index, *profile, start, made);
  if (status == MigStatus::Ok)
    *handle = gpu_instance_handle_of(view.index, made.id);
  return result_of(status);
}

nvmlReturn_t make_compute_instance(const View& view, const GpuInstance& gpu, unsigned int profile,
                                   std::optional<std::uint32_t> start, nvmlComputeInstance_t* handle) {
  const std::uint32_t slices = slices_of_compute_profile(profile);
  if (profile >= NVML_COMPUTE_INSTANCE_PROFILE_COUNT)
    return NVML_ERROR_INVALID_ARGUMENT;
  if (slices == 0 || aliquot::simgpu::machine::compute_capacity(*gpu.profile, slices) == 0)
    return NVML_ERROR_NOT_SUPPORTED;
  ComputeInstance made;
  const MigStatus status =
      view.machine.mig().create_compute_instance(view.index, gpu.id, slices, start, made);
  if (status == MigStatus::Ok)
    *handle = compute_instance_handle_of(view.index, gpu.id, made.id);
  return result_of(status);
}

std::vector<ComputeInstance> instances_within(const View& view, const GpuInstance& gpu) {
  std::vector<ComputeInstance> all = view.machine.mig().compute_instances(view.index);
  std::erase_if(all, [&](const ComputeInstance& each) { return each.gpu.id != gpu.id; });
  return all;
}

void write_instance(const View& view, const ComputeInstance& instance, nvmlComputeInstanceInfo_t& info) {
  info.device = handle_of(view.index);
  info.gpuInstance = gpu_instance_handle_of(view.index, instance.gpu.id);
  info.id = instance.id;
  info.profileId = compute_profile_of_slices(instance.slices);
  info.placement = {instance.start, instance.slices};
}

nvmlReturn_t describe_compute_instance(nvmlComputeInstance_t handle, nvmlComputeInstanceInfo_t* info) {
  return on_instance<ComputeInstance>(handle, {info}, [&](const View& view, const ComputeInstance& instance) {
    write_instance(view, instance, *info);
    return NVML_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int* current,
                                                 unsigned int* pending) {
  return on_card(device, {current, pending}, [&](const View& view) {
    if (!view.model.mig_capable)
      return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending =
        view.machine.mig().enabled(view.index) ? NVML_DEVICE_MIG_ENABLE : NVML_DEVICE_MIG_DISABLE;
    return NVML_SUCCESS;
  });
}

// The call succeeds; whether the mode could be changed at once is told apart.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned int mode,
                                                 nvmlReturn_t* activation) {
  return on_card(device, {activation}, [&](const View& view) {
    if (mode != NVML_DEVICE_MIG_DISABLE && mode != NVML_DEVICE_MIG_ENABLE)
      return NVML_ERROR_INVALID_ARGUMENT;
    if (!view.model.mig_capable)
      return NVML_ERROR_NOT_SUPPORTED;
    if (!may_administer())
      return NVML_ERROR_NO_PERMISSION;
    *activation = result_of(view.machine.mig().set_mode(view.index, mode == NVML_DEVICE_MIG_ENABLE));
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned int profile,
                                                        nvmlGpuInstance_t* handle) {
  return on_divided_card(device, {handle}, [&](const View& view) {
    return make_gpu_instance(view, profile, std::nullopt, handle);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(
    nvmlDevice_t device, unsigned int profile, const nvmlGpuInstancePlacement_t* placement,
    nvmlGpuInstance_t* handle) {
  return on_divided_card(device, {placement, handle}, [&](const View& view) {
    const MigProfile* known = profile_by_id(view.model, profile);
    if (known != nullptr && placement->size != known->memory_slices)
      return NVML_ERROR_INVALID_ARGUMENT;
    return make_gpu_instance(view, profile, placement->start, handle);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t handle) {
  return on_gpu_instance_as_root(handle, {}, [&](const View& view, const GpuInstance& gpu) {
    return result_of(view.machine.mig().destroy_gpu_instance(view.index, gpu.id));
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned int profile,
                                                      nvmlGpuInstance_t* handles, unsigned int* count) {
  return on_divided_card(device, {handles, count}, [&](const View& view) {
    if (profile_by_id(view.model, profile) == nullptr)
      return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    for (const GpuInstance& each : view.machine.mig().gpu_instances(view.index))
      if (each.profile->id == profile)
        handles[(*count)++] = gpu_instance_handle_of(view.index, each.id);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned int id,
                                                         nvmlGpuInstance_t* handle) {
  return on_divided_card(device, {handle}, [&](const View& view) {
    for (const GpuInstance& each : view.machine.mig().gpu_instances(view.index)) {
      if (each.id != id)
        continue;
      *handle = gpu_instance_handle_of(view.index, id);
      return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t handle, nvmlGpuInstanceInfo_t* info) {
  return on_gpu_instance(handle, {info}, [&](const View& view, const GpuInstance& gpu) {
    info->device = handle_of(view.index);
    info->id = gpu.id;
    info->profileId = gpu.profile->id;
    info->placement = {gpu.start, gpu.profile->memory_slices};
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t gpu_instance,
                                                                 unsigned int profile,
                                                                 nvmlComputeInstance_t* handle) {
  return on_gpu_instance_as_root(gpu_instance, {handle}, [&](const View& view, const GpuInstance& gpu) {
    return make_compute_instance(view, gpu, profile, std::nullopt, handle);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstanceWithPlacement(
    nvmlGpuInstance_t gpu_instance, unsigned int profile, const nvmlComputeInstancePlacement_t* placement,
    nvmlComputeInstance_t* handle) {
  return on_gpu_instance_as_root(gpu_instance, {placement, handle},
                                 [&](const View& view, const GpuInstance& gpu) {
                                   if (placement->size != slices_of_compute_profile(profile))
                                     return NVML_ERROR_INVALID_ARGUMENT;
                                   return make_compute_instance(view, gpu, profile, placement->start, handle);
                                 });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t handle) {
  return on_instance<ComputeInstance>(handle, {}, [&](const View& view, const ComputeInstance& instance) {
    if (!may_administer())
      return NVML_ERROR_NO_PERMISSION;
    return result_of(view.machine.mig().destroy_compute_instance(view.index, instance.gpu.id, instance.id));
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t gpu_instance,
                                                               unsigned int profile,
                                                               nvmlComputeInstance_t* handles,
                                                               unsigned int* count) {
  return on_gpu_instance_as_root(
      gpu_instance, {handles, count}, [&](const View& view, const GpuInstance& gpu) {
        if (profile >= NVML_COMPUTE_INSTANCE_PROFILE_COUNT)
          return NVML_ERROR_INVALID_ARGUMENT;
        *count = 0;
        for (const ComputeInstance& each : instances_within(view, gpu))
          if (compute_profile_of_slices(each.slices) == profile)
            handles[(*count)++] = compute_instance_handle_of(view.index, gpu.id, each.id);
        return NVML_SUCCESS;
      });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t gpu_instance,
                                                                  unsigned int id,
                                                                  nvmlComputeInstance_t* handle) {
  return on_gpu_instance_as_root(gpu_instance, {handle}, [&](const View& view, const GpuInstance& gpu) {
    for (const ComputeInstance& each : instances_within(view, gpu)) {
      if (each.id != id)
        continue;
      *handle = compute_instance_handle_of(view.index, gpu.id, id);
      return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t handle,
                                                          nvmlComputeInstanceInfo_t* info) {
  return describe_compute_instance(handle, info);
}

// The first form of the struct ends before the placement: no byte may be written behind it.
ALIQUOT_EXPORT nvmlReturn_t nvmlComputeInstanceGetInfo(nvmlComputeInstance_t handle,
                                                       nvmlComputeInstanceInfo_t* info) {
  nvmlComputeInstanceInfo_t whole;
  const nvmlReturn_t result = describe_compute_instance(handle, info != nullptr ? &whole : nullptr);
  if (result == NVML_SUCCESS)
    std::memcpy(info, &whole, offsetof(nvmlComputeInstanceInfo_t, placement));
  return result;
}

} // extern "C"
