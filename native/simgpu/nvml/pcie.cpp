// The PCIe link: what it is, and what crosses it.
#include <ctime>

#include "native/simgpu/nvml/session.hpp"
#include "native/simgpu/nvml/traffic.hpp"

namespace aliquot::simgpu::nvml {
namespace {

bool is_within(const machine::ProcessRecord& record, std::uint32_t card,
               const machine::ComputeInstance* instance) noexcept {
  return record.card == card && (instance == nullptr || (record.gpu_instance == instance->gpu.id &&
                                                         record.compute_instance == instance->id));
}

} // namespace

Traffic traffic_of(Machine& machine, std::uint32_t card, const machine::ComputeInstance* instance) {
  Traffic sum;
  for (const auto& records : {machine.processes(), machine.departed()})
    for (const machine::ProcessRecord& record : records)
      if (is_within(record, card, instance)) {
        sum.to_device += record.copied_to_device;
        sum.to_host += record.copied_to_host;
      }
  return sum;
}

} // namespace aliquot::simgpu::nvml

using namespace aliquot::simgpu::nvml;

namespace {

constexpr timespec kInterval{0, 20'000'000}; // "a byte counter over a 20ms interval" (nvml.h)
constexpr std::uint64_t kPerSecond = 50, kKib = 1024;

// Megabits a second and lane (PCI Express Base Specification: 2.5 GT/s, and on).
unsigned int speed_mbps(unsigned int generation) noexcept {
  constexpr unsigned int kSpeeds[] = {0, 2500, 5000, 8000, 16000, 32000, 64000};
  return generation < std::size(kSpeeds) ? kSpeeds[generation] : 0;
}

nvmlReturn_t give_generation(nvmlDevice_t device, unsigned int* generation) {
  return read_value(device, generation, [](const View& view) { return view.model.pcie_generation; });
}

nvmlReturn_t give_width(nvmlDevice_t device, unsigned int* width) {
  return read_value(device, width, [](const View& view) { return view.model.pcie_width; });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMaxPcieLinkGeneration(nvmlDevice_t device,
                                                               unsigned int* generation) {
  return give_generation(device, generation);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuMaxPcieLinkGeneration(nvmlDevice_t device,
                                                                  unsigned int* generation) {
  return give_generation(device, generation);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t device,
                                                                unsigned int* generation) {
  return give_generation(device, generation);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMaxPcieLinkWidth(nvmlDevice_t device, unsigned int* width) {
  return give_width(device, width);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t device, unsigned int* width) {
  return give_width(device, width);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPcieSpeed(nvmlDevice_t device, unsigned int* speed) {
  return read_value(device, speed, [](const View& view) { return speed_mbps(view.model.pcie_generation); });
}

// NVML_PCIE_LINK_MAX_SPEED_* count generations.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPcieLinkMaxSpeed(nvmlDevice_t device, unsigned int* speed) {
  return give_generation(device, speed);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPcieReplayCounter(nvmlDevice_t device, unsigned int* count) {
  return read_value(device, count, [](const View&) { return 0; });
}

// The card sends what the host receives.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter,
                                                        unsigned int* kib_per_second) {
  return on_card(device, {kib_per_second}, [&](const View& view) {
    if (counter >= NVML_PCIE_UTIL_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    const Traffic before = traffic_of(view.machine, view.index, nullptr);
    ::nanosleep(&kInterval, nullptr);
    const Traffic after = traffic_of(view.machine, view.index, nullptr);
    const bool sent = counter == NVML_PCIE_UTIL_TX_BYTES;
    const std::uint64_t first = sent ? before.to_host : before.to_device;
    const std::uint64_t last = sent ? after.to_host : after.to_device;
    *kib_per_second = static_cast<unsigned int>(last > first ? (last - first) * kPerSecond / kKib : 0);
    return NVML_SUCCESS;
  });
}

} // extern "C"
