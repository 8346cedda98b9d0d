// Counting cards and finding them by index, UUID, PCI address or serial number.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>
#include <string_view>

#include "native/simgpu/machine/card_text.hpp"
#include "native/simgpu/nvml/serial.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

nvmlReturn_t give_card(Machine& machine, std::uint32_t card, nvmlDevice_t* device) noexcept {
  if (is_lost(machine, card))
    return NVML_ERROR_GPU_IS_LOST;
  *device = handle_of(card);
  return NVML_SUCCESS;
}

template <typename Matches>
nvmlReturn_t find_card(Machine& machine, nvmlDevice_t* device, Matches&& matches) {
  for (std::uint32_t index = 0; index < machine.cards().size(); ++index) {
    if (!matches(machine.cards()[index], index))
      continue;
    return give_card(machine, index, device);
  }
  return NVML_ERROR_NOT_FOUND;
}

// A card or one of its MIG devices, whichever `matches(uuid, text)` takes.
template <typename Matches>
nvmlReturn_t find_by_uuid(Machine& machine, nvmlDevice_t* device, Matches&& matches) {
  for (std::uint32_t card = 0; card < machine.cards().size(); ++card) {
    const Card& found = machine.cards()[card];
    if (matches(found.uuid, aliquot::simgpu::machine::uuid_text(found)))
      return give_card(machine, card, device);
    for (const auto& instance : machine.mig().compute_instances(card)) {
      if (!matches(instance.uuid, aliquot::simgpu::machine::mig_uuid_text(instance.uuid)))
        continue;
      *device = mig_handle_of(card, instance);
      return NVML_SUCCESS;
    }
  }
  return NVML_ERROR_NOT_FOUND;
}

using Uuid = std::uint8_t[16];

struct PciAddress {
  unsigned int domain = 0, bus = 0, device = 0;
};

// A hexadecimal number and the character behind it; `text` moves past both. '\0' as that character is the
// end.
bool take_hex(std::string_view& text, char behind, unsigned int& number) noexcept {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (error != std::errc())
    return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (behind == '\0')
    return text.empty();
  if (!text.starts_with(behind))
    return false;
  text.remove_prefix(1);
  return true;
}

// "domain:bus:device.function" or "bus:device.function", in hexadecimal.
bool parse_pci(std::string_view text, PciAddress& address) noexcept {
  const bool has_domain = std::count(text.begin(), text.end(), ':') == 2;
  unsigned int function = 0;
  return (!has_domain || take_hex(text, ':', address.domain)) && take_hex(text, ':', address.bus) &&
         take_hex(text, '.', address.device) && take_hex(text, '\0', function);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int* count) {
  return on_machine({count}, [&](Machine& machine) {
    *count = static_cast<unsigned int>(machine.cards().size());
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned int* count) {
  return nvmlDeviceGetCount_v2(count);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t* device) {
  return on_machine({device}, [&](Machine& machine) {
    if (index >= machine.cards().size())
      return NVML_ERROR_INVALID_ARGUMENT;
    return give_card(machine, index, device);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t* device) {
  return nvmlDeviceGetHandleByIndex_v2(index, device);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
  return on_machine({uuid, device}, [&](Machine& machine) {
    return find_by_uuid(machine, device, [&](const Uuid&, const std::string& text) { return text == uuid; });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t* uuid, nvmlDevice_t* device) {
  return on_machine({uuid, device}, [&](Machine& machine) {
    if (uuid->version != struct_version(sizeof(nvmlUUID_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    const bool binary = uuid->type == NVML_UUID_TYPE_BINARY;
    if (!binary && uuid->type != NVML_UUID_TYPE_ASCII)
      return NVML_ERROR_INVALID_ARGUMENT;
    return find_by_uuid(machine, device, [&](const Uuid& bytes, const std::string& text) {
      return binary ? std::memcmp(bytes, uuid->value.bytes, sizeof bytes) == 0
                    : std::strncmp(text.c_str(), uuid->value.str, sizeof uuid->value.str) == 0;
    });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, nvmlDevice_t* device) {
  return on_machine({bus_id, device}, [&](Machine& machine) {
    PciAddress wanted;
    if (!parse_pci(bus_id, wanted))
      return NVML_ERROR_INVALID_ARGUMENT;
    return find_card(machine, device, [&](const Card& card, std::uint32_t) {
      return card.pci_domain == wanted.domain && card.pci_bus == wanted.bus &&
             card.pci_device == wanted.device;
    });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char* bus_id, nvmlDevice_t* device) {
  return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleBySerial(const char* serial, nvmlDevice_t* device) {
  return on_machine({serial, device}, [&](Machine& machine) {
    return find_card(machine, device, [&](const Card& card, std::uint32_t) {
      return has_serial(card) && serial_text(card) == serial;
    });
  });
}

} // extern "C"
