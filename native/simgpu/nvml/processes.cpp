// Processes on a card: memory that each holds, share of the engine that each had.
#include <ctime>
#include <map>
#include <utility>
#include <vector>

#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

struct OnCard {
  unsigned int pid;
  unsigned long long bytes;
};

// One line per process, though it may have the library twice.
std::vector<OnCard> processes_on(const View& view) {
  std::map<unsigned int, unsigned long long> bytes;
  for (const auto& record : view.machine.processes())
    if (record.card == view.index)
      bytes[static_cast<unsigned int>(record.pid)] += record.vram_bytes;
  std::vector<OnCard> result;
  result.reserve(bytes.size());
  for (const auto& [pid, held] : bytes)
    result.push_back({pid, held});
  return result;
}

void write_info(const OnCard& process, nvmlProcessInfo_v1_t& info) {
  info = {process.pid, process.bytes};
}

// Outside MIG a process is in no instance (nvml.h: 0xFFFFFFFF).
template <typename Info>
void write_info(const OnCard& process, Info& info) {
  info = {process.pid, process.bytes, 0xffffffff, 0xffffffff};
}

template <typename Info>
nvmlReturn_t list_compute(nvmlDevice_t device, unsigned int* count, Info* infos) {
  return on_card(device, {count}, [&](const View& view) {
    if (*count != 0 && infos == nullptr)
      return NVML_ERROR_INVALID_ARGUMENT;
    const std::vector<OnCard> processes = processes_on(view);
    const unsigned int room = std::exchange(*count, static_cast<unsigned int>(processes.size()));
    if (room < processes.size())
      return NVML_ERROR_INSUFFICIENT_SIZE;
    for (std::size_t i = 0; i < processes.size(); ++i)
      write_info(processes[i], infos[i]);
    return NVML_SUCCESS;
  });
}

nvmlReturn_t list_nobody(nvmlDevice_t device, unsigned int* count) {
  return read_value(device, count, [](const View&) { return 0; });
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
  return on_card(device, {list}, [&](const View& view) {
    if (list->version != struct_version(sizeof(nvmlProcessDetailList_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    constexpr unsigned int kCompute = 0; // nvml.h: 0 compute, 1 graphics, 2 MPS
    const std::vector<OnCard> processes = list->mode == kCompute ? processes_on(view) : std::vector<OnCard>();
    const unsigned int room =
        std::exchange(list->numProcArrayEntries, static_cast<unsigned int>(processes.size()));
    if (room < processes.size() || (!processes.empty() && list->procArray == nullptr))
      return NVML_ERROR_INSUFFICIENT_SIZE;
    for (std::size_t i = 0; i < processes.size(); ++i)
      list->procArray[i] = {processes[i].pid, processes[i].bytes, 0xffffffff, 0xffffffff, 0};
    return NVML_SUCCESS;
  });
}

} // extern "C"
