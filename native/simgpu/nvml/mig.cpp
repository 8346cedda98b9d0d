// MIG devices: compute instances as devices of their own, and what they are parts of.
#include "native/simgpu/nvml/mig.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::ComputeInstance;

namespace {

constexpr unsigned int kMostMigDevices = 7;
constexpr unsigned long long kMib = 1 << 20;

template <typename Value, typename Read>
nvmlReturn_t read_instance(nvmlDevice_t device, Value* output, Read&& read) {
  return on_device(device, {output}, [&](const View& view) {
    if (view.instance == nullptr)
      return NVML_ERROR_INVALID_ARGUMENT;
    *output = read(*view.instance);
    return NVML_SUCCESS;
  });
}

nvmlDeviceAttributes_t attributes_of(const ComputeInstance& instance) {
  const auto& profile = *instance.gpu.profile;
  return {.multiprocessorCount = instance.sm_count,
          .sharedCopyEngineCount = profile.copy_engines,
          .sharedDecoderCount = profile.decoders,
          .sharedEncoderCount = 0,
          .sharedJpegCount = profile.jpegs,
          .sharedOfaCount = profile.ofas,
          .gpuInstanceSliceCount = profile.compute_slices,
          .computeInstanceSliceCount = instance.slices,
          .memorySizeMB = profile.memory_bytes / kMib};
}

nvmlReturn_t give_attributes(nvmlDevice_t device, nvmlDeviceAttributes_t* attributes) {
  return on_device(device, {attributes}, [&](const View& view) {
    if (view.instance == nullptr)
      return NVML_ERROR_NOT_SUPPORTED; // nvml.h: "only supports MIG device handles"
    *attributes = attributes_of(*view.instance);
    return NVML_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int* is_mig) {
  return on_device(device, {is_mig}, [&](const View& view) {
    *is_mig = view.instance != nullptr ? 1 : 0;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int* id) {
  return read_instance(device, id, [](const ComputeInstance& instance) { return instance.gpu.id; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int* id) {
  return read_instance(device, id, [](const ComputeInstance& instance) { return instance.id; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int* count) {
  return read_value(device, count, [](const View& view) {
    // The smallest profile says how many there can be: four on an A30, seven elsewhere.
    unsigned int most = 0;
    for (const auto& profile : view.model.mig_profiles)
      most = std::max(most, std::min(profile.instances, kMostMigDevices));
    return view.machine.mig().enabled(view.index) ? most : 0;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
                                                                nvmlDevice_t* mig) {
  return on_card(device, {mig}, [&](const View& view) {
    if (!view.model.mig_capable)
      return NVML_ERROR_NOT_SUPPORTED;
    if (index >= kMostMigDevices)
      return NVML_ERROR_INVALID_ARGUMENT;
    const auto instances = view.machine.mig().compute_instances(view.index);
    if (index >= instances.size())
      return NVML_ERROR_NOT_FOUND;
    *mig = mig_handle_of(view.index, instances[index]);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig,
                                                                         nvmlDevice_t* device) {
  return on_device(mig, {device}, [&](const View& view) {
    if (view.instance == nullptr)
      return NVML_ERROR_INVALID_ARGUMENT;
    *device = handle_of(view.index);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device,
                                                       nvmlDeviceAttributes_t* attributes) {
  return give_attributes(device, attributes);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t* attributes) {
  return give_attributes(device, attributes);
}

} // extern "C"
