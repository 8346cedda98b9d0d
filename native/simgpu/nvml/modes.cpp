// Modes that a card is in, and setting those that can be set.
#include <cstring>

#include "native/simgpu/nvml/session.hpp"
#include "native/simgpu/nvml/traits.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

bool is_mode(nvmlEnableState_t mode) noexcept {
  return mode == NVML_FEATURE_ENABLED || mode == NVML_FEATURE_DISABLED;
}

// Changes the bit that says that an API's restriction is not the default.
void set_restricted(CardControls& controls, nvmlRestrictedAPI_t api, nvmlEnableState_t restricted) noexcept {
  const std::uint64_t bit = std::uint64_t{1} << api;
  if (restricted == NVML_FEATURE_ENABLED)
    controls.restrictions.fetch_and(~bit);
  else
    controls.restrictions.fetch_or(bit);
}

// Auto boost went with Pascal; GeForce cards have no application clocks.
nvmlReturn_t check_api(const View& view, nvmlRestrictedAPI_t api) noexcept {
  if (api >= NVML_RESTRICTED_API_COUNT)
    return NVML_ERROR_INVALID_ARGUMENT;
  return api == NVML_RESTRICTED_API_SET_APPLICATION_CLOCKS && !is_geforce(view) ? NVML_SUCCESS
                                                                                : NVML_ERROR_NOT_SUPPORTED;
}

// Letters, digits and what else a host's name may have (RFC 1123, section 2.1).
bool is_hostname(const char (&text)[64]) noexcept {
  const std::size_t length = ::strnlen(text, sizeof text);
  if (length == sizeof text)
    return false;
  for (std::size_t i = 0; i < length; ++i) {
    const char c = text[i];
    if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.')
      return false;
  }
  return true;
}

bool is_blackwell_or_newer(const View& view) noexcept {
  return view.model.compute_major >= 10;
}

nvmlReturn_t off(nvmlDevice_t device, nvmlEnableState_t* state) {
  return read_value(device, state, [](const View&) { return NVML_FEATURE_DISABLED; });
}

} // namespace

extern "C" {

// On unless somebody turned it off: as where the vendor's daemon runs. The simulated driver stays either way.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
  return read_value(device, mode, [](const View& view) {
    return view.controls.persistence.load() == 1 ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t mode) {
  return on_card_as_root(device, {}, [&](const View& view) {
    if (!is_mode(mode))
      return NVML_ERROR_INVALID_ARGUMENT;
    view.controls.persistence.store(std::uint64_t{mode} + 1);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t* mode) {
  return on_device(device, {mode}, [&](const View& view) {
    *mode = static_cast<nvmlComputeMode_t>(view.machine.compute_mode(view.index));
    return NVML_SUCCESS;
  });
}

// nvml.h: with MIG enabled it is set on MIG devices; they share their card's here, which nvml.h does not
// know.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetComputeMode(nvmlDevice_t device, nvmlComputeMode_t mode) {
  return on_card_as_root(device, {}, [&](const View& view) {
    if (mode >= NVML_COMPUTEMODE_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    if (mode == NVML_COMPUTEMODE_EXCLUSIVE_THREAD || view.machine.mig().enabled(view.index))
      return NVML_ERROR_NOT_SUPPORTED;
    view.machine.set_compute_mode(view.index, static_cast<aliquot::simgpu::machine::ComputeMode>(mode));
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDisplayMode(nvmlDevice_t device, nvmlEnableState_t* display) {
  return off(device, display);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDisplayActive(nvmlDevice_t device, nvmlEnableState_t* active) {
  return off(device, active);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device,
                                                            nvmlGpuVirtualizationMode_t* mode) {
  return read_value(device, mode, [](const View&) { return NVML_GPU_VIRTUALIZATION_MODE_NONE; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAPIRestriction(nvmlDevice_t device, nvmlRestrictedAPI_t api,
                                                        nvmlEnableState_t* restricted) {
  return on_card(device, {restricted}, [&](const View& view) {
    const nvmlReturn_t valid = check_api(view, api);
    if (valid == NVML_SUCCESS)
      *restricted =
          (view.controls.restrictions.load() >> api & 1) != 0 ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
    return valid;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetAPIRestriction(nvmlDevice_t device, nvmlRestrictedAPI_t api,
                                                        nvmlEnableState_t restricted) {
  return on_card_as_root(device, {}, [&](const View& view) {
    const nvmlReturn_t valid = is_mode(restricted) ? check_api(view, api) : NVML_ERROR_INVALID_ARGUMENT;
    if (valid == NVML_SUCCESS)
      set_restricted(view.controls, api, restricted);
    return valid;
  });
}

// The firmware runs on the card from Turing on; the simulated driver has none but says what its branch would.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGspFirmwareMode(nvmlDevice_t device, unsigned int* enabled,
                                                         unsigned int* by_default) {
  return on_card(device, {enabled, by_default}, [&](const View& view) {
    if (capability(view.model) < 75)
      return NVML_ERROR_NOT_SUPPORTED;
    *enabled = *by_default = 1;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAddressingMode(nvmlDevice_t device,
                                                        nvmlDeviceAddressingMode_t* mode) {
  return on_card(device, {mode}, [&](const View& view) {
    if (mode->version != struct_version(sizeof(nvmlDeviceAddressingMode_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (capability(view.model) < 75)
      return NVML_ERROR_NOT_SUPPORTED;
    mode->value = NVML_DEVICE_ADDRESSING_MODE_NONE; // a kernel faults on pageable host memory
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCapabilities(nvmlDevice_t device, nvmlDeviceCapabilities_t* caps) {
  return on_card(device, {caps}, [&](const View&) {
    if (caps->version != struct_version(sizeof(nvmlDeviceCapabilities_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    caps->capMask = 0;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHostname_v1(nvmlDevice_t device, nvmlHostname_v1_t* hostname) {
  return on_card(device, {hostname}, [&](const View& view) {
    if (!is_blackwell_or_newer(view))
      return NVML_ERROR_NOT_SUPPORTED;
    std::uint64_t words[8];
    for (std::size_t i = 0; i < 8; ++i)
      words[i] = view.controls.hostname[i].load();
    std::memcpy(hostname->value, words, sizeof hostname->value);
    hostname->value[sizeof hostname->value - 1] = '\0';
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetHostname_v1(nvmlDevice_t device, nvmlHostname_v1_t* hostname) {
  return on_card_as_root(device, {hostname}, [&](const View& view) {
    if (!is_blackwell_or_newer(view))
      return NVML_ERROR_NOT_SUPPORTED;
    if (!is_hostname(hostname->value))
      return NVML_ERROR_INVALID_ARGUMENT;
    std::uint64_t words[8] = {};
    std::memcpy(words, hostname->value, ::strnlen(hostname->value, sizeof hostname->value));
    for (std::size_t i = 0; i < 8; ++i)
      view.controls.hostname[i].store(words[i]);
    return NVML_SUCCESS;
  });
}

} // extern "C"
