// ECC: modes, errors by kind and place, and what was taken out of use because of them.
#include <algorithm>
#include <vector>

#include "native/simgpu/nvml/health.hpp"
#include "native/simgpu/nvml/session.hpp"
#include "native/simgpu/nvml/traits.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::EccCounters;
using aliquot::simgpu::machine::EccLocation;
using aliquot::simgpu::machine::RetiredPage;

namespace {

bool known(nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter) noexcept {
  return type < NVML_MEMORY_ERROR_TYPE_COUNT && counter < NVML_ECC_COUNTER_TYPE_COUNT;
}

const std::uint64_t* by_location(const EccCounters& counters, nvmlMemoryErrorType_t type,
                                 nvmlEccCounterType_t counter) noexcept {
  return type == NVML_MEMORY_ERROR_TYPE_UNCORRECTED ? counters.uncorrected[counter]
                                                    : counters.corrected[counter];
}

std::uint64_t at(const std::uint64_t* counts, EccLocation location) noexcept {
  return counts[static_cast<std::size_t>(location)];
}

// False: cards of these generations count nothing there.
bool location_of(nvmlMemoryLocation_t location, EccLocation& found) noexcept {
  switch (location) {
  case NVML_MEMORY_LOCATION_L1_CACHE:
    found = EccLocation::L1;
    return true;
  case NVML_MEMORY_LOCATION_L2_CACHE:
    found = EccLocation::L2;
    return true;
  case NVML_MEMORY_LOCATION_DRAM:
    found = EccLocation::Dram;
    return true;
  case NVML_MEMORY_LOCATION_REGISTER_FILE:
    found = EccLocation::RegisterFile;
    return true;
  case NVML_MEMORY_LOCATION_SRAM:
    found = EccLocation::Sram;
    return true;
  default:
    return false;
  }
}

template <typename Answer>
nvmlReturn_t on_ecc_card(nvmlDevice_t device, Outputs outputs, Answer&& answer) {
  return on_card(device, outputs,
                 [&](const View& view) { return has_ecc(view) ? answer(view) : NVML_ERROR_NOT_SUPPORTED; });
}

std::uint64_t on_chip(const std::uint64_t* counts) noexcept {
  return at(counts, EccLocation::L1) + at(counts, EccLocation::L2) + at(counts, EccLocation::RegisterFile) +
         at(counts, EccLocation::Sram);
}

void write_sram(const EccCounters& counters, nvmlEccSramErrorStatus_t& status) noexcept {
  const unsigned int version = status.version;
  status = {};
  status.version = version;
  status.volatileCor = on_chip(counters.corrected[0]);
  status.aggregateCor = on_chip(counters.corrected[1]);
  status.volatileUncSecDed = on_chip(counters.uncorrected[0]);
  status.aggregateUncSecDed = on_chip(counters.uncorrected[1]);
  const std::uint64_t* life = counters.uncorrected[1];
  status.aggregateUncBucketL2 = at(life, EccLocation::L2);
  status.aggregateUncBucketSm = at(life, EccLocation::L1) + at(life, EccLocation::RegisterFile);
  status.aggregateUncBucketOther = at(life, EccLocation::Sram);
}

nvmlReturn_t give_retired(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int* count,
                          unsigned long long* addresses, unsigned long long* times) {
  return on_card(device, {count}, [&](const View& view) {
    if (cause >= NVML_PAGE_RETIREMENT_CAUSE_COUNT || (*count != 0 && addresses == nullptr))
      return NVML_ERROR_INVALID_ARGUMENT;
    if (!retires_pages(view))
      return NVML_ERROR_NOT_SUPPORTED;
    std::vector<RetiredPage> pages = view.machine.faults().retired_pages(view.index);
    const bool double_bit = cause == NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR;
    std::erase_if(pages, [&](const RetiredPage& page) { return page.double_bit != double_bit; });
    return give_list(pages, count, addresses, [&](std::size_t i, const RetiredPage& page) {
      addresses[i] = page.address;
      if (times != nullptr)
        times[i] = page.realtime_ns / 1'000'000'000;
    });
  });
}

template <typename Answer>
nvmlReturn_t on_remapping_card(nvmlDevice_t device, Outputs outputs, Answer&& answer) {
  return on_card(device, outputs, [&](const View& view) {
    if (!remaps_rows(view) || view.machine.mig().enabled(view.index))
      return NVML_ERROR_NOT_SUPPORTED;
    return answer(view.machine.faults().row_remaps(view.index));
  });
}

// Banks of device memory, of which each can have a few of its rows remapped: as cards with HBM report.
constexpr unsigned int kBanks = 640;

} // namespace

extern "C" {

// A change takes effect with the next boot, and the simulated card does not outlive one: it stays pending.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t* current,
                                                 nvmlEnableState_t* pending) {
  return on_ecc_card(device, {current, pending}, [&](const View& view) {
    const std::uint64_t wanted = view.controls.ecc_pending.load();
    *current = NVML_FEATURE_ENABLED;
    *pending = wanted == 1 ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetEccMode(nvmlDevice_t device, nvmlEnableState_t mode) {
  return on_card_as_root(device, {}, [&](const View& view) {
    if (mode != NVML_FEATURE_ENABLED && mode != NVML_FEATURE_DISABLED)
      return NVML_ERROR_INVALID_ARGUMENT;
    if (!has_ecc(view))
      return NVML_ERROR_NOT_SUPPORTED;
    view.controls.ecc_pending.store(std::uint64_t{mode} + 1);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDefaultEccMode(nvmlDevice_t device, nvmlEnableState_t* mode) {
  return read_value_if(has_ecc, device, mode, [](const View&) { return NVML_FEATURE_ENABLED; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                        nvmlEccCounterType_t counter,
                                                        unsigned long long* count) {
  return on_ecc_card(device, {count}, [&](const View& view) {
    if (!known(type, counter))
      return NVML_ERROR_INVALID_ARGUMENT;
    *count =
        ecc_counters(view).total(counter == NVML_AGGREGATE_ECC, type == NVML_MEMORY_ERROR_TYPE_UNCORRECTED);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                            nvmlEccCounterType_t counter,
                                                            nvmlMemoryLocation_t location,
                                                            unsigned long long* count) {
  return on_ecc_card(device, {count}, [&](const View& view) {
    if (!known(type, counter) || location >= NVML_MEMORY_LOCATION_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    EccLocation found;
    if (!location_of(location, found))
      return NVML_ERROR_NOT_SUPPORTED;
    const EccCounters counters = ecc_counters(view);
    *count = at(by_location(counters, type, counter), found);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                           nvmlEccCounterType_t counter,
                                                           nvmlEccErrorCounts_t* counts) {
  return on_ecc_card(device, {counts}, [&](const View& view) {
    if (!known(type, counter))
      return NVML_ERROR_INVALID_ARGUMENT;
    const EccCounters counters = ecc_counters(view);
    const std::uint64_t* found = by_location(counters, type, counter);
    counts->l1Cache = at(found, EccLocation::L1);
    counts->l2Cache = at(found, EccLocation::L2);
    counts->deviceMemory = at(found, EccLocation::Dram);
    counts->registerFile = at(found, EccLocation::RegisterFile);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceClearEccErrorCounts(nvmlDevice_t device, nvmlEccCounterType_t counter) {
  return on_card_as_root(device, {}, [&](const View& view) {
    if (counter >= NVML_ECC_COUNTER_TYPE_COUNT)
      return NVML_ERROR_INVALID_ARGUMENT;
    if (!has_ecc(view))
      return NVML_ERROR_NOT_SUPPORTED;
    view.machine.faults().clear_ecc(view.index, counter == NVML_AGGREGATE_ECC);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device,
                                                            nvmlEccSramErrorStatus_t* status) {
  return on_card(device, {status}, [&](const View& view) {
    if (status->version != struct_version(sizeof(nvmlEccSramErrorStatus_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!remaps_rows(view))
      return NVML_ERROR_NOT_SUPPORTED;
    write_sram(ecc_counters(view), *status);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
                                                      unsigned int* count, unsigned long long* addresses) {
  return give_retired(device, cause, count, addresses, nullptr);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
                                                         unsigned int* count, unsigned long long* addresses,
                                                         unsigned long long* times) {
  return give_retired(device, cause, count, addresses, times);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device,
                                                                   nvmlEnableState_t* pending) {
  return read_value_if(retires_pages, device, pending, [](const View& view) {
    return view.machine.faults().reset_needed(view.index) ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int* corrected,
                                                      unsigned int* uncorrected, unsigned int* pending,
                                                      unsigned int* failed) {
  return on_remapping_card(device, {corrected, uncorrected, pending, failed}, [&](const auto& remaps) {
    *corrected = static_cast<unsigned int>(remaps.corrected);
    *uncorrected = static_cast<unsigned int>(remaps.uncorrected);
    *pending = remaps.pending ? 1 : 0;
    *failed = remaps.failed ? 1 : 0;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device,
                                                         nvmlRemappedRowsInfo_v2_t* info) {
  return on_remapping_card(device, {info}, [&](const auto& remaps) {
    *info = {};
    info->corrActiveRemaps = static_cast<unsigned int>(remaps.corrected);
    info->uncActiveRemaps = static_cast<unsigned int>(remaps.uncorrected);
    info->bPending = remaps.pending ? 1 : 0;
    info->bFailureOccurred = remaps.failed ? 1 : 0;
    return NVML_SUCCESS;
  });
}

// Each remapped row is taken to lie in a bank of its own, which then has "high" availability instead of
// "max".
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device,
                                                              nvmlRowRemapperHistogramValues_t* values) {
  return on_remapping_card(device, {values}, [&](const auto& remaps) {
    const auto remapped =
        static_cast<unsigned int>(std::min<std::uint64_t>(remaps.corrected + remaps.uncorrected, kBanks));
    *values = {.max = kBanks - remapped, .high = remapped, .partial = 0, .low = 0, .none = 0};
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetRepairStatus(nvmlDevice_t device, nvmlRepairStatus_t* status) {
  return on_card(device, {status}, [&](const View& view) {
    if (status->version != struct_version(sizeof(nvmlRepairStatus_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!remaps_rows(view))
      return NVML_ERROR_NOT_SUPPORTED;
    status->bChannelRepairPending = status->bTpcRepairPending = 0;
    return NVML_SUCCESS;
  });
}

} // extern "C"
