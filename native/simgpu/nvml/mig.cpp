// Multi-Instance GPU: cards that could be partitioned say that they are not.
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int* current,
                                                 unsigned int* pending) {
  return on_card(device, {current, pending}, [&](const View& view) {
    if (!view.model.mig_capable)
      return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = NVML_DEVICE_MIG_DISABLE;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int* is_mig) {
  return read_value(device, is_mig, [](const View&) { return 0; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int* count) {
  return read_value(device, count, [](const View& view) { return view.model.mig_capable ? 7 : 0; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int,
                                                                nvmlDevice_t* mig) {
  return on_card(device, {mig}, [](const View& view) {
    return view.model.mig_capable ? NVML_ERROR_NOT_FOUND : NVML_ERROR_NOT_SUPPORTED;
  });
}

} // extern "C"
