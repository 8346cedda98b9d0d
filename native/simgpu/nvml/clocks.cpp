// Clocks: current, highest, supported, why not faster. Derived from the load: physics.hpp says how.
#include <vector>

#include "native/simgpu/nvml/clocks.hpp"
#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

nvmlReturn_t give_clock(nvmlClockType_t type, unsigned int sm, unsigned int memory,
                        unsigned int* clock) noexcept {
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

std::vector<std::uint32_t> memory_clocks(const CardModel& model) {
  std::vector<std::uint32_t> clocks{full_memory_mhz(model)};
  if (idle_memory_mhz(model) != clocks.front())
    clocks.push_back(idle_memory_mhz(model));
  return clocks;
}

std::vector<std::uint32_t> graphics_clocks(const CardModel& model) {
  std::vector<std::uint32_t> clocks;
  for (std::uint32_t mhz = boost_mhz(model); mhz >= kLowestSmMhz; mhz -= kClockStepMhz)
    clocks.push_back(mhz);
  return clocks;
}

} // namespace aliquot::simgpu::nvml

using namespace aliquot::simgpu::nvml;

namespace {

nvmlReturn_t highest_clock(nvmlDevice_t device, nvmlClockType_t type, unsigned int* clock) {
  return on_card(device, {clock}, [&](const View& view) {
    return give_clock(type, boost_mhz(view.model), full_memory_mhz(view.model), clock);
  });
}

nvmlReturn_t give_clocks(const std::vector<std::uint32_t>& clocks, unsigned int* count, unsigned int* place) {
  return give_list(clocks, count, place, [&](std::size_t i, std::uint32_t mhz) { place[i] = mhz; });
}

// Cards with HBM keep their memory clock and so their state; others go down when idle.
nvmlPstates_t state_of(const View& view) noexcept {
  return memory_clock_mhz(view) == full_memory_mhz(view.model) ? NVML_PSTATE_0 : NVML_PSTATE_8;
}

nvmlReturn_t reasons_that_exist(nvmlDevice_t device, unsigned long long* reasons) {
  return read_value(device, reasons, [](const View&) {
    return nvmlClocksEventReasonGpuIdle | nvmlClocksEventReasonApplicationsClocksSetting |
           nvmlClocksEventReasonSwPowerCap | nvmlClocksThrottleReasonHwSlowdown |
           nvmlClocksEventReasonSwThermalSlowdown | nvmlClocksThrottleReasonHwThermalSlowdown |
           nvmlClocksThrottleReasonHwPowerBrakeSlowdown;
  });
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

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMaxCustomerBoostClock(nvmlDevice_t device, nvmlClockType_t type,
                                                               unsigned int* clock) {
  return highest_clock(device, type, clock);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
                                                           unsigned int* clock) {
  return on_card(device, {clock}, [&](const View& view) {
    const auto set = aliquot::simgpu::machine::unpacked(view.controls.applications.load());
    return give_clock(type, set.high_mhz != 0 ? set.high_mhz : boost_mhz(view.model),
                      set.low_mhz != 0 ? set.low_mhz : full_memory_mhz(view.model), clock);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
                                                                  unsigned int* clock) {
  return highest_clock(device, type, clock);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id,
                                               unsigned int* clock) {
  switch (id) {
  case NVML_CLOCK_ID_CURRENT:
    return nvmlDeviceGetClockInfo(device, type, clock);
  case NVML_CLOCK_ID_APP_CLOCK_TARGET:
    return nvmlDeviceGetApplicationsClock(device, type, clock);
  case NVML_CLOCK_ID_APP_CLOCK_DEFAULT:
  case NVML_CLOCK_ID_CUSTOMER_BOOST_MAX:
    return highest_clock(device, type, clock);
  default:
    return on_card(device, {clock}, [](const View&) { return NVML_ERROR_INVALID_ARGUMENT; });
  }
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int* count,
                                                               unsigned int* clocks) {
  return on_card(device, {count},
                 [&](const View& view) { return give_clocks(memory_clocks(view.model), count, clocks); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device,
                                                                 unsigned int memory_clock,
                                                                 unsigned int* count, unsigned int* clocks) {
  return on_card(device, {count}, [&](const View& view) {
    if (memory_clock == full_memory_mhz(view.model))
      return give_clocks(graphics_clocks(view.model), count, clocks);
    if (memory_clock == idle_memory_mhz(view.model))
      return give_clocks({kLowestSmMhz}, count, clocks);
    return NVML_ERROR_NOT_FOUND;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t* state) {
  return read_value(device, state, state_of);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPowerState(nvmlDevice_t device, nvmlPstates_t* state) {
  return read_value(device, state, state_of);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device,
                                                                   unsigned long long* reasons) {
  return read_value(device, reasons, clock_reasons);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device,
                                                                      unsigned long long* reasons) {
  return read_value(device, reasons, clock_reasons);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedClocksEventReasons(nvmlDevice_t device,
                                                                     unsigned long long* reasons) {
  return reasons_that_exist(device, reasons);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedClocksThrottleReasons(nvmlDevice_t device,
                                                                        unsigned long long* reasons) {
  return reasons_that_exist(device, reasons);
}

} // extern "C"
