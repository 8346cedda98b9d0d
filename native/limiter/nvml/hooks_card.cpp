// Hooks of fields, events and topology: the card's own state is shown, other cards and what neighbours do are
// not.
#include <algorithm>

#include "native/limiter/nvml/library.hpp"
#include "native/limiter/nvml/scope.hpp"

namespace aliquot::limiter {
namespace {

struct Range {
  unsigned first, last;
};
// Fields that add up the traffic or the energy of everybody on the card (nvml.h, "Field Identifiers").
constexpr Range kOfEverybody[] = {
    {NVML_FI_DEV_NVLINK_BANDWIDTH_C0_L0, NVML_FI_DEV_NVLINK_BANDWIDTH_C1_TOTAL},
    {NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION},
    {NVML_FI_DEV_NVLINK_BANDWIDTH_C0_L6, NVML_FI_DEV_NVLINK_BANDWIDTH_C1_L11},
    {NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, NVML_FI_DEV_NVLINK_THROUGHPUT_RAW_RX},
    {NVML_FI_DEV_ENERGY, NVML_FI_DEV_ENERGY},
    {NVML_FI_DEV_PCIE_COUNT_TX_BYTES, NVML_FI_DEV_PCIE_COUNT_RX_BYTES},
    {NVML_FI_DEV_NVLINK_COUNT_XMIT_PACKETS, NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES},
};
// What is newer than the list may say anything.
constexpr unsigned kLastKnownField = NVML_FI_DEV_NVLINK_COUNT_FEC_HISTORY_15;

bool may_see_field(unsigned field) noexcept {
  return field <= kLastKnownField &&
         std::none_of(std::begin(kOfEverybody), std::end(kOfEverybody),
                      [field](const Range& range) { return field >= range.first && field <= range.last; });
}

// An Xid names what a process did wrong, and may be a neighbour's.
constexpr unsigned long long kHiddenEvents = nvmlEventTypeXidCriticalError;

// Removes the cards that are not the slice's. NVML was asked for all of them.
template <typename List>
nvmlReturn_t only_visible(unsigned* count, nvmlDevice_t* devices, List list) noexcept {
  nvmlDevice_t all[64];
  unsigned found = std::size(all);
  if (count == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  if (const nvmlReturn_t answer = list(&found, all); answer != NVML_SUCCESS)
    return answer;
  const auto* end = std::remove_if(all, all + std::min<unsigned>(found, std::size(all)),
                                   [](nvmlDevice_t each) { return slice_device(each) == kNotInSlice; });
  found = static_cast<unsigned>(end - all);
  const unsigned room = devices != nullptr ? *count : 0;
  *count = found;
  std::copy_n(all, std::min(room, found), devices);
  return room >= found || devices == nullptr ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

// Each field has an answer of its own.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count,
                                                     nvmlFieldValue_t* values) {
  const nvmlReturn_t answer = slice_device(device) != kNotInSlice
                                  ? nvml().nvmlDeviceGetFieldValues(device, count, values)
                                  : NVML_ERROR_INVALID_ARGUMENT;
  for (int i = 0; answer == NVML_SUCCESS && i < count; ++i) {
    if (may_see_field(values[i].fieldId))
      continue;
    values[i].nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
    values[i].value = {};
  }
  return answer;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long* types) {
  const nvmlReturn_t answer = nvml().nvmlDeviceGetSupportedEventTypes(device, types);
  if (answer == NVML_SUCCESS)
    *types &= ~kHiddenEvents;
  return answer;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types,
                                                     nvmlEventSet_t set) {
  if (slice_device(device) == kNotInSlice)
    return NVML_ERROR_INVALID_ARGUMENT;
  return (types & kHiddenEvents) != 0 ? NVML_ERROR_NOT_SUPPORTED
                                      : nvml().nvmlDeviceRegisterEvents(device, types, set);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device,
                                                             nvmlGpuTopologyLevel_t level,
                                                             unsigned int* count, nvmlDevice_t* devices) {
  return only_visible(count, devices, [&](unsigned* found, nvmlDevice_t* all) {
    return nvml().nvmlDeviceGetTopologyNearestGpus(device, level, found, all);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetTopologyGpuSet(unsigned int cpu, unsigned int* count,
                                                        nvmlDevice_t* devices) {
  return only_visible(count, devices, [&](unsigned* found, nvmlDevice_t* all) {
    return nvml().nvmlSystemGetTopologyGpuSet(cpu, found, all);
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
                                                                nvmlDevice_t* instance) {
  return only_of_slice(nvml().nvmlDeviceGetMigDeviceHandleByIndex(device, index, instance), instance);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t instance,
                                                                         nvmlDevice_t* device) {
  return only_of_slice(nvml().nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance, device), device);
}

// Chassis units hold cards of everybody.
ALIQUOT_EXPORT nvmlReturn_t nvmlUnitGetCount(unsigned int* count) {
  const nvmlReturn_t answer = nvml().nvmlUnitGetCount(count);
  if (answer == NVML_SUCCESS)
    *count = 0;
  return answer;
}
}
