// How busy the card and its other engines are, now and in the last seconds.
#include <algorithm>
#include <cmath>
#include <ctime>
#include <vector>

#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::BusyInterval;
using aliquot::simgpu::machine::monotonic_ns;

namespace {

constexpr unsigned int kSamplingUs = 1'000'000;
constexpr std::uint64_t kSampleNs = 100'000'000; // a sample's window
constexpr std::size_t kSamples = 100;

bool is_divided(const View& view) noexcept {
  return view.machine.mig().enabled(view.index);
}

// Engines for video are not simulated, so they are idle. nvml.h: not with MIG enabled.
nvmlReturn_t idle_engine(nvmlDevice_t device, unsigned int* utilization, unsigned int* period_us) {
  return on_card(device, {utilization, period_us}, [&](const View& view) {
    if (is_divided(view))
      return NVML_ERROR_NOT_SUPPORTED;
    *utilization = 0;
    *period_us = kSamplingUs;
    return NVML_SUCCESS;
  });
}

struct Sample {
  std::uint64_t end_us; // of the wall clock
  unsigned int busy_percent;
};

std::uint64_t wall_ns() noexcept {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

// An interval's busy time spread over it, into the windows that it touches; window 0 ends at `newest`.
void spread(const BusyInterval& interval, std::uint64_t newest, std::vector<double>& busy) {
  const double density =
      interval.end_ns > interval.start_ns
          ? static_cast<double>(interval.busy_ns) / static_cast<double>(interval.end_ns - interval.start_ns)
          : 0;
  for (std::size_t window = 0; window < busy.size(); ++window) {
    const std::uint64_t end = newest - window * kSampleNs, start = end - kSampleNs;
    const std::uint64_t from = std::max(start, interval.start_ns), to = std::min(end, interval.end_ns);
    if (from < to)
      busy[window] += static_cast<double>(to - from) * density;
  }
}

// The windows that have ended, oldest first. They lie on a grid, so that who asks again finds them unmoved.
std::vector<Sample> samples_of(const View& view) {
  const std::uint64_t now = monotonic_ns(), newest = now / kSampleNs * kSampleNs;
  const std::uint64_t offset = wall_ns() - now; // to within what the clocks drift
  const std::size_t windows = std::min<std::size_t>(kSamples, newest / kSampleNs);
  std::vector<double> busy(windows);
  for (const BusyInterval& interval : view.machine.busy_intervals(view.index))
    if (interval.end_ns + kSamples * kSampleNs > newest)
      spread(interval, newest, busy);
  std::vector<Sample> samples;
  for (std::size_t window = windows; window-- > 0;) {
    const double percent = std::min(100.0, 100 * busy[window] / static_cast<double>(kSampleNs));
    samples.push_back(
        {(newest - window * kSampleNs + offset) / 1000, static_cast<unsigned int>(std::lround(percent))});
  }
  return samples;
}

// What a sample shows of each kind.
unsigned int value_of(const View& view, nvmlSamplingType_t type, const Sample& sample) noexcept {
  const OperatingPoint point = operating_point(view);
  switch (type) {
  case NVML_TOTAL_POWER_SAMPLES:
    return view.model.idle_power_mw +
           static_cast<unsigned int>(std::uint64_t{point.load_mw} * sample.busy_percent / 100);
  case NVML_GPU_UTILIZATION_SAMPLES:
    return sample.busy_percent;
  case NVML_MEMORY_UTILIZATION_SAMPLES:
    return sample.busy_percent / 2;
  case NVML_PROCESSOR_CLK_SAMPLES:
    return sample.busy_percent != 0 ? point.sm_mhz : kLowestSmMhz;
  case NVML_MEMORY_CLK_SAMPLES:
    return sample.busy_percent != 0 ? point.memory_mhz : idle_memory_mhz(view.model);
  default:
    return 0; // engines for video
  }
}

nvmlReturn_t check_samples(const View& view, nvmlSamplingType_t type) noexcept {
  if (type >= NVML_SAMPLINGTYPE_COUNT)
    return NVML_ERROR_INVALID_ARGUMENT;
  const bool of_clock_or_power = type == NVML_TOTAL_POWER_SAMPLES || type == NVML_PROCESSOR_CLK_SAMPLES ||
                                 type == NVML_MEMORY_CLK_SAMPLES;
  if (type == NVML_MODULE_POWER_SAMPLES || (!of_clock_or_power && is_divided(view)))
    return NVML_ERROR_NOT_SUPPORTED;
  return NVML_SUCCESS;
}

nvmlReturn_t give_samples(const View& view, nvmlSamplingType_t type, unsigned long long after_us,
                          unsigned int* count, nvmlSample_t* place) {
  std::vector<Sample> samples = samples_of(view);
  // Timestamps move by what the clocks drift; a window is told apart by far more.
  std::erase_if(samples, [&](const Sample& each) { return each.end_us <= after_us + kSampleNs / 4000; });
  if (samples.empty())
    return NVML_ERROR_NOT_FOUND;
  if (place == nullptr) {
    *count = static_cast<unsigned int>(samples.size());
    return NVML_SUCCESS;
  }
  if (*count == 0)
    return NVML_ERROR_INVALID_ARGUMENT;
  const std::size_t given = std::min<std::size_t>(*count, samples.size());
  for (std::size_t i = 0; i < given; ++i) {
    place[i].timeStamp = samples[i].end_us;
    place[i].sampleValue = {};
    place[i].sampleValue.uiVal = value_of(view, type, samples[i]);
  }
  *count = static_cast<unsigned int>(given);
  return NVML_SUCCESS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device,
                                                          nvmlUtilization_t* utilization) {
  return on_card(device, {utilization}, [&](const View& view) {
    if (is_divided(view))
      return NVML_ERROR_NOT_SUPPORTED;
    utilization->gpu = load_percent(view);
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

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetJpgUtilization(nvmlDevice_t device, unsigned int* utilization,
                                                        unsigned int* period_us) {
  return idle_engine(device, utilization, period_us);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetOfaUtilization(nvmlDevice_t device, unsigned int* utilization,
                                                        unsigned int* period_us) {
  return idle_engine(device, utilization, period_us);
}

// Nobody encodes or captures: no sessions, and so no figures of them.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, unsigned int* sessions,
                                                      unsigned int* frames, unsigned int* latency) {
  return on_card(device, {sessions, frames, latency}, [&](const View&) {
    *sessions = *frames = *latency = 0;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetEncoderSessions(nvmlDevice_t device, unsigned int* count,
                                                         nvmlEncoderSessionInfo_t*) {
  return read_value(device, count, [](const View&) { return 0; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFBCStats(nvmlDevice_t device, nvmlFBCStats_t* stats) {
  return on_card(device, {stats}, [&](const View&) {
    *stats = {};
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFBCSessions(nvmlDevice_t device, unsigned int* count,
                                                     nvmlFBCSessionInfo_t*) {
  return read_value(device, count, [](const View&) { return 0; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type,
                                                 unsigned long long after_us, nvmlValueType_t* value_type,
                                                 unsigned int* count, nvmlSample_t* samples) {
  return on_card(device, {value_type, count}, [&](const View& view) {
    const nvmlReturn_t valid = check_samples(view, type);
    if (valid != NVML_SUCCESS)
      return valid;
    *value_type = NVML_VALUE_TYPE_UNSIGNED_INT;
    return give_samples(view, type, after_us, count, samples);
  });
}

// Only the graphics domain has a meaning here (nvml.h: NVML_GPU_UTILIZATION_DOMAIN_GPU is the first).
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDynamicPstatesInfo(nvmlDevice_t device,
                                                            nvmlGpuDynamicPstatesInfo_t* info) {
  return on_card(device, {info}, [&](const View& view) {
    if (is_divided(view))
      return NVML_ERROR_NOT_SUPPORTED;
    *info = {};
    info->flags = 1;
    info->utilization[0].bIsPresent = 1;
    info->utilization[0].percentage = load_percent(view);
    info->utilization[1].bIsPresent = 1; // the frame buffer
    info->utilization[1].percentage = memory_utilisation(view);
    return NVML_SUCCESS;
  });
}

} // extern "C"
