// Values by number: each has its own result, so that one that a card lacks does not spoil the others.
#include <algorithm>
#include <ctime>
#include <iterator>

#include "native/simgpu/nvml/health.hpp"
#include "native/simgpu/nvml/ledger.hpp"
#include "native/simgpu/nvml/nvlink.hpp"
#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"
#include "native/simgpu/nvml/traffic.hpp"
#include "native/simgpu/nvml/traits.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::EccCounters;
using aliquot::simgpu::machine::EccLocation;

namespace {

// A value as wide as the vendor's. `scope` is the link, sensor or else that some fields take.
using Read = std::int64_t (*)(const View& view, unsigned int scope);
using Has = bool (*)(const View& view);

struct Field {
  unsigned int id;
  nvmlValueType_t type;
  Has has;
  Read read;
};

bool always(const View&) {
  return true;
}
bool has_links(const View& view) {
  return nvlink_of(view.model).links != 0;
}
bool has_live_links(const View& view) {
  return has_links(view) && links_up(view);
}
bool has_undivided_rows(const View& view) {
  return remaps_rows(view) && !view.machine.mig().enabled(view.index);
}
bool reports_margins(const View& view) {
  return is_hopper_or_newer(view);
}

template <bool kUncorrected, bool kAggregate>
std::int64_t ecc_total(const View& view, unsigned int) {
  return static_cast<std::int64_t>(ecc_counters(view).total(kAggregate, kUncorrected));
}

template <bool kUncorrected, bool kAggregate, EccLocation kWhere>
std::int64_t ecc_at(const View& view, unsigned int) {
  const EccCounters counters = ecc_counters(view);
  const auto& counts = kUncorrected ? counters.uncorrected : counters.corrected;
  return static_cast<std::int64_t>(counts[kAggregate][static_cast<std::size_t>(kWhere)]);
}

template <bool kDoubleBit>
std::int64_t retired(const View& view, unsigned int) {
  const auto pages = view.machine.faults().retired_pages(view.index);
  return std::count_if(pages.begin(), pages.end(),
                       [](const auto& page) { return page.double_bit == kDoubleBit; });
}

std::int64_t limit(const View& view, unsigned int) {
  return power_limit_mw(view);
}
std::int64_t full_limit(const View& view, unsigned int) {
  return view.model.power_limit_mw;
}
std::int64_t power(const View& view, unsigned int) {
  return power_mw(view);
}
std::int64_t zero(const View&, unsigned int) {
  return 0;
}
std::int64_t capped_ns(const View& view, unsigned int) {
  return static_cast<std::int64_t>(totals(view).power_capped_ns);
}
std::int64_t thermal_ns(const View& view, unsigned int) {
  return static_cast<std::int64_t>(totals(view).thermal_ns);
}
std::int64_t link_mbytes(const View& view, unsigned int) {
  return links_up(view) ? nvlink_of(view.model).mbytes_per_second : 0;
}
std::int64_t ecc_pending(const View& view, unsigned int) {
  return view.controls.ecc_pending.load() != 1;
}

// From a threshold to the one at which clocks go down: how newer cards state limits.
template <std::uint32_t kThreshold>
std::int64_t margin(const View&, unsigned int) {
  return static_cast<std::int64_t>(kSlowdownC) - static_cast<std::int64_t>(kThreshold);
}

constexpr nvmlValueType_t kInt = NVML_VALUE_TYPE_UNSIGNED_INT, kLong = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
                          kSigned = NVML_VALUE_TYPE_SIGNED_INT;
using enum EccLocation;

constexpr Field kFields[] = {
    {NVML_FI_DEV_ECC_CURRENT, kInt, has_ecc, [](const View&, unsigned int) -> std::int64_t { return 1; }},
    {NVML_FI_DEV_ECC_PENDING, kInt, has_ecc, ecc_pending},
    {NVML_FI_DEV_ECC_SBE_VOL_TOTAL, kLong, has_ecc, ecc_total<false, false>},
    {NVML_FI_DEV_ECC_DBE_VOL_TOTAL, kLong, has_ecc, ecc_total<true, false>},
    {NVML_FI_DEV_ECC_SBE_AGG_TOTAL, kLong, has_ecc, ecc_total<false, true>},
    {NVML_FI_DEV_ECC_DBE_AGG_TOTAL, kLong, has_ecc, ecc_total<true, true>},
    {NVML_FI_DEV_ECC_SBE_VOL_L1, kLong, has_ecc, ecc_at<false, false, L1>},
    {NVML_FI_DEV_ECC_DBE_VOL_L1, kLong, has_ecc, ecc_at<true, false, L1>},
    {NVML_FI_DEV_ECC_SBE_VOL_L2, kLong, has_ecc, ecc_at<false, false, L2>},
    {NVML_FI_DEV_ECC_DBE_VOL_L2, kLong, has_ecc, ecc_at<true, false, L2>},
    {NVML_FI_DEV_ECC_SBE_VOL_DEV, kLong, has_ecc, ecc_at<false, false, Dram>},
    {NVML_FI_DEV_ECC_DBE_VOL_DEV, kLong, has_ecc, ecc_at<true, false, Dram>},
    {NVML_FI_DEV_ECC_SBE_VOL_REG, kLong, has_ecc, ecc_at<false, false, RegisterFile>},
    {NVML_FI_DEV_ECC_DBE_VOL_REG, kLong, has_ecc, ecc_at<true, false, RegisterFile>},
    {NVML_FI_DEV_ECC_SBE_AGG_L1, kLong, has_ecc, ecc_at<false, true, L1>},
    {NVML_FI_DEV_ECC_DBE_AGG_L1, kLong, has_ecc, ecc_at<true, true, L1>},
    {NVML_FI_DEV_ECC_SBE_AGG_L2, kLong, has_ecc, ecc_at<false, true, L2>},
    {NVML_FI_DEV_ECC_DBE_AGG_L2, kLong, has_ecc, ecc_at<true, true, L2>},
    {NVML_FI_DEV_ECC_SBE_AGG_DEV, kLong, has_ecc, ecc_at<false, true, Dram>},
    {NVML_FI_DEV_ECC_DBE_AGG_DEV, kLong, has_ecc, ecc_at<true, true, Dram>},
    {NVML_FI_DEV_ECC_SBE_AGG_REG, kLong, has_ecc, ecc_at<false, true, RegisterFile>},
    {NVML_FI_DEV_ECC_DBE_AGG_REG, kLong, has_ecc, ecc_at<true, true, RegisterFile>},
    {NVML_FI_DEV_RETIRED_SBE, kLong, retires_pages, retired<false>},
    {NVML_FI_DEV_RETIRED_DBE, kLong, retires_pages, retired<true>},
    {NVML_FI_DEV_RETIRED_PENDING, kInt, retires_pages,
     [](const View& view, unsigned int) -> std::int64_t {
       return view.machine.faults().reset_needed(view.index);
     }},
    {NVML_FI_DEV_REMAPPED_COR, kInt, has_undivided_rows,
     [](const View& view, unsigned int) {
       return static_cast<std::int64_t>(view.machine.faults().row_remaps(view.index).corrected);
     }},
    {NVML_FI_DEV_REMAPPED_UNC, kInt, has_undivided_rows,
     [](const View& view, unsigned int) {
       return static_cast<std::int64_t>(view.machine.faults().row_remaps(view.index).uncorrected);
     }},
    {NVML_FI_DEV_REMAPPED_PENDING, kInt, has_undivided_rows,
     [](const View& view, unsigned int) -> std::int64_t {
       return view.machine.faults().row_remaps(view.index).pending;
     }},
    {NVML_FI_DEV_REMAPPED_FAILURE, kInt, has_undivided_rows,
     [](const View& view, unsigned int) -> std::int64_t {
       return view.machine.faults().row_remaps(view.index).failed;
     }},
    {NVML_FI_DEV_PERF_POLICY_POWER, kLong, always, capped_ns},
    {NVML_FI_DEV_PERF_POLICY_THERMAL, kLong, always, thermal_ns},
    {NVML_FI_DEV_PERF_POLICY_SYNC_BOOST, kLong, always, zero},
    {NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT, kLong, always, zero},
    {NVML_FI_DEV_PERF_POLICY_RELIABILITY, kLong, always, zero},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP, kLong, always, capped_ns},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, kLong, always, thermal_ns},
    {NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST, kLong, always, zero},
    {NVML_FI_DEV_MEMORY_TEMP, kInt, has_memory_temperature,
     [](const View& view, unsigned int) -> std::int64_t { return memory_temperature_c(view); }},
    {NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, kLong, always,
     [](const View& view, unsigned int) { return static_cast<std::int64_t>(totals(view).energy_uj / 1000); }},
    {NVML_FI_DEV_POWER_AVERAGE, kInt, always, power},
    {NVML_FI_DEV_POWER_INSTANT, kInt, always, power},
    {NVML_FI_DEV_POWER_MIN_LIMIT, kInt, always,
     [](const View& view, unsigned int) -> std::int64_t { return lowest_power_limit_mw(view.model); }},
    {NVML_FI_DEV_POWER_MAX_LIMIT, kInt, always, full_limit},
    {NVML_FI_DEV_POWER_DEFAULT_LIMIT, kInt, always, full_limit},
    {NVML_FI_DEV_POWER_CURRENT_LIMIT, kInt, always, limit},
    {NVML_FI_DEV_POWER_REQUESTED_LIMIT, kInt, always, limit},
    {NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT, kSigned, reports_margins, margin<kShutdownC>},
    {NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT, kSigned, reports_margins, margin<kSlowdownC>},
    {NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT, kSigned, reports_margins, margin<kTargetC>},
    {NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT, kSigned, reports_margins, margin<kMemoryMaxC>},
    {NVML_FI_DEV_NVLINK_LINK_COUNT, kInt, always,
     [](const View& view, unsigned int) -> std::int64_t { return nvlink_of(view.model).links; }},
    {NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON, kInt, has_links, link_mbytes},
    {NVML_FI_DEV_NVLINK_GET_SPEED, kInt, has_links, link_mbytes},
    {NVML_FI_DEV_NVLINK_GET_STATE, kInt, has_links,
     [](const View& view, unsigned int) -> std::int64_t { return links_up(view); }},
    {NVML_FI_DEV_NVLINK_GET_VERSION, kInt, has_live_links,
     [](const View& view, unsigned int) -> std::int64_t { return nvlink_of(view.model).version; }},
    {NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT, kInt, has_links,
     [](const View& view, unsigned int) -> std::int64_t {
       return links_up(view) ? nvlink_of(view.model).links : 0;
     }},
    {NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, kLong, has_live_links, zero},
    {NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL, kLong, has_live_links, zero},
    {NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, kLong, has_live_links, zero},
    {NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, kLong, has_live_links, zero},
    {NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, kLong, has_live_links, zero},
    {NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY, kLong, has_live_links, zero},
    {NVML_FI_DEV_NVLINK_ERROR_DL_CRC, kLong, has_live_links, zero},
    {NVML_FI_DEV_C2C_LINK_COUNT, kInt, always, zero},
    {NVML_FI_DEV_PCIE_REPLAY_COUNTER, kLong, always, zero},
    {NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER, kLong, always, zero},
    {NVML_FI_DEV_PCIE_COUNT_CORRECTABLE_ERRORS, kLong, is_hopper_or_newer, zero},
    {NVML_FI_DEV_PCIE_COUNT_NON_FATAL_ERROR, kLong, is_hopper_or_newer, zero},
    {NVML_FI_DEV_PCIE_COUNT_FATAL_ERROR, kLong, is_hopper_or_newer, zero},
    {NVML_FI_DEV_PCIE_COUNT_TX_BYTES, kLong, is_hopper_or_newer,
     [](const View& view, unsigned int) {
       return static_cast<std::int64_t>(traffic_of(view.machine, view.index, nullptr).to_host);
     }},
    {NVML_FI_DEV_PCIE_COUNT_RX_BYTES, kLong, is_hopper_or_newer,
     [](const View& view, unsigned int) {
       return static_cast<std::int64_t>(traffic_of(view.machine, view.index, nullptr).to_device);
     }},
    {NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED, kInt, always,
     [](const View& view, unsigned int) -> std::int64_t { return is_hopper_or_newer(view); }},
    {NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE, kInt, always,
     [](const View& view, unsigned int) -> std::int64_t { return view.model.mig_capable; }},
    {NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, kInt, always,
     [](const View& view, unsigned int) -> std::int64_t {
       return view.machine.faults().reset_needed(view.index) ? NVML_GPU_RECOVERY_ACTION_GPU_RESET
                                                             : NVML_GPU_RECOVERY_ACTION_NONE;
     }},
};

const Field* find_field(unsigned int id) noexcept {
  const Field* found = std::find_if(std::begin(kFields), std::end(kFields),
                                    [&](const Field& field) { return field.id == id; });
  return found != std::end(kFields) ? found : nullptr;
}

// Fields that ask for one link name it by the scope.
bool names_no_link(const View& view, const nvmlFieldValue_t& asked) noexcept {
  const bool of_link = asked.fieldId == NVML_FI_DEV_NVLINK_GET_SPEED ||
                       asked.fieldId == NVML_FI_DEV_NVLINK_GET_STATE ||
                       asked.fieldId == NVML_FI_DEV_NVLINK_GET_VERSION;
  return of_link && asked.scopeId >= nvlink_of(view.model).links;
}

void give(nvmlFieldValue_t& asked, nvmlValueType_t type, std::int64_t value) noexcept {
  asked.valueType = type;
  if (type == NVML_VALUE_TYPE_UNSIGNED_LONG_LONG)
    asked.value.ullVal = static_cast<unsigned long long>(value);
  else if (type == NVML_VALUE_TYPE_SIGNED_INT)
    asked.value.siVal = static_cast<int>(value);
  else
    asked.value.uiVal = static_cast<unsigned int>(value);
}

// Power has scopes: of the GPU alone, and of its memory, which nothing here tells apart.
bool has_scope(const nvmlFieldValue_t& asked) noexcept {
  const bool of_power =
      asked.fieldId >= NVML_FI_DEV_POWER_AVERAGE && asked.fieldId <= NVML_FI_DEV_POWER_CURRENT_LIMIT;
  return !of_power || asked.scopeId == NVML_POWER_SCOPE_GPU;
}

void fill(const View& view, nvmlFieldValue_t& asked) {
  const Field* field = find_field(asked.fieldId);
  if (field == nullptr || !field->has(view) || !has_scope(asked)) {
    asked.nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
    return;
  }
  asked.nvmlReturn = names_no_link(view, asked) ? NVML_ERROR_INVALID_ARGUMENT : NVML_SUCCESS;
  if (asked.nvmlReturn == NVML_SUCCESS)
    give(asked, field->type, field->read(view, asked.scopeId));
}

long long wall_us() noexcept {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<long long>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
}

} // namespace

extern "C" ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count,
                                                                nvmlFieldValue_t* values) {
  return on_card(device, {values}, [&](const View& view) {
    if (count <= 0)
      return NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; i < count; ++i) {
      values[i].timestamp = wall_us();
      values[i].latencyUsec = 0;
      values[i].value = {};
      fill(view, values[i]);
    }
    return NVML_SUCCESS;
  });
}
