// Accounting: what each process did on a card, also after its end, while the mode is on. From the device's
// own record; processes that started before the mode was on, or ended before it was cleared, are not in it.
#include <algorithm>
#include <ctime>
#include <optional>
#include <unistd.h>
#include <vector>

#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/layout.hpp"
#include "native/simgpu/nvml/ledger.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::BusyInterval;
using aliquot::simgpu::machine::kDeparted;
using aliquot::simgpu::machine::ProcessRecord;

namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

struct Accounted {
  ProcessRecord record;
  bool running;
  std::uint64_t ended_ns = 0; // CLOCK_BOOTTIME, of one that does not run
};

bool is_on(const View& view) noexcept {
  return view.controls.accounting.load() == NVML_FEATURE_ENABLED + 1 &&
         !view.machine.mig().enabled(view.index);
}

std::uint64_t started_ns(const ProcessRecord& record) noexcept {
  const auto ticks = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  return record.start_time * (kSecondNs / (ticks != 0 ? ticks : 100));
}

// When a process that is gone last had the engine: its end, as far as the device knows it. One that never had
// it ended when it started.
std::uint64_t last_work_ns(const View& view, const std::vector<BusyInterval>& intervals,
                           const ProcessRecord& record) noexcept {
  std::uint64_t last = started_ns(record);
  if (record.card != view.index)
    return last;
  const std::uint64_t offset = boot_ns() - aliquot::simgpu::machine::monotonic_ns(); // time asleep
  for (const BusyInterval& interval : intervals)
    if (interval.identity == record.identity)
      last = std::max(last, interval.end_ns + offset);
  return last;
}

// A tick is the precision of a start time.
bool within(const View& view, const Accounted& process) noexcept {
  constexpr std::uint64_t kTickNs = 10'000'000;
  const bool new_enough = started_ns(process.record) + kTickNs >= view.controls.accounting_since_ns.load();
  return process.record.card == view.index && new_enough &&
         (process.running || process.ended_ns > view.controls.accounting_cleared_ns.load());
}

// The last to end comes last, so that of several processes with one pid it is the one that is told of.
std::vector<Accounted> accounted(const View& view) {
  std::vector<Accounted> all;
  const std::vector<BusyInterval> intervals = view.machine.busy_intervals(view.index);
  for (const ProcessRecord& record : view.machine.departed())
    all.push_back({record, false, last_work_ns(view, intervals, record)});
  for (const ProcessRecord& record : view.machine.processes())
    all.push_back({record, true, 0});
  std::erase_if(all, [&](const Accounted& process) { return !within(view, process); });
  return all;
}

std::vector<unsigned int> accounted_pids(const View& view) {
  std::vector<unsigned int> pids;
  for (const Accounted& process : accounted(view))
    pids.push_back(static_cast<unsigned int>(process.record.pid));
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

std::optional<Accounted> find(const View& view, unsigned int pid) {
  std::optional<Accounted> found;
  for (const Accounted& process : accounted(view))
    if (static_cast<unsigned int>(process.record.pid) == pid)
      found = process;
  return found;
}

// Microseconds of the wall clock, from nanoseconds since boot.
unsigned long long wall_us(std::uint64_t since_boot_ns) noexcept {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto wall =
      static_cast<std::uint64_t>(now.tv_sec) * kSecondNs + static_cast<std::uint64_t>(now.tv_nsec);
  return (wall - boot_ns() + since_boot_ns) / 1000;
}

template <typename Stats>
void write_stats(const Accounted& process, Stats& stats) noexcept {
  const std::uint64_t start = started_ns(process.record);
  const std::uint64_t end = process.running ? boot_ns() : process.ended_ns;
  const std::uint64_t lived = std::max<std::uint64_t>(end > start ? end - start : 0, 1);
  const auto percent =
      static_cast<unsigned int>(std::min<std::uint64_t>(process.record.busy_ns * 100 / lived, 100));
  stats.gpuUtilization = percent;
  stats.memoryUtilization = percent / 2; // as of the whole card: activity.cpp
  stats.maxMemoryUsage = process.record.peak_vram_bytes;
  stats.time = process.running ? 0 : lived / 1'000'000;
  stats.startTime = wall_us(start);
  stats.isRunning = process.running ? 1 : 0;
}

template <typename Answer>
nvmlReturn_t when_on(nvmlDevice_t device, Outputs outputs, Answer&& answer) {
  return on_card(device, outputs,
                 [&](const View& view) { return is_on(view) ? answer(view) : NVML_ERROR_NOT_SUPPORTED; });
}

void forget_before(CardControls& controls, std::uint64_t moment_ns) noexcept {
  controls.accounting_cleared_ns.store(moment_ns);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAccountingMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
  return read_value(device, mode, [](const View& view) {
    return is_on(view) ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetAccountingMode(nvmlDevice_t device, nvmlEnableState_t mode) {
  return on_card_as_root(device, {}, [&](const View& view) {
    if (mode != NVML_FEATURE_ENABLED && mode != NVML_FEATURE_DISABLED)
      return NVML_ERROR_INVALID_ARGUMENT;
    if (view.machine.mig().enabled(view.index))
      return NVML_ERROR_NOT_SUPPORTED;
    if (is_on(view) == (mode == NVML_FEATURE_ENABLED))
      return NVML_SUCCESS;
    const std::uint64_t now = boot_ns();
    forget_before(view.controls, now);
    view.controls.accounting_since_ns.store(now);
    view.controls.accounting.store(std::uint64_t{mode} + 1);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceClearAccountingPids(nvmlDevice_t device) {
  return on_card_as_root(device, {}, [&](const View& view) {
    if (!is_on(view))
      return NVML_ERROR_NOT_SUPPORTED;
    forget_before(view.controls, boot_ns());
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAccountingBufferSize(nvmlDevice_t device, unsigned int* size) {
  return when_on(device, {size}, [&](const View&) {
    *size = kDeparted;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int* count,
                                                        unsigned int* pids) {
  return when_on(device, {count}, [&](const View& view) {
    return give_list(accounted_pids(view), count, pids,
                     [&](std::size_t i, unsigned int pid) { pids[i] = pid; });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid,
                                                         nvmlAccountingStats_t* stats) {
  return when_on(device, {stats}, [&](const View& view) {
    const std::optional<Accounted> process = find(view, pid);
    if (!process)
      return NVML_ERROR_NOT_FOUND;
    *stats = {};
    write_stats(*process, *stats);
    return NVML_SUCCESS;
  });
}

} // extern "C"
