// Setting clocks, and how far: locked clocks, application clocks, offsets, performance states.
#include <algorithm>
#include <cstdio>

#include "native/simgpu/nvml/clocks.hpp"
#include "native/simgpu/nvml/health.hpp"
#include "native/simgpu/nvml/ledger.hpp"
#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"
#include "native/simgpu/nvml/traits.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::ClockPair;
using aliquot::simgpu::machine::kOffsetBias;
using aliquot::simgpu::machine::packed;
using aliquot::simgpu::machine::Word;

namespace {

// A change of clocks is an event for those who wait for it.
nvmlReturn_t set_clocks(const View& view, Word& word, ClockPair clocks) {
  if (!change_settings(view, [&] { word.store(packed(clocks)); }))
    return NVML_ERROR_UNKNOWN;
  report_clock_change(view);
  return NVML_SUCCESS;
}

// Root alone, unless root has lifted the restriction (nvmlDeviceSetAPIRestriction).
bool may_set_application_clocks(const View& view) noexcept {
  constexpr std::uint64_t kLifted = 1U << NVML_RESTRICTED_API_SET_APPLICATION_CLOCKS;
  return may_administer() || (view.controls.restrictions.load() & kLifted) != 0;
}

bool is_symbolic(unsigned int clock) noexcept {
  return clock == NVML_CLOCK_LIMIT_ID_TDP || clock == NVML_CLOCK_LIMIT_ID_UNLIMITED;
}

// The table of nvmlDeviceSetGpuLockedClocks (nvml.h): the clock at which the card may draw all its power is
// the boost clock here.
ClockPair symbolic_range(const View& view, unsigned int lowest, unsigned int highest) noexcept {
  const std::uint32_t boost = boost_mhz(view.model);
  if (lowest == NVML_CLOCK_LIMIT_ID_UNLIMITED && highest == NVML_CLOCK_LIMIT_ID_UNLIMITED)
    return {};
  return {lowest == NVML_CLOCK_LIMIT_ID_TDP ? boost : kLowestSmMhz, boost};
}

bool is_offered(const std::vector<std::uint32_t>& clocks, unsigned int clock) {
  return std::find(clocks.begin(), clocks.end(), clock) != clocks.end();
}

constexpr int kLowestOffset = -500, kHighestOffset = 500; // MHz, as GeForce cards of these generations allow

bool has_offsets(const View& view) noexcept {
  return is_geforce(view);
}

int offset_of(const Word& word) noexcept {
  const std::uint64_t stored = word.load();
  return stored == 0
             ? 0
             : static_cast<int>(static_cast<std::int64_t>(stored) - static_cast<std::int64_t>(kOffsetBias));
}

nvmlReturn_t set_offset(Word& word, int offset) noexcept {
  if (offset < kLowestOffset || offset > kHighestOffset)
    return NVML_ERROR_INVALID_ARGUMENT;
  word.store(static_cast<std::uint64_t>(static_cast<std::int64_t>(kOffsetBias) + offset));
  return NVML_SUCCESS;
}

Word* offset_word(CardControls& controls, nvmlClockType_t type) noexcept {
  return type == NVML_CLOCK_GRAPHICS ? &controls.gpu_offset
         : type == NVML_CLOCK_MEM    ? &controls.memory_offset
                                     : nullptr;
}

template <typename Answer>
nvmlReturn_t on_offset(nvmlDevice_t device, nvmlClockOffset_t* info, bool as_root, Answer&& answer) {
  return on_card(device, {info}, [&](const View& view) {
    if (info->version != struct_version(sizeof(nvmlClockOffset_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!has_offsets(view))
      return NVML_ERROR_NOT_SUPPORTED;
    Word* word = offset_word(view.controls, info->type);
    if (word == nullptr || info->pstate != NVML_PSTATE_0)
      return NVML_ERROR_INVALID_ARGUMENT;
    return as_root && !may_administer() ? NVML_ERROR_NO_PERMISSION : answer(*word);
  });
}

// Lowest and highest clocks of P0 and P8.
bool range_of_state(const View& view, nvmlPstates_t state, bool of_memory, ClockPair& range) {
  const std::uint32_t full = full_memory_mhz(view.model), idle = idle_memory_mhz(view.model);
  if (state == NVML_PSTATE_0)
    range = of_memory ? ClockPair{full, full} : ClockPair{kLowestSmMhz, boost_mhz(view.model)};
  else if (state == NVML_PSTATE_8 && has_low_state(view))
    range = of_memory ? ClockPair{idle, idle} : ClockPair{kLowestSmMhz, kLowestSmMhz};
  else
    return false;
  return true;
}

void write_mode(char* text, std::size_t room, const char* prefix, ClockPair sm, ClockPair memory) {
  std::snprintf(text, room,
                "%snvclock=%u, nvclockmin=%u, nvclockmax=%u, nvclockeditable=0, memclock=%u, memclockmin=%u, "
                "memclockmax=%u, memclockeditable=0, memtransferrate=%u, memtransferratemin=%u, "
                "memtransferratemax=%u, memtransferrateeditable=0",
                prefix, sm.low_mhz, sm.low_mhz, sm.high_mhz, memory.low_mhz, memory.low_mhz, memory.high_mhz,
                memory.low_mhz * 2, memory.low_mhz * 2, memory.high_mhz * 2);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, unsigned int lowest,
                                                         unsigned int highest) {
  return on_card_as_root(device, {}, [&](const View& view) {
    if (is_symbolic(lowest) && is_symbolic(highest))
      return set_clocks(view, view.controls.locked_gpu, symbolic_range(view, lowest, highest));
    if (lowest > highest || highest == 0 || is_symbolic(lowest) || is_symbolic(highest))
      return NVML_ERROR_INVALID_ARGUMENT;
    const std::uint32_t boost = boost_mhz(view.model);
    return set_clocks(view, view.controls.locked_gpu,
                      {std::clamp(lowest, kLowestSmMhz, boost), std::clamp(highest, kLowestSmMhz, boost)});
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device) {
  return on_card_as_root(device, {},
                         [&](const View& view) { return set_clocks(view, view.controls.locked_gpu, {}); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetMemoryLockedClocks(nvmlDevice_t device, unsigned int lowest,
                                                            unsigned int highest) {
  return on_card_as_root(device, {}, [&](const View& view) {
    if (!is_ampere_or_newer(view))
      return NVML_ERROR_NOT_SUPPORTED;
    if (lowest > highest || highest == 0)
      return NVML_ERROR_INVALID_ARGUMENT;
    const std::uint32_t idle = idle_memory_mhz(view.model), full = full_memory_mhz(view.model);
    return set_clocks(view, view.controls.locked_memory,
                      {std::clamp(lowest, idle, full), std::clamp(highest, idle, full)});
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceResetMemoryLockedClocks(nvmlDevice_t device) {
  return on_card_as_root(device, {}, [&](const View& view) {
    return is_ampere_or_newer(view) ? set_clocks(view, view.controls.locked_memory, {})
                                    : NVML_ERROR_NOT_SUPPORTED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetApplicationsClocks(nvmlDevice_t device, unsigned int memory_mhz,
                                                            unsigned int graphics_mhz) {
  return on_card(device, {}, [&](const View& view) {
    if (is_geforce(view))
      return NVML_ERROR_NOT_SUPPORTED;
    if (!may_set_application_clocks(view))
      return NVML_ERROR_NO_PERMISSION;
    if (memory_mhz != full_memory_mhz(view.model) || !is_offered(graphics_clocks(view.model), graphics_mhz))
      return NVML_ERROR_INVALID_ARGUMENT;
    return set_clocks(view, view.controls.applications, {memory_mhz, graphics_mhz});
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceResetApplicationsClocks(nvmlDevice_t device) {
  return on_card(device, {}, [&](const View& view) {
    if (is_geforce(view))
      return NVML_ERROR_NOT_SUPPORTED;
    return may_set_application_clocks(view) ? set_clocks(view, view.controls.applications, {})
                                            : NVML_ERROR_NO_PERMISSION;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetClockOffsets(nvmlDevice_t device, nvmlClockOffset_t* info) {
  return on_offset(device, info, false, [&](Word& word) {
    info->clockOffsetMHz = offset_of(word);
    info->minClockOffsetMHz = kLowestOffset;
    info->maxClockOffsetMHz = kHighestOffset;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetClockOffsets(nvmlDevice_t device, nvmlClockOffset_t* info) {
  return on_offset(device, info, true, [&](Word& word) { return set_offset(word, info->clockOffsetMHz); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpcClkVfOffset(nvmlDevice_t device, int* offset) {
  return read_value_if(has_offsets, device, offset,
                       [](const View& view) { return offset_of(view.controls.gpu_offset); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemClkVfOffset(nvmlDevice_t device, int* offset) {
  return read_value_if(has_offsets, device, offset,
                       [](const View& view) { return offset_of(view.controls.memory_offset); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetGpcClkVfOffset(nvmlDevice_t device, int offset) {
  return on_card_as_root(device, {}, [&](const View& view) {
    return has_offsets(view) ? set_offset(view.controls.gpu_offset, offset) : NVML_ERROR_NOT_SUPPORTED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetMemClkVfOffset(nvmlDevice_t device, int offset) {
  return on_card_as_root(device, {}, [&](const View& view) {
    return has_offsets(view) ? set_offset(view.controls.memory_offset, offset) : NVML_ERROR_NOT_SUPPORTED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetGpcClkMinMaxVfOffset(nvmlDevice_t device, int* lowest,
                                                              int* highest) {
  return on_card(device, {lowest, highest}, [&](const View& view) {
    *lowest = kLowestOffset;
    *highest = kHighestOffset;
    return has_offsets(view) ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemClkMinMaxVfOffset(nvmlDevice_t device, int* lowest,
                                                              int* highest) {
  return nvmlDeviceGetGpcClkMinMaxVfOffset(device, lowest, highest);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMinMaxClockOfPState(nvmlDevice_t device, nvmlClockType_t type,
                                                             nvmlPstates_t state, unsigned int* lowest,
                                                             unsigned int* highest) {
  return on_card(device, {lowest, highest}, [&](const View& view) {
    ClockPair sm, memory;
    // nvml.h: a state that the card has not is NVML_ERROR_UNKNOWN here
    if (!range_of_state(view, state, false, sm) || !range_of_state(view, state, true, memory))
      return NVML_ERROR_UNKNOWN;
    const nvmlReturn_t result = give_clock(type, sm.low_mhz, memory.low_mhz, lowest);
    return result == NVML_SUCCESS ? give_clock(type, sm.high_mhz, memory.high_mhz, highest) : result;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedPerformanceStates(nvmlDevice_t device,
                                                                    nvmlPstates_t* states,
                                                                    unsigned int bytes) {
  return on_card(device, {states}, [&](const View& view) {
    const std::size_t room = bytes / sizeof *states, has = has_low_state(view) ? 2 : 1;
    if (room < has)
      return NVML_ERROR_INSUFFICIENT_SIZE;
    constexpr std::size_t kMost = NVML_MAX_GPU_PERF_PSTATES;
    std::fill_n(states, std::min(room, kMost), NVML_PSTATE_UNKNOWN);
    states[0] = NVML_PSTATE_0;
    if (has == 2)
      states[1] = NVML_PSTATE_8;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetPerformanceModes(nvmlDevice_t device, nvmlDevicePerfModes_t* modes) {
  return on_card(device, {modes}, [&](const View& view) {
    if (modes->version != struct_version(sizeof(nvmlDevicePerfModes_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    std::size_t used = 0;
    unsigned int number = 0;
    for (const nvmlPstates_t state : {NVML_PSTATE_8, NVML_PSTATE_0}) {
      ClockPair sm, memory;
      if (!range_of_state(view, state, false, sm) || !range_of_state(view, state, true, memory))
        continue;
      char prefix[32];
      std::snprintf(prefix, sizeof prefix, "%sperf=%u, ", used != 0 ? " ; " : "", number++);
      write_mode(modes->str + used, sizeof modes->str - used, prefix, sm, memory);
      used = std::char_traits<char>::length(modes->str);
    }
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCurrentClockFreqs(nvmlDevice_t device,
                                                           nvmlDeviceCurrentClockFreqs_t* clocks) {
  return on_card(device, {clocks}, [&](const View& view) {
    if (clocks->version != struct_version(sizeof(nvmlDeviceCurrentClockFreqs_v1_t), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    const std::uint32_t sm = sm_clock_mhz(view), memory = memory_clock_mhz(view);
    write_mode(clocks->str, sizeof clocks->str, "", {sm, boost_mhz(view.model)},
               {memory, full_memory_mhz(view.model)});
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetAdaptiveClockInfoStatus(nvmlDevice_t device, unsigned int* status) {
  return read_value(device, status, [](const View&) { return NVML_ADAPTIVE_CLOCKING_INFO_STATUS_ENABLED; });
}

} // extern "C"
