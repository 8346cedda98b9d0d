// Values by number: each has its own result, so that one that a card lacks does not spoil the others.
#include <ctime>

#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

void give_unsigned(nvmlFieldValue_t& field, unsigned int value) {
  field.valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
  field.value.uiVal = value;
  field.nvmlReturn = NVML_SUCCESS;
}

void give_long(nvmlFieldValue_t& field, unsigned long long value) {
  field.valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
  field.value.ullVal = value;
  field.nvmlReturn = NVML_SUCCESS;
}

void fill(const View& view, nvmlFieldValue_t& field) {
  switch (field.fieldId) {
  case NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION:
    return give_long(field, energy_mj(view));
  case NVML_FI_DEV_POWER_AVERAGE:
  case NVML_FI_DEV_POWER_INSTANT:
    return give_unsigned(field, power_mw(view));
  case NVML_FI_DEV_POWER_MIN_LIMIT:
    return give_unsigned(field, view.model.power_limit_mw / 2);
  case NVML_FI_DEV_POWER_MAX_LIMIT:
  case NVML_FI_DEV_POWER_DEFAULT_LIMIT:
  case NVML_FI_DEV_POWER_CURRENT_LIMIT:
  case NVML_FI_DEV_POWER_REQUESTED_LIMIT:
    return give_unsigned(field, view.model.power_limit_mw);
  default:
    field.nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
  }
}

} // namespace

extern "C" ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count,
                                                                nvmlFieldValue_t* values) {
  return on_card(device, {values}, [&](const View& view) {
    if (count <= 0)
      return NVML_ERROR_INVALID_ARGUMENT;
    const long long now = static_cast<long long>(std::time(nullptr)) * 1'000'000;
    for (int i = 0; i < count; ++i) {
      values[i].timestamp = now;
      values[i].latencyUsec = 0;
      values[i].value = {};
      fill(view, values[i]);
    }
    return NVML_SUCCESS;
  });
}
