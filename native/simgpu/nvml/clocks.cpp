// Clocks and performance states. Derived from the load: physics.hpp says how.
#include <utility>

#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

constexpr unsigned int kStepMhz = 15, kLowestMhz = 210;

unsigned int boost_mhz(const View& view) {
  return view.model.clock_khz / 1000;
}
unsigned int highest_memory_mhz(const View& view) {
  return view.model.memory_clock_khz / 1000;
}

nvmlReturn_t give_clock(nvmlClockType_t type, unsigned int sm, unsigned int memory, unsigned int* clock) {
  switch (type) {
  case NVML_CLOCK_GRAPHICS:
  case NVML_CLOCK_SM:
    *clock = sm;
    return NVML_SUCCESS;
  case NVML_CLOCK_MEM:
    *clock = memory;
    return NVML_SUCCESS;
  case NVML_CLOCK_VIDEO:
    *clock = sm * 9 / 10; // the media engines run on a slower clock of the same source
    return NVML_SUCCESS;
  default:
    return NVML_ERROR_INVALID_ARGUMENT;
  }
}

nvmlReturn_t highest_clock(nvmlDevice_t device, nvmlClockType_t type, unsigned int* clock) {
  return on_card(device, {clock}, [&](const View& view) {
    return give_clock(type, boost_mhz(view), highest_memory_mhz(view), clock);
  });
}

unsigned int event_reasons(const View& view) {
  const bool idle = view.machine.utilisation_percent(view.index) == 0;
  return static_cast<unsigned int>(idle ? nvmlClocksEventReasonGpuIdle : nvmlClocksEventReasonNone);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type,
                                                   unsigned int* clock) {
  return on_card(device, {clock}, [&](const View& view) {
    return give_clock(type, sm_clock_mhz(view), memory_clock_mhz(view), clock);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type,
                                                      unsigned int* clock) {
  return highest_clock(device, type, clock);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
                                                           unsigned int* clock) {
  return highest_clock(device, type, clock);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
                                                                  unsigned int* clock) {
  return highest_clock(device, type, clock);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id,
                                               unsigned int* clock) {
  if (id >= NVML_CLOCK_ID_COUNT)
    return NVML_ERROR_INVALID_ARGUMENT;
  return id == NVML_CLOCK_ID_CURRENT ? nvmlDeviceGetClockInfo(device, type, clock)
                                     : highest_clock(device, type, clock);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int* count,
                                                               unsigned int* clocks) {
  return on_card(device, {count}, [&](const View& view) {
    const unsigned int room = std::exchange(*count, 1);
    if (clocks == nullptr || room < 1)
      return NVML_ERROR_INSUFFICIENT_SIZE;
    clocks[0] = highest_memory_mhz(view);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device,
                                                                 unsigned int memory_clock,
                                                                 unsigned int* count, unsigned int* clocks) {
  return on_card(device, {count}, [&](const View& view) {
    if (memory_clock != highest_memory_mhz(view))
      return NVML_ERROR_NOT_FOUND;
    const unsigned int steps = (boost_mhz(view) - kLowestMhz) / kStepMhz + 1;
    const unsigned int room = std::exchange(*count, steps);
    if (clocks == nullptr || room < steps)
      return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned int step = 0; step < steps; ++step)
      clocks[step] = boost_mhz(view) - step * kStepMhz;
    return NVML_SUCCESS;
  });
}

// Cards with HBM stay in P0; others go down when idle.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t* state) {
  return read_value(device, state, [](const View& view) {
    return memory_clock_mhz(view) == highest_memory_mhz(view) ? NVML_PSTATE_0 : NVML_PSTATE_8;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerState(nvmlDevice_t device, nvmlPstates_t* state) {
  return nvmlDeviceGetPerformanceState(device, state);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device,
                                                                   unsigned long long* reasons) {
  return read_value(device, reasons, event_reasons);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device,
                                                                      unsigned long long* reasons) {
  return read_value(device, reasons, event_reasons);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device,
                                                                     unsigned long long* reasons) {
  return read_value(device, reasons, [](const View&) { return nvmlClocksEventReasonGpuIdle; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedClocksThrottleReasons(nvmlDevice_t device,
                                                                        unsigned long long* reasons) {
  return nvmlDeviceGetSupportedClocksEventReasons(device, reasons);
}

} // extern "C"
