// What a card is: names, numbers, PCI.
#include <cstdio>
#include <cstring>

#include "native/simgpu/machine/card_text.hpp"
#include "native/simgpu/nvml/ledger.hpp"
#include "native/simgpu/nvml/serial.hpp"
#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

std::string serial_text(const Card& card) {
  std::uint64_t number;
  std::memcpy(&number, card.uuid, sizeof number);
  char text[24];
  std::snprintf(text, sizeof text, "%013llu",
                static_cast<unsigned long long>(number % 10'000'000'000'000ULL));
  return text;
}

bool has_serial(const Card& card) noexcept {
  return card.name.find("GeForce") == std::string::npos;
}

namespace {

constexpr unsigned int kVendor =
    0x10de; // NVIDIA's PCI vendor number; no device number stands for a simulated card
constexpr unsigned int kBaseClass = 0x03,
                       kSubClass = 0x02; // display controller, 3D (PCI Code and ID Assignment)

void write_bus_id(const Card& card, char (&text)[32]) {
  std::snprintf(text, sizeof text, "%s", machine::bus_id_text(card).c_str());
}

nvmlPciInfo_t pci_info(const Card& card) {
  nvmlPciInfo_t info{};
  std::snprintf(info.busIdLegacy, sizeof info.busIdLegacy, "%04X:%02X:%02X.0", card.pci_domain & 0xffff,
                card.pci_bus, card.pci_device);
  info.domain = card.pci_domain;
  info.bus = card.pci_bus;
  info.device = card.pci_device;
  info.pciDeviceId = kVendor;
  info.pciSubSystemId = kVendor;
  write_bus_id(card, info.busId);
  return info;
}

unsigned int architecture(const CardModel& model) noexcept {
  switch (model.compute_major * 10 + model.compute_minor) {
  case 70:
    return NVML_DEVICE_ARCH_VOLTA;
  case 75:
    return NVML_DEVICE_ARCH_TURING;
  case 80:
  case 86:
    return NVML_DEVICE_ARCH_AMPERE;
  case 89:
    return NVML_DEVICE_ARCH_ADA;
  case 90:
    return NVML_DEVICE_ARCH_HOPPER;
  default:
    return model.compute_major >= 10 ? NVML_DEVICE_ARCH_BLACKWELL : NVML_DEVICE_ARCH_UNKNOWN;
  }
}

// Among the MIG devices of its card.
unsigned int mig_index(const View& view) {
  unsigned int index = 0;
  for (const auto& each : view.machine.mig().compute_instances(view.index)) {
    if (each.gpu.id == view.instance->gpu.id && each.id == view.instance->id)
      break;
    ++index;
  }
  return index;
}

nvmlBrandType_t brand(const View& view) noexcept {
  if (is_geforce(view))
    return NVML_BRAND_GEFORCE_RTX;
  return view.model.name.starts_with("Tesla") ? NVML_BRAND_TESLA : NVML_BRAND_NVIDIA;
}

} // namespace
} // namespace aliquot::simgpu::nvml

using namespace aliquot::simgpu::nvml;

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char* name, unsigned int length) {
  return on_device(device, {name}, [&](const View& view) {
    const std::string part = view.instance != nullptr ? " MIG " + view.instance->name : "";
    return give_text(view.card.name + part, name, length);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char* uuid, unsigned int length) {
  return on_device(device, {uuid}, [&](const View& view) {
    return give_text(view.instance != nullptr ? aliquot::simgpu::machine::mig_uuid_text(view.instance->uuid)
                                              : aliquot::simgpu::machine::uuid_text(view.card),
                     uuid, length);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char* serial, unsigned int length) {
  return on_card(device, {serial}, [&](const View& view) {
    return has_serial(view.card) ? give_text(serial_text(view.card), serial, length)
                                 : NVML_ERROR_NOT_SUPPORTED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char* version,
                                                      unsigned int length) {
  return on_card(device, {version},
                 [&](const View&) { return give_text("00.00.00.00.00", version, length); });
}

// There is no chip that holds them: zeros in the vendor's forms, on the cards that would have one.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetInforomImageVersion(nvmlDevice_t device, char* version,
                                                             unsigned int length) {
  return on_card(device, {version}, [&](const View& view) {
    return view.model.ecc ? give_text("0000.0000.00.00", version, length) : NVML_ERROR_NOT_SUPPORTED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetInforomVersion(nvmlDevice_t device, nvmlInforomObject_t object,
                                                        char* version, unsigned int length) {
  return on_card(device, {version}, [&](const View& view) {
    if (object >= NVML_INFOROM_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    const bool has = view.model.ecc && (object == NVML_INFOROM_OEM || object == NVML_INFOROM_ECC);
    return has ? give_text("0.0", version, length) : NVML_ERROR_NOT_SUPPORTED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceValidateInforom(nvmlDevice_t device) {
  return on_card(device, {},
                 [](const View& view) { return view.model.ecc ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED; });
}

// The firmware has the driver's version (nvml.h), of which system.cpp says where it is from.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char* version) {
  return on_card(device, {version}, [&](const View& view) {
    if (view.model.compute_major * 10 + view.model.compute_minor < 75)
      return NVML_ERROR_NOT_SUPPORTED;
    return nvmlSystemGetDriverVersion(version, NVML_GSP_FIRMWARE_VERSION_BUF_SIZE);
  });
}

// Made of the UUID, as the serial number is.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPdi(nvmlDevice_t device, nvmlPdi_t* pdi) {
  return on_card(device, {pdi}, [&](const View& view) {
    if (pdi->version != struct_version(sizeof(nvmlPdi_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    std::memcpy(&pdi->value, view.card.uuid, sizeof pdi->value);
    return NVML_SUCCESS;
  });
}

// The simulated card is there as long as its host is up, in seconds.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpuUptime_v1(nvmlDevice_t device, nvmlGpuUptime_v1_t* uptime) {
  return on_device(device, {uptime}, [&](const View&) {
    uptime->uptime = static_cast<unsigned int>(boot_ns() / 1'000'000'000);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int* index) {
  return on_device(device, {index}, [&](const View& view) {
    *index = view.instance != nullptr ? mig_index(view) : view.index;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int* minor) {
  return read_value(device, minor, [](const View& view) { return view.index; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetBoardId(nvmlDevice_t device, unsigned int* board) {
  return read_value(device, board, [](const View& view) { return view.card.pci_bus << 8; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMultiGpuBoard(nvmlDevice_t device, unsigned int* multi_gpu) {
  return read_value(device, multi_gpu, [](const View&) { return 0; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t* type) {
  return read_value(device, type, brand);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t* arch) {
  return read_value(device, arch, [](const View& view) { return architecture(view.model); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int* major, int* minor) {
  return on_device(device, {major, minor}, [&](const View& view) {
    *major = static_cast<int>(view.model.compute_major);
    *minor = static_cast<int>(view.model.compute_minor);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNumGpuCores(nvmlDevice_t device, unsigned int* cores) {
  return read_value(device, cores,
                    [](const View& view) { return view.model.sm_count * view.model.fp32_cores_per_sm; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryBusWidth(nvmlDevice_t device, unsigned int* bits) {
  return read_value(device, bits, [](const View& view) { return view.model.memory_bus_bits; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t* pci) {
  return read_value(device, pci, [](const View& view) { return pci_info(view.card); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t* pci) {
  return nvmlDeviceGetPciInfo_v3(device, pci);
}

// The first form of the struct ends before busId (nvml.h, nvmlPciInfo_t): no byte may be written behind it.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t* pci) {
  return on_card(device, {pci}, [&](const View& view) {
    const nvmlPciInfo_t info = pci_info(view.card);
    std::memcpy(pci, &info, offsetof(nvmlPciInfo_t, pciSubSystemId));
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_t* pci) {
  return on_card(device, {pci}, [&](const View& view) {
    if (pci->version != struct_version(sizeof(nvmlPciInfoExt_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    pci->domain = view.card.pci_domain;
    pci->bus = view.card.pci_bus;
    pci->device = view.card.pci_device;
    pci->pciDeviceId = pci->pciSubSystemId = kVendor;
    pci->baseClass = kBaseClass;
    pci->subClass = kSubClass;
    write_bus_id(view.card, pci->busId);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetBusType(nvmlDevice_t device, nvmlBusType_t* type) {
  return read_value(device, type, [](const View&) { return NVML_BUS_TYPE_PCIE; });
}

} // extern "C"
