// MIG profiles: which sizes of instance a card offers, where they may lie, how many more fit.
#include "native/simgpu/nvml/mig.hpp"

#include <string>
#include <vector>

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::compute_capacity;
using aliquot::simgpu::machine::compute_sm_count;
using aliquot::simgpu::machine::GpuInstance;
using aliquot::simgpu::machine::MigProfile;
using aliquot::simgpu::machine::nvml_profile;

namespace aliquot::simgpu::nvml {

const MigProfile* profile_by_id(const CardModel& model, unsigned int id) noexcept {
  for (const MigProfile& profile : model.mig_profiles)
    if (profile.id == id)
      return &profile;
  return nullptr;
}

unsigned int compute_profile_of_slices(std::uint32_t slices) noexcept {
  unsigned int profile = 0;
  while (profile < NVML_COMPUTE_INSTANCE_PROFILE_6_SLICE && slices_of_compute_profile(profile) != slices)
    ++profile;
  return profile;
}

} // namespace aliquot::simgpu::nvml

namespace {

constexpr unsigned long long kMib = 1 << 20;

const MigProfile* profile_by_number(const CardModel& model, unsigned int number) noexcept {
  for (const MigProfile& profile : model.mig_profiles)
    if (nvml_profile(profile) == number)
      return &profile;
  return nullptr;
}

// What all versions of the struct have.
template <typename Info>
void write_profile(const MigProfile& profile, Info& info) {
  info.id = profile.id;
  info.sliceCount = profile.compute_slices;
  info.instanceCount = profile.instances;
  info.multiprocessorCount = profile.sm_count;
  info.copyEngineCount = profile.copy_engines;
  info.decoderCount = profile.decoders;
  info.encoderCount = 0;
  info.jpegCount = profile.jpegs;
  info.ofaCount = profile.ofas;
  info.memorySizeMB = profile.memory_bytes / kMib;
  if constexpr (requires { info.isP2pSupported; })
    info.isP2pSupported = 0;
  if constexpr (requires { info.capabilities; })
    info.capabilities = 0;
  if constexpr (requires { info.name; })
    write_mig_name(info.name, std::string(profile.name));
}

// The versions share a parameter; which one lies there its first field says.
nvmlReturn_t write_versioned(const MigProfile& profile, nvmlGpuInstanceProfileInfo_v2_t* info) {
  if (info->version == struct_version(sizeof(nvmlGpuInstanceProfileInfo_v2_t), 2)) {
    write_profile(profile, *info);
    return NVML_SUCCESS;
  }
  if (info->version == struct_version(sizeof(nvmlGpuInstanceProfileInfo_v3_t), 3)) {
    write_profile(profile, *reinterpret_cast<nvmlGpuInstanceProfileInfo_v3_t*>(info));
    return NVML_SUCCESS;
  }
  return NVML_ERROR_INVALID_ARGUMENT; // as nvml.h says for these two calls
}

template <typename Write>
nvmlReturn_t with_profile(const MigProfile* profile, Write&& write) {
  return profile == nullptr ? NVML_ERROR_NOT_SUPPORTED : write(*profile);
}

// For the calls that take a profile's id: those of another model are not supported, others do not exist.
template <typename Answer>
nvmlReturn_t with_profile_id(const CardModel& model, unsigned int id, Answer&& answer) {
  constexpr unsigned int kIds = 256;
  if (id >= kIds)
    return NVML_ERROR_INVALID_ARGUMENT;
  return with_profile(profile_by_id(model, id), answer);
}

nvmlReturn_t give_placements(const MigProfile& profile, nvmlGpuInstancePlacement_t* places,
                             unsigned int* count) {
  unsigned int found = 0;
  for (unsigned int start = 0; start < 32; ++start) {
    if ((profile.placements >> start & 1) == 0)
      continue;
    if (places != nullptr)
      places[found] = {start, profile.memory_slices};
    ++found;
  }
  *count = found;
  return NVML_SUCCESS;
}

template <typename Info>
void write_compute_profile(const CardModel& model, const GpuInstance& gpu, unsigned int number, Info& info) {
  const MigProfile& profile = *gpu.profile;
  const std::uint32_t slices = slices_of_compute_profile(number);
  info.id = number;
  info.sliceCount = slices;
  info.instanceCount = compute_capacity(profile, slices);
  info.multiprocessorCount = compute_sm_count(model, profile, slices);
  info.sharedCopyEngineCount = profile.copy_engines;
  info.sharedDecoderCount = profile.decoders;
  info.sharedEncoderCount = 0;
  info.sharedJpegCount = profile.jpegs;
  info.sharedOfaCount = profile.ofas;
  if constexpr (requires { info.capabilities; })
    info.capabilities = 0;
  if constexpr (requires { info.name; }) {
    const std::string part = slices != profile.compute_slices ? std::to_string(slices) + "c." : "";
    write_mig_name(info.name, part + std::string(profile.name));
  }
}

nvmlReturn_t check_compute_profile(const GpuInstance& gpu, unsigned int number,
                                   unsigned int engines = NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED) {
  if (number >= NVML_COMPUTE_INSTANCE_PROFILE_COUNT || engines >= NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT)
    return NVML_ERROR_INVALID_ARGUMENT;
  const std::uint32_t slices = slices_of_compute_profile(number);
  return slices != 0 && compute_capacity(*gpu.profile, slices) != 0 ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t write_versioned(const CardModel& model, const GpuInstance& gpu, unsigned int number,
                             nvmlComputeInstanceProfileInfo_v2_t* info) {
  if (info->version == struct_version(sizeof(nvmlComputeInstanceProfileInfo_v2_t), 2)) {
    write_compute_profile(model, gpu, number, *info);
    return NVML_SUCCESS;
  }
  if (info->version == struct_version(sizeof(nvmlComputeInstanceProfileInfo_v3_t), 3)) {
    auto* wider = reinterpret_cast<nvmlComputeInstanceProfileInfo_v3_t*>(info);
    write_compute_profile(model, gpu, number, *wider);
    return NVML_SUCCESS;
  }
  return NVML_ERROR_INVALID_ARGUMENT;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned int number,
                                                                nvmlGpuInstanceProfileInfo_t* info) {
  return on_card(device, {info}, [&](const View& view) {
    if (number >= NVML_GPU_INSTANCE_PROFILE_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    return with_profile(profile_by_number(view.model, number), [&](const MigProfile& profile) {
      write_profile(profile, *info);
      return NVML_SUCCESS;
    });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned int number,
                                                                 nvmlGpuInstanceProfileInfo_v2_t* info) {
  return on_card(device, {info}, [&](const View& view) {
    if (number >= NVML_GPU_INSTANCE_PROFILE_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    return with_profile(profile_by_number(view.model, number),
                        [&](const MigProfile& profile) { return write_versioned(profile, info); });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, unsigned int id,
                                                                     nvmlGpuInstanceProfileInfo_v2_t* info) {
  return on_card(device, {info}, [&](const View& view) {
    return with_profile_id(view.model, id,
                           [&](const MigProfile& profile) { return write_versioned(profile, info); });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device,
                                                                          unsigned int id,
                                                                          nvmlGpuInstancePlacement_t* places,
                                                                          unsigned int* count) {
  return on_card_as_root(device, {count}, [&](const View& view) {
    return with_profile_id(
        view.model, id, [&](const MigProfile& profile) { return give_placements(profile, places, count); });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, unsigned int id,
                                                                       nvmlGpuInstancePlacement_t* places,
                                                                       unsigned int* count) {
  return on_divided_card(device, {count}, [&](const View& view) {
    return with_profile_id(
        view.model, id, [&](const MigProfile& profile) { return give_placements(profile, places, count); });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned int id,
                                                                      unsigned int* count) {
  return on_divided_card(device, {count}, [&](const View& view) {
    return with_profile_id(view.model, id, [&](const MigProfile& profile) {
      *count = view.machine.mig().remaining(view.index, profile);
      return NVML_SUCCESS;
    });
  });
}

ALIQUOT_EXPORT nvmlReturn_t
nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t handle, unsigned int number,
                                             unsigned int engines, nvmlComputeInstanceProfileInfo_t* info) {
  return on_gpu_instance(handle, {info}, [&](const View& view, const GpuInstance& gpu) {
    const nvmlReturn_t valid = check_compute_profile(gpu, number, engines);
    if (valid == NVML_SUCCESS)
      write_compute_profile(view.model, gpu, number, *info);
    return valid;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(
    nvmlGpuInstance_t handle, unsigned int number, unsigned int engines,
    nvmlComputeInstanceProfileInfo_v2_t* info) {
  return on_gpu_instance(handle, {info}, [&](const View& view, const GpuInstance& gpu) {
    const nvmlReturn_t valid = check_compute_profile(gpu, number, engines);
    return valid == NVML_SUCCESS ? write_versioned(view.model, gpu, number, info) : valid;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t handle,
                                                                               unsigned int number,
                                                                               unsigned int* count) {
  return on_gpu_instance_as_root(handle, {count}, [&](const View& view, const GpuInstance& gpu) {
    const nvmlReturn_t valid = check_compute_profile(gpu, number);
    if (valid == NVML_SUCCESS)
      *count = view.machine.mig().remaining_compute(view.index, gpu.id, slices_of_compute_profile(number));
    return valid;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(
    nvmlGpuInstance_t handle, unsigned int number, nvmlComputeInstancePlacement_t* places,
    unsigned int* count) {
  return on_gpu_instance_as_root(handle, {count}, [&](const View&, const GpuInstance& gpu) {
    if (const nvmlReturn_t valid = check_compute_profile(gpu, number); valid != NVML_SUCCESS)
      return valid;
    const std::vector<std::uint32_t> starts =
        aliquot::simgpu::machine::compute_placements(*gpu.profile, slices_of_compute_profile(number));
    for (std::size_t i = 0; places != nullptr && i < starts.size(); ++i)
      places[i] = {starts[i], slices_of_compute_profile(number)};
    *count = static_cast<unsigned int>(starts.size());
    return NVML_SUCCESS;
  });
}

} // extern "C"
