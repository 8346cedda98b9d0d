#include "native/simgpu/nvml/nvlink.hpp"

#include <cstdio>
#include <cstring>

#include "native/simgpu/nvml/traits.hpp"

namespace aliquot::simgpu::nvml {

// White papers of the architectures, "NVLink": 6 links of 25 GB/s (V100), 12 of 25 (A100), 18 of 25 (H100),
// 18 of 50 (B200); speeds as the vendor's tools report them.
NvLink nvlink_of(const CardModel& model) noexcept {
  if (!is_sxm(model))
    return {};
  switch (capability(model)) {
  case 70:
    return {6, NVML_NVLINK_VERSION_2_0, 25781};
  case 80:
    return {12, NVML_NVLINK_VERSION_3_0, 25000};
  case 90:
    return {18, NVML_NVLINK_VERSION_4_0, 26562};
  case 100:
    return {18, NVML_NVLINK_VERSION_5_0, 53125};
  default:
    return {};
  }
}

bool joined(const Card& a, const Card& b) noexcept {
  return a.model == b.model && nvlink_of(*a.model).links != 0;
}

bool links_up(const View& view) noexcept {
  for (const Card& other : view.machine.cards())
    if (&other != &view.card && joined(view.card, other))
      return true;
  return false;
}

} // namespace aliquot::simgpu::nvml

using namespace aliquot::simgpu::nvml;

namespace {

constexpr unsigned int kVendor = 0x10de;  // NVIDIA's PCI vendor number
constexpr unsigned int kSwitches = 4;     // of a baseboard; links go to them in turn
constexpr unsigned int kSwitchBus = 0xf0; // behind the cards'

template <typename Answer>
nvmlReturn_t on_link(nvmlDevice_t device, unsigned int link, Outputs outputs, Answer&& answer) {
  return on_card(device, outputs, [&](const View& view) {
    const NvLink links = nvlink_of(view.model);
    if (link >= NVML_NVLINK_MAX_LINKS)
      return NVML_ERROR_INVALID_ARGUMENT;
    if (links.links == 0)
      return NVML_ERROR_NOT_SUPPORTED;
    return link < links.links ? answer(view, links) : NVML_ERROR_INVALID_ARGUMENT;
  });
}

// For what only a link that is up has.
template <typename Answer>
nvmlReturn_t on_live_link(nvmlDevice_t device, unsigned int link, Outputs outputs, Answer&& answer) {
  return on_link(device, link, outputs, [&](const View& view, const NvLink& links) {
    return links_up(view) ? answer(view, links) : NVML_ERROR_NOT_SUPPORTED;
  });
}

nvmlPciInfo_t switch_pci(unsigned int link) {
  nvmlPciInfo_t info{};
  info.bus = kSwitchBus + link % kSwitches;
  info.pciDeviceId = kVendor;
  std::snprintf(info.busIdLegacy, sizeof info.busIdLegacy, "0000:%02X:00.0", info.bus);
  std::snprintf(info.busId, sizeof info.busId, "00000000:%02X:00.0", info.bus);
  return info;
}

nvmlGpuFabricState_t fabric_state(const View& view) noexcept {
  return links_up(view) ? NVML_GPU_FABRIC_STATE_COMPLETED : NVML_GPU_FABRIC_STATE_NOT_SUPPORTED;
}

// The fields that all versions have. Cards of one node have no cluster's UUID.
template <typename Info>
nvmlReturn_t give_fabric(const View& view, Info& info) {
  std::memset(info.clusterUuid, 0, sizeof info.clusterUuid);
  info.status = NVML_SUCCESS;
  info.state = fabric_state(view);
  if constexpr (requires { info.cliqueId; })
    info.cliqueId = 0;
  if constexpr (requires { info.healthMask; })
    info.healthMask = 0;
  if constexpr (requires { info.healthSummary; })
    info.healthSummary = links_up(view) ? NVML_GPU_FABRIC_HEALTH_SUMMARY_HEALTHY
                                        : NVML_GPU_FABRIC_HEALTH_SUMMARY_NOT_SUPPORTED;
  return NVML_SUCCESS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link,
                                                     nvmlEnableState_t* active) {
  return on_link(device, link, {active}, [&](const View& view, const NvLink&) {
    *active = links_up(view) ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned int link,
                                                       unsigned int* version) {
  return on_live_link(device, link, {version}, [&](const View&, const NvLink& links) {
    *version = links.version;
    return NVML_SUCCESS;
  });
}

// What the simulated driver does between cards: copies and atomics. Host memory is behind PCIe.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned int link,
                                                          nvmlNvLinkCapability_t which,
                                                          unsigned int* capable) {
  return on_live_link(device, link, {capable}, [&](const View&, const NvLink&) {
    if (which >= NVML_NVLINK_CAP_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    *capable = which == NVML_NVLINK_CAP_P2P_SUPPORTED || which == NVML_NVLINK_CAP_P2P_ATOMICS ||
               which == NVML_NVLINK_CAP_VALID;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link,
                                                                nvmlPciInfo_t* pci) {
  return on_live_link(device, link, {pci}, [&](const View&, const NvLink&) {
    *pci = switch_pci(link);
    return NVML_SUCCESS;
  });
}

// The first form of the struct ends before pciSubSystemId: no byte may be written behind it.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo(nvmlDevice_t device, unsigned int link,
                                                             nvmlPciInfo_t* pci) {
  return on_live_link(device, link, {pci}, [&](const View&, const NvLink&) {
    const nvmlPciInfo_t info = switch_pci(link);
    std::memcpy(pci, &info, offsetof(nvmlPciInfo_t, pciSubSystemId));
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link,
                                                                nvmlIntNvLinkDeviceType_t* type) {
  return on_live_link(device, link, {type}, [&](const View&, const NvLink&) {
    *type = NVML_NVLINK_DEVICE_TYPE_SWITCH;
    return NVML_SUCCESS;
  });
}

// Simulated links make no errors.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned int link,
                                                            nvmlNvLinkErrorCounter_t counter,
                                                            unsigned long long* value) {
  return on_live_link(device, link, {value}, [&](const View&, const NvLink&) {
    if (counter >= NVML_NVLINK_ERROR_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    *value = 0;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceResetNvLinkErrorCounters(nvmlDevice_t device, unsigned int link) {
  return on_live_link(device, link, {}, [](const View&, const NvLink&) { return NVML_SUCCESS; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, nvmlGpuFabricInfo_t* info) {
  return on_card(device, {info}, [&](const View& view) {
    return is_hopper_or_newer(view) ? give_fabric(view, *info) : NVML_ERROR_NOT_SUPPORTED;
  });
}

// The versions share a parameter; which one lies there its first field says.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfoV_t* info) {
  return on_card(device, {info}, [&](const View& view) {
    const bool second = info->version == struct_version(sizeof(nvmlGpuFabricInfo_v2_t), 2);
    if (!second && info->version != struct_version(sizeof(nvmlGpuFabricInfo_v3_t), 3))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!is_hopper_or_newer(view))
      return NVML_ERROR_NOT_SUPPORTED;
    return second ? give_fabric(view, *reinterpret_cast<nvmlGpuFabricInfo_v2_t*>(info))
                  : give_fabric(view, *info);
  });
}

} // extern "C"
