// Hooks of NVML's start and of its device lists: a program sees the slice's cards, numbered from 0.
#include "native/limiter/nvml/library.hpp"
#include "native/limiter/nvml/scope.hpp"
#include "native/limiter/own_slice.hpp"

namespace aliquot::limiter {
namespace {

// In no slice there is nothing that may be seen.
template <typename Call>
nvmlReturn_t initialise(Call call) noexcept {
  if (!has_nvml())
    return NVML_ERROR_LIBRARY_NOT_FOUND;
  if (slice_region(SliceRegion::Access::Look) == nullptr)
    return NVML_ERROR_NO_PERMISSION;
  const nvmlReturn_t answer = call();
  if (answer == NVML_SUCCESS)
    find_slice_devices();
  return answer;
}

template <typename Count>
nvmlReturn_t count_devices(nvmlReturn_t answer, Count* number) noexcept {
  if (answer == NVML_SUCCESS)
    *number = visible_devices();
  return answer;
}

template <typename Call>
nvmlReturn_t by_index(unsigned index, nvmlDevice_t* device, Call call) noexcept {
  if (device == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  unsigned unused = 0;
  if (const nvmlReturn_t ready = nvml().nvmlDeviceGetCount_v2(&unused); ready != NVML_SUCCESS)
    return ready;
  nvmlDevice_t handle = visible_device(index);
  if (handle == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  *device = handle;
  return call(handle);
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlInit_v2(void) {
  return initialise([] { return nvml().nvmlInit_v2(); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlInit(void) {
  return initialise([] { return nvml().nvmlInit(); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
  return initialise([flags] { return nvml().nvmlInitWithFlags(flags); });
}

// Unlike the others it returns text, so there is no stand-in for it in the table.
ALIQUOT_EXPORT const char* nvmlErrorString(nvmlReturn_t result) {
  return has_nvml() ? nvml().nvmlErrorString(result) : "NVML is not available";
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int* count) {
  return count_devices(nvml().nvmlDeviceGetCount_v2(count), count);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned int* count) {
  return count_devices(nvml().nvmlDeviceGetCount(count), count);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t* device) {
  return by_index(index, device, [](nvmlDevice_t) { return NVML_SUCCESS; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t* device) {
  return by_index(index, device, [](nvmlDevice_t) { return NVML_SUCCESS; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int* index) {
  const nvmlReturn_t answer = nvml().nvmlDeviceGetIndex(device, index);
  if (answer == NVML_SUCCESS && slice_device(device) != kNotInSlice)
    *index = number_of(device);
  return answer;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
  return only_of_slice(nvml().nvmlDeviceGetHandleByUUID(uuid, device), device);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t* uuid, nvmlDevice_t* device) {
  return only_of_slice(nvml().nvmlDeviceGetHandleByUUIDV(uuid, device), device);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleBySerial(const char* serial, nvmlDevice_t* device) {
  return only_of_slice(nvml().nvmlDeviceGetHandleBySerial(serial, device), device);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, nvmlDevice_t* device) {
  return only_of_slice(nvml().nvmlDeviceGetHandleByPciBusId_v2(bus_id, device), device);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char* bus_id, nvmlDevice_t* device) {
  return only_of_slice(nvml().nvmlDeviceGetHandleByPciBusId(bus_id, device), device);
}
}
