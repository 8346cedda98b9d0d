// Hooks of what processes do: utilisation, accounting, details of processes. A tenant sees its own slice's,
// made of what NVML says of the slice's processes one by one.
#include <algorithm>
#include <cstring>

#include "native/limiter/nvml/library.hpp"
#include "native/limiter/nvml/scope.hpp"
#include "native/limiter/own_slice.hpp"
#include "native/limiter/region/slice_view.hpp"

namespace aliquot::limiter {
namespace {

constexpr unsigned kMostSamples = 1024;
constexpr unsigned kNoInstance = 0xFFFFFFFFu; // nvml.h: outside of MIG

// The slice's processes on a device that this one can name.
struct Tenants {
  Tenant all[layout::kMaxProcesses];
  unsigned count = 0;

  explicit Tenants(nvmlDevice_t device) noexcept {
    const SliceRegion* region = slice_region(SliceRegion::Access::Look);
    const unsigned number = slice_device(device);
    if (region == nullptr || number == kNotInSlice)
      return;
    const unsigned found = tenants_of(*region, number, all);
    const Tenant* end =
        std::remove_if(all, all + found, [](const Tenant& t) { return t.pid == 0 || t.held == 0; });
    count = static_cast<unsigned>(end - all);
  }
  bool have(unsigned pid) const noexcept {
    return std::any_of(all, all + count, [pid](const Tenant& t) { return t.pid == pid; });
  }
};

struct Samples {
  nvmlProcessUtilizationSample_t all[kMostSamples];
  unsigned count = kMostSamples;
};

// Those of the slice's processes, in the order in which NVML gives them.
nvmlReturn_t read_samples(nvmlDevice_t device, unsigned long long since, Samples& samples) noexcept {
  const nvmlReturn_t answer =
      nvml().nvmlDeviceGetProcessUtilization(device, samples.all, &samples.count, since);
  if (answer == NVML_ERROR_NOT_FOUND) {
    samples.count = 0;
    return NVML_SUCCESS;
  }
  if (answer != NVML_SUCCESS)
    return answer;
  const Tenants tenants(device);
  const auto* end =
      std::remove_if(samples.all, samples.all + std::min(samples.count, kMostSamples),
                     [&](const nvmlProcessUtilizationSample_t& sample) { return !tenants.have(sample.pid); });
  samples.count = static_cast<unsigned>(end - samples.all);
  return NVML_SUCCESS;
}

unsigned percent(unsigned long long sum) noexcept {
  return static_cast<unsigned>(std::min<unsigned long long>(sum, 100));
}

bool is_in_slice(nvmlDevice_t device) noexcept {
  return slice_device(device) != kNotInSlice;
}

// As NVML does it: `count` says how many fit, and then how many there are.
template <typename Count>
nvmlReturn_t fits(Count& room, unsigned found, bool has_place) noexcept {
  const auto before = room;
  room = found;
  return has_place && before >= found ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

bool is_any_of_slice(unsigned pid) noexcept {
  for (unsigned number = 0; number < visible_devices(); ++number) {
    if (Tenants(visible_device(number)).have(pid))
      return true;
  }
  return false;
}

template <typename Attributes>
nvmlReturn_t cut_attributes(nvmlReturn_t answer, nvmlDevice_t device, Attributes* attributes) noexcept {
  constexpr unsigned long long kMib = 1 << 20;
  const SliceRegion* region = slice_region(SliceRegion::Access::Look);
  if (answer != NVML_SUCCESS || region == nullptr)
    return answer;
  const std::uint64_t limit = is_in_slice(device) ? region->vram_limit(slice_device(device)) : 0;
  attributes->memorySizeMB = std::min<unsigned long long>(attributes->memorySizeMB, limit / kMib);
  return answer;
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t* rates) {
  nvmlUtilization_t of_card{};
  if (const nvmlReturn_t answer = nvml().nvmlDeviceGetUtilizationRates(device, &of_card);
      rates == nullptr || answer != NVML_SUCCESS)
    return rates == nullptr ? NVML_ERROR_INVALID_ARGUMENT : answer;
  Samples samples;
  if (const nvmlReturn_t answer = read_samples(device, 0, samples); answer != NVML_SUCCESS)
    return answer;
  unsigned long long sm = 0, memory = 0;
  // Of several samples of a process the last one counts.
  for (unsigned i = 0; i < samples.count; ++i) {
    const auto* rest = samples.all + i + 1;
    const unsigned pid = samples.all[i].pid;
    if (std::any_of(rest, static_cast<const nvmlProcessUtilizationSample_t*>(samples.all) + samples.count,
                    [pid](const auto& later) { return later.pid == pid; }))
      continue;
    sm += samples.all[i].smUtil;
    memory += samples.all[i].memUtil;
  }
  *rates = {percent(sm), percent(memory)};
  return NVML_SUCCESS;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
                                                            nvmlProcessUtilizationSample_t* utilization,
                                                            unsigned int* count, unsigned long long since) {
  if (count == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  Samples samples;
  if (const nvmlReturn_t answer = read_samples(device, since, samples); answer != NVML_SUCCESS)
    return answer;
  if (samples.count == 0) {
    *count = 0;
    return NVML_ERROR_NOT_FOUND;
  }
  if (const nvmlReturn_t answer = fits(*count, samples.count, utilization != nullptr); answer != NVML_SUCCESS)
    return answer;
  std::copy_n(samples.all, samples.count, utilization);
  return NVML_SUCCESS;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                                  nvmlProcessesUtilizationInfo_t* info) {
  nvmlProcessUtilizationInfo_v1_t all[kMostSamples];
  if (info == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  nvmlProcessesUtilizationInfo_t asked = *info;
  asked.processSamplesCount = kMostSamples;
  asked.procUtilArray = all;
  if (const nvmlReturn_t answer = nvml().nvmlDeviceGetProcessesUtilizationInfo(device, &asked);
      answer != NVML_SUCCESS)
    return answer;
  const Tenants tenants(device);
  const auto* end = std::remove_if(all, all + std::min(asked.processSamplesCount, kMostSamples),
                                   [&](const auto& sample) { return !tenants.have(sample.pid); });
  const auto found = static_cast<unsigned>(end - all);
  if (found == 0) {
    info->processSamplesCount = 0;
    return NVML_ERROR_NOT_FOUND;
  }
  if (const nvmlReturn_t answer = fits(info->processSamplesCount, found, info->procUtilArray != nullptr);
      answer != NVML_SUCCESS)
    return answer;
  info->lastSeenTimeStamp = asked.lastSeenTimeStamp;
  std::copy_n(all, found, info->procUtilArray);
  return NVML_SUCCESS;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
                                                                  nvmlProcessDetailList_t* list) {
  constexpr unsigned kCompute = 0; // nvml.h: 0 compute, 1 graphics, 2 MPS
  if (list == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  nvmlProcessDetailList_t asked = *list;
  asked.numProcArrayEntries = 0;
  asked.procArray = nullptr;
  const nvmlReturn_t answer = nvml().nvmlDeviceGetRunningProcessDetailList(device, &asked);
  if (answer != NVML_SUCCESS && answer != NVML_ERROR_INSUFFICIENT_SIZE)
    return answer;
  const Tenants tenants(device);
  const unsigned found = list->mode == kCompute ? tenants.count : 0;
  if (const nvmlReturn_t fit =
          fits(list->numProcArrayEntries, found, found == 0 || list->procArray != nullptr);
      fit != NVML_SUCCESS)
    return fit;
  for (unsigned i = 0; i < found; ++i)
    list->procArray[i] = {tenants.all[i].pid, tenants.all[i].held, kNoInstance, kNoInstance, 0};
  return NVML_SUCCESS;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int* count,
                                                        unsigned int* pids) {
  unsigned none = 0;
  if (count == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  const nvmlReturn_t answer = nvml().nvmlDeviceGetAccountingPids(device, &none, nullptr);
  if (answer != NVML_SUCCESS && answer != NVML_ERROR_INSUFFICIENT_SIZE)
    return answer;
  const Tenants tenants(device);
  if (const nvmlReturn_t fit = fits(*count, tenants.count, tenants.count == 0 || pids != nullptr);
      fit != NVML_SUCCESS)
    return fit;
  for (unsigned i = 0; i < tenants.count; ++i)
    pids[i] = tenants.all[i].pid;
  return NVML_SUCCESS;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid,
                                                         nvmlAccountingStats_t* stats) {
  return Tenants(device).have(pid) ? nvml().nvmlDeviceGetAccountingStats(device, pid, stats)
                                   : NVML_ERROR_NOT_FOUND;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAccountingStats_v2(nvmlDevice_t device,
                                                            nvmlAccountingStats_v2_t* stats) {
  if (stats == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  return Tenants(device).have(stats->pid) ? nvml().nvmlDeviceGetAccountingStats_v2(device, stats)
                                          : NVML_ERROR_NOT_FOUND;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char* name, unsigned int length) {
  return is_any_of_slice(pid) ? nvml().nvmlSystemGetProcessName(pid, name, length) : NVML_ERROR_NOT_FOUND;
}

// Clocks are the card's; everything else that is sampled adds up what all of its processes do.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type,
                                                 unsigned long long since, nvmlValueType_t* value,
                                                 unsigned int* count, nvmlSample_t* samples) {
  if (type != NVML_PROCESSOR_CLK_SAMPLES && type != NVML_MEMORY_CLK_SAMPLES)
    return NVML_ERROR_NOT_SUPPORTED;
  return nvml().nvmlDeviceGetSamples(device, type, since, value, count, samples);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device,
                                                       nvmlDeviceAttributes_t* attributes) {
  return cut_attributes(nvml().nvmlDeviceGetAttributes_v2(device, attributes), device, attributes);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t* attributes) {
  return cut_attributes(nvml().nvmlDeviceGetAttributes(device, attributes), device, attributes);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t* support) {
  const nvmlReturn_t answer = nvml().nvmlGpmQueryDeviceSupport(device, support);
  if (answer == NVML_SUCCESS)
    support->isSupportedDevice = 0; // its metrics are the whole card's
  return answer;
}
}
