// How busy the card and its other engines are.
#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

constexpr unsigned int kSamplingUs = 1'000'000;

// Engines for video are not simulated, so they are idle.
nvmlReturn_t idle_engine(nvmlDevice_t device, unsigned int* utilization, unsigned int* period_us) {
  return on_card(device, {utilization, period_us}, [&](const View&) {
    *utilization = 0;
    *period_us = kSamplingUs;
    return NVML_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device,
                                                          nvmlUtilization_t* utilization) {
  return on_card(device, {utilization}, [&](const View& view) {
    utilization->gpu = view.machine.utilisation_percent(view.index);
    utilization->memory = memory_utilisation(view);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int* utilization,
                                                            unsigned int* period_us) {
  return idle_engine(device, utilization, period_us);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int* utilization,
                                                            unsigned int* period_us) {
  return idle_engine(device, utilization, period_us);
}

} // extern "C"
