// GPU Performance Monitoring (Hopper and newer): figures over the time between two samples. Busy time and
// PCIe traffic are the device's own record; what the simulator does not count is refused metric by metric.
#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

#include "native/simgpu/nvml/ledger.hpp"
#include "native/simgpu/nvml/mig.hpp"
#include "native/simgpu/nvml/session.hpp"
#include "native/simgpu/nvml/traffic.hpp"
#include "native/simgpu/nvml/traits.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::ComputeInstance;

// The vendor's type is opaque: this is ours.
struct nvmlGpmSample_st {
  std::uint64_t at_ns = 0, busy_ns = 0; // 0: not taken yet
  Traffic traffic;
};

namespace {

// Which samples are allocated: any other pointer is told apart without a look at it.
struct Samples {
  std::mutex mutex;
  std::set<nvmlGpmSample_t> live;
};

// Never destroyed: programs free their samples after static destructors have run.
Samples& samples() {
  static Samples* const all = new Samples;
  return *all;
}

bool is_live(nvmlGpmSample_t sample) {
  Samples& all = samples();
  const std::lock_guard lock(all.mutex);
  return all.live.contains(sample);
}

nvmlReturn_t take(const View& view, const ComputeInstance* instance, std::uint64_t busy_ns,
                  nvmlGpmSample_t sample) {
  sample->at_ns = boot_ns();
  sample->busy_ns = busy_ns;
  sample->traffic = traffic_of(view.machine, view.index, instance);
  return NVML_SUCCESS;
}

struct Metric {
  unsigned int id;
  const char *short_name, *long_name, *unit;
  double (*value)(const nvmlGpmSample_st& first, const nvmlGpmSample_st& second, double seconds);
};

double since(std::uint64_t first, std::uint64_t second) noexcept {
  return second > first ? static_cast<double>(second - first) : 0;
}

double busy_percent(const nvmlGpmSample_st& first, const nvmlGpmSample_st& second, double seconds) {
  return std::min(100.0, since(first.busy_ns, second.busy_ns) / seconds / 1e7);
}

constexpr double kMib = 1 << 20;

constexpr Metric kMetrics[] = {
    {NVML_GPM_METRIC_GRAPHICS_UTIL, "Graphics Utilization", "Time for which the compute engine was busy", "%",
     busy_percent},
    {NVML_GPM_METRIC_SM_UTIL, "SM Utilization", "Time for which the multiprocessors were busy", "%",
     busy_percent},
    {NVML_GPM_METRIC_PCIE_TX_PER_SEC, "PCIe Tx", "What the card sent over PCIe", "MiB/s",
     [](const nvmlGpmSample_st& first, const nvmlGpmSample_st& second, double seconds) {
       return since(first.traffic.to_host, second.traffic.to_host) / kMib / seconds;
     }},
    {NVML_GPM_METRIC_PCIE_RX_PER_SEC, "PCIe Rx", "What the card received over PCIe", "MiB/s",
     [](const nvmlGpmSample_st& first, const nvmlGpmSample_st& second, double seconds) {
       return since(first.traffic.to_device, second.traffic.to_device) / kMib / seconds;
     }},
};

const Metric* find_metric(unsigned int id) noexcept {
  for (const Metric& metric : kMetrics)
    if (metric.id == id)
      return &metric;
  return nullptr;
}

void fill(nvmlGpmMetric_t& asked, const nvmlGpmSample_st& first, const nvmlGpmSample_st& second,
          double seconds) {
  const Metric* metric = find_metric(asked.metricId);
  asked.value = 0;
  asked.metricInfo = {};
  asked.nvmlReturn = metric != nullptr ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
  if (metric == nullptr)
    return;
  asked.value = metric->value(first, second, seconds);
  asked.metricInfo = {const_cast<char*>(metric->short_name), const_cast<char*>(metric->long_name),
                      const_cast<char*>(metric->unit)};
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t* support) {
  return on_device(device, {support}, [&](const View& view) {
    if (support->version != NVML_GPM_SUPPORT_VERSION)
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    support->isSupportedDevice = is_hopper_or_newer(view) ? 1 : 0;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t* sample) {
  return on_session({sample}, [&](const Session&) {
    auto made = std::make_unique<nvmlGpmSample_st>();
    Samples& all = samples();
    const std::lock_guard lock(all.mutex);
    all.live.insert(made.get());
    *sample = made.release();
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample) {
  return on_session({sample}, [&](const Session&) {
    Samples& all = samples();
    const std::lock_guard lock(all.mutex);
    if (all.live.erase(sample) == 0)
      return NVML_ERROR_INVALID_ARGUMENT;
    delete sample;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
  return on_device(device, {sample}, [&](const View& view) {
    if (!is_live(sample))
      return NVML_ERROR_INVALID_ARGUMENT;
    if (!is_hopper_or_newer(view))
      return NVML_ERROR_NOT_SUPPORTED;
    const std::uint64_t busy = view.instance != nullptr
                                   ? view.machine.mig().busy_ns(view.index, *view.instance)
                                   : view.machine.busy_ns(view.index);
    return take(view, view.instance, busy, sample);
  });
}

// A GPU instance is as busy as the busiest of its compute instances.
ALIQUOT_EXPORT nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned int gpu_instance,
                                                nvmlGpmSample_t sample) {
  return on_card(device, {sample}, [&](const View& view) {
    if (!is_live(sample))
      return NVML_ERROR_INVALID_ARGUMENT;
    if (!is_hopper_or_newer(view) || !view.machine.mig().enabled(view.index))
      return NVML_ERROR_NOT_SUPPORTED;
    std::optional<ComputeInstance> busiest;
    std::uint64_t most = 0;
    for (const ComputeInstance& each : view.machine.mig().compute_instances(view.index)) {
      const std::uint64_t busy = view.machine.mig().busy_ns(view.index, each);
      if (each.gpu.id == gpu_instance && (!busiest || busy > most)) {
        busiest = each;
        most = busy;
      }
    }
    return busiest ? take(view, &*busiest, most, sample) : NVML_ERROR_INVALID_ARGUMENT;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t* request) {
  return on_session({request}, [&](const Session&) {
    if (request->version != NVML_GPM_METRICS_GET_VERSION)
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (request->numMetrics == 0 || request->numMetrics > std::size(request->metrics) ||
        !is_live(request->sample1) || !is_live(request->sample2))
      return NVML_ERROR_INVALID_ARGUMENT;
    const nvmlGpmSample_st &first = *request->sample1, &second = *request->sample2;
    if (first.at_ns == 0 || second.at_ns <= first.at_ns)
      return NVML_ERROR_INVALID_ARGUMENT; // not taken, or not in this order
    const double seconds = static_cast<double>(second.at_ns - first.at_ns) / 1e9;
    for (unsigned int i = 0; i < request->numMetrics; ++i)
      fill(request->metrics[i], first, second, seconds);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGpmQueryIfStreamingEnabled(nvmlDevice_t device, unsigned int* state) {
  return read_value_if(is_hopper_or_newer, device, state, [](const View&) { return NVML_FEATURE_DISABLED; });
}

} // extern "C"
