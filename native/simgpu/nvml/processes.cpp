// Processes on a card: memory that each holds, share of the engine that each had.
#include <ctime>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

struct OnCard {
  unsigned int pid;
  unsigned int gpu_instance, compute_instance; // nvml.h: 0xFFFFFFFF outside MIG
  unsigned long long bytes;
};

bool concerns(const View& view, const aliquot::simgpu::machine::ProcessRecord& record) noexcept {
  return record.card == view.index &&
         (view.instance == nullptr ||
          (record.gpu_instance == view.instance->gpu.id && record.compute_instance == view.instance->id));
}

// One line per process and instance, though it may have the library twice.
std::vector<OnCard> processes_on(const View& view) {
  std::map<std::tuple<unsigned int, unsigned int, unsigned int>, unsigned long long> bytes;
  for (const auto& record : view.machine.processes())
    if (concerns(view, record))
      bytes[{static_cast<unsigned int>(record.pid), record.gpu_instance, record.compute_instance}] +=
          record.vram_bytes;
  std::vector<OnCard> result;
  result.reserve(bytes.size());
  for (const auto& [place, held] : bytes)
    result.push_back({std::get<0>(place), std::get<1>(place), std::get<2>(place), held});
  return result;
}

void write_info(const OnCard& process, nvmlProcessInfo_v1_t& info) {
  info = {process.pid, process.bytes};
}

template <typename Info>
void write_info(const OnCard& process, Info& info) {
  info = {process.pid, process.bytes, process.gpu_instance, process.compute_instance};
}

template <typename Info>
nvmlReturn_t list_compute(nvmlDevice_t device, unsigned int* count, Info* infos) {
  return on_device(device, {count}, [&](const View& view) {
    if (*count != 0 && infos == nullptr)
      return NVML_ERROR_INVALID_ARGUMENT;
    return give_list(processes_on(view), count, infos,
                     [&](std::size_t i, const OnCard& process) { write_info(process, infos[i]); });
  });
}

nvmlReturn_t list_nobody(nvmlDevice_t device, unsigned int* count) {
  return on_device(device, {count}, [&](const View&) {
    *count = 0;
    return NVML_SUCCESS;
  });
}

unsigned long long now_us() {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<unsigned long long>(now.tv_sec) * 1'000'000 +
         static_cast<unsigned long long>(now.tv_nsec) / 1000;
}

struct Share {
  unsigned int pid, percent;
};

std::vector<Share> shares_on(const View& view) {
  std::vector<Share> shares;
  for (const OnCard& process : processes_on(view)) {
    const auto pid = static_cast<std::int32_t>(process.pid);
    shares.push_back({process.pid, view.machine.process_utilisation_percent(view.index, pid)});
  }
  return shares;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int* count,
                                                                 nvmlProcessInfo_v1_t* infos) {
  return list_compute(device, count, infos);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int* count,
                                                                    nvmlProcessInfo_v2_t* infos) {
  return list_compute(device, count, infos);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int* count,
                                                                    nvmlProcessInfo_t* infos) {
  return list_compute(device, count, infos);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, unsigned int* count,
                                                                  nvmlProcessInfo_v1_t*) {
  return list_nobody(device, count);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, unsigned int* count,
                                                                     nvmlProcessInfo_v2_t*) {
  return list_nobody(device, count);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int* count,
                                                                     nvmlProcessInfo_t*) {
  return list_nobody(device, count);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses(nvmlDevice_t device, unsigned int* count,
                                                                    nvmlProcessInfo_v1_t*) {
  return list_nobody(device, count);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlDevice_t device,
                                                                       unsigned int* count,
                                                                       nvmlProcessInfo_v2_t*) {
  return list_nobody(device, count);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device,
                                                                       unsigned int* count,
                                                                       nvmlProcessInfo_t*) {
  return list_nobody(device, count);
}

// Samples are of the last second, taken when they are asked for.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
                                                            nvmlProcessUtilizationSample_t* samples,
                                                            unsigned int* count,
                                                            unsigned long long last_seen_us) {
  return on_card(device, {count}, [&](const View& view) {
    if (view.machine.mig().enabled(view.index))
      return NVML_ERROR_NOT_SUPPORTED;
    const std::vector<Share> shares = shares_on(view);
    const unsigned long long now = now_us();
    if (shares.empty() || last_seen_us > now) {
      *count = 0;
      return NVML_ERROR_NOT_FOUND;
    }
    const unsigned int room = std::exchange(*count, static_cast<unsigned int>(shares.size()));
    if (samples == nullptr || room < shares.size())
      return NVML_ERROR_INSUFFICIENT_SIZE;
    for (std::size_t i = 0; i < shares.size(); ++i)
      samples[i] = {shares[i].pid, now, shares[i].percent, shares[i].percent / 2, 0, 0};
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                                  nvmlProcessesUtilizationInfo_t* info) {
  return on_card(device, {info}, [&](const View& view) {
    if (info->version != struct_version(sizeof(nvmlProcessesUtilizationInfo_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (view.machine.mig().enabled(view.index))
      return NVML_ERROR_NOT_SUPPORTED;
    const std::vector<Share> shares = shares_on(view);
    const unsigned int room =
        std::exchange(info->processSamplesCount, static_cast<unsigned int>(shares.size()));
    if (shares.empty())
      return NVML_ERROR_NOT_FOUND;
    if (info->procUtilArray == nullptr || room < shares.size())
      return NVML_ERROR_INSUFFICIENT_SIZE;
    const unsigned long long now = now_us();
    for (std::size_t i = 0; i < shares.size(); ++i)
      info->procUtilArray[i] = {now, shares[i].pid, shares[i].percent, shares[i].percent / 2, 0, 0, 0, 0};
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
                                                                  nvmlProcessDetailList_t* list) {
  return on_device(device, {list}, [&](const View& view) {
    if (list->version != struct_version(sizeof(nvmlProcessDetailList_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    constexpr unsigned int kCompute = 0, kModes = 3; // nvml.h: 0 compute, 1 graphics, 2 MPS
    if (list->mode >= kModes)
      return NVML_ERROR_INVALID_ARGUMENT;
    const std::vector<OnCard> processes = list->mode == kCompute ? processes_on(view) : std::vector<OnCard>();
    return give_list(processes, &list->numProcArrayEntries, list->procArray,
                     [&](std::size_t i, const OnCard& process) {
                       list->procArray[i] = {process.pid, process.bytes, process.gpu_instance,
                                             process.compute_instance, 0};
                     });
  });
}

} // extern "C"
