// How cards lie to each other and to processors: all below one host bridge, none on a common board; near to
// every processor alike.
#include <algorithm>
#include <sched.h>
#include <utility>

#include "native/simgpu/nvml/nvlink.hpp"
#include "native/simgpu/nvml/session.hpp"
#include "native/simgpu/nvml/traits.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

constexpr nvmlGpuTopologyLevel_t kBetweenCards = NVML_TOPOLOGY_HOSTBRIDGE;
constexpr unsigned int kBits = sizeof(unsigned long) * 8;

// Runs `answer` with both cards' indices.
template <typename Answer>
nvmlReturn_t on_pair(nvmlDevice_t first, nvmlDevice_t second, Output output, Answer&& answer) {
  return on_card(first, {output}, [&](const View& view) {
    std::uint32_t other;
    if (!card_of(second, view.machine, other))
      return NVML_ERROR_INVALID_ARGUMENT;
    if (is_lost(view.machine, other))
      return NVML_ERROR_GPU_IS_LOST;
    return answer(view, other);
  });
}

bool is_level(nvmlGpuTopologyLevel_t level) noexcept {
  switch (level) {
  case NVML_TOPOLOGY_INTERNAL:
  case NVML_TOPOLOGY_SINGLE:
  case NVML_TOPOLOGY_MULTIPLE:
  case NVML_TOPOLOGY_HOSTBRIDGE:
  case NVML_TOPOLOGY_NODE:
  case NVML_TOPOLOGY_SYSTEM:
    return true;
  }
  return false;
}

// Of both calls: a count of 0 asks how many there are, another one says how many fit.
template <typename Wanted>
nvmlReturn_t give_cards(Machine& machine, unsigned int* count, nvmlDevice_t* devices, Wanted&& wanted) {
  const unsigned int room = std::exchange(*count, 0);
  if (room != 0 && devices == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  for (std::uint32_t card = 0; card < machine.cards().size(); ++card) {
    if (!wanted(card) || (room != 0 && *count == room))
      continue;
    if (room != 0)
      devices[*count] = handle_of(card);
    ++*count;
  }
  return NVML_SUCCESS;
}

bool processors(cpu_set_t& set) noexcept {
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof set, &set) == 0;
}

nvmlReturn_t give_processors(nvmlDevice_t device, unsigned int words, unsigned long* set) {
  return on_device(device, {set}, [&](const View&) {
    cpu_set_t mine;
    if (words == 0)
      return NVML_ERROR_INVALID_ARGUMENT;
    if (!processors(mine))
      return NVML_ERROR_UNKNOWN;
    std::fill_n(set, words, 0UL);
    for (unsigned int cpu = 0; cpu < CPU_SETSIZE && cpu / kBits < words; ++cpu)
      if (CPU_ISSET(cpu, &mine))
        set[cpu / kBits] |= 1UL << cpu % kBits;
    return NVML_SUCCESS;
  });
}

bool is_scope(nvmlAffinityScope_t scope) noexcept {
  return scope == NVML_AFFINITY_SCOPE_NODE || scope == NVML_AFFINITY_SCOPE_SOCKET;
}

// What the simulated driver does between cards, it does between any two: by NVLink or over PCIe.
bool has_peer(const View& view, std::uint32_t other, nvmlGpuP2PCapsIndex_t what) noexcept {
  if (what == NVML_P2P_CAPS_INDEX_NVLINK)
    return joined(view.card, view.machine.cards()[other]);
  return what == NVML_P2P_CAPS_INDEX_READ || what == NVML_P2P_CAPS_INDEX_WRITE ||
         what == NVML_P2P_CAPS_INDEX_ATOMICS || what == NVML_P2P_CAPS_INDEX_PCI;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t first, nvmlDevice_t second,
                                                                nvmlGpuTopologyLevel_t* level) {
  return on_pair(first, second, level, [&](const View& view, std::uint32_t other) {
    *level = view.index == other ? NVML_TOPOLOGY_INTERNAL : kBetweenCards;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t first, nvmlDevice_t second, int* same) {
  return on_pair(first, second, same, [&](const View& view, std::uint32_t other) {
    *same = view.index == other ? 1 : 0;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t first, nvmlDevice_t second,
                                                   nvmlGpuP2PCapsIndex_t what, nvmlGpuP2PStatus_t* status) {
  return on_pair(first, second, status, [&](const View& view, std::uint32_t other) {
    if (what >= NVML_P2P_CAPS_INDEX_UNKNOWN || view.index == other)
      return NVML_ERROR_INVALID_ARGUMENT;
    *status = has_peer(view, other, what) ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device,
                                                             nvmlGpuTopologyLevel_t level,
                                                             unsigned int* count, nvmlDevice_t* devices) {
  return on_card(device, {count}, [&](const View& view) {
    if (!is_level(level))
      return NVML_ERROR_INVALID_ARGUMENT;
    return give_cards(view.machine, count, devices,
                      [&](std::uint32_t card) { return card != view.index && level == kBetweenCards; });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetTopologyGpuSet(unsigned int cpu, unsigned int* count,
                                                        nvmlDevice_t* devices) {
  return on_machine({count}, [&](Machine& machine) {
    cpu_set_t mine;
    if (cpu >= CPU_SETSIZE || !processors(mine))
      return NVML_ERROR_INVALID_ARGUMENT;
    const bool near = CPU_ISSET(cpu, &mine);
    return give_cards(machine, count, devices, [&](std::uint32_t) { return near; });
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int words,
                                                     unsigned long* set) {
  return give_processors(device, words, set);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned int words,
                                                                unsigned long* set,
                                                                nvmlAffinityScope_t scope) {
  return is_scope(scope) ? give_processors(device, words, set) : nvmlDeviceGetCpuAffinity(device, 0, set);
}

// One node, as far as a simulated card can tell: it lies in the memory of the host.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int words,
                                                        unsigned long* set, nvmlAffinityScope_t scope) {
  return on_device(device, {set}, [&](const View&) {
    if (words == 0 || !is_scope(scope))
      return NVML_ERROR_INVALID_ARGUMENT;
    std::fill_n(set, words, 0UL);
    set[0] = 1;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceSetCpuAffinity(nvmlDevice_t device) {
  return on_card(device, {}, [](const View&) { return NVML_SUCCESS; }); // every processor is ideal
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceClearCpuAffinity(nvmlDevice_t device) {
  return on_card(device, {}, [](const View&) { return NVML_SUCCESS; });
}

// Cards of this kind are no NUMA nodes of their own (nvml.h: only those that share the processor's memory).
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetNumaNodeId(nvmlDevice_t device, unsigned int* node) {
  return on_card(device, {node}, [](const View&) { return NVML_ERROR_NOT_SUPPORTED; });
}

// Modules are numbered on their baseboard from 1; other cards are 0.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetModuleId(nvmlDevice_t device, unsigned int* id) {
  return read_value(device, id, [](const View& view) { return is_sxm(view.model) ? view.index % 8 + 1 : 0; });
}

} // extern "C"
