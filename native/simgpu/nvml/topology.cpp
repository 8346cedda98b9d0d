// How cards lie to each other and to processors: all below one host bridge, none on a common board.
#include <sched.h>

#include <algorithm>
#include <utility>

#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

constexpr nvmlGpuTopologyLevel_t kBetweenCards = NVML_TOPOLOGY_HOSTBRIDGE;

// Runs `answer` with both cards' indices.
template <typename Answer>
nvmlReturn_t on_pair(nvmlDevice_t first, nvmlDevice_t second, Output output, Answer&& answer) {
  return on_card(first, {output}, [&](const View& view) {
    std::uint32_t other;
    if (!card_of(second, view.machine, other))
      return NVML_ERROR_INVALID_ARGUMENT;
    answer(view.index, other);
    return NVML_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t first, nvmlDevice_t second,
                                                                nvmlGpuTopologyLevel_t* level) {
  return on_pair(first, second, level, [&](std::uint32_t a, std::uint32_t b) {
    *level = a == b ? NVML_TOPOLOGY_INTERNAL : kBetweenCards;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t first, nvmlDevice_t second, int* same) {
  return on_pair(first, second, same, [&](std::uint32_t a, std::uint32_t b) { *same = a == b ? 1 : 0; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device,
                                                             nvmlGpuTopologyLevel_t level,
                                                             unsigned int* count, nvmlDevice_t* devices) {
  return on_card(device, {count}, [&](const View& view) {
    const auto cards = static_cast<unsigned int>(view.machine.cards().size());
    const unsigned int others = level == kBetweenCards ? cards - 1 : 0;
    const unsigned int room = std::exchange(*count, others);
    if (devices == nullptr)
      return room == 0 ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
    unsigned int written = 0;
    for (unsigned int card = 0; others != 0 && card < cards && written < room; ++card)
      if (card != view.index)
        devices[written++] = handle_of(card);
    return room < others ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
  });
}

// Every processor is as near as any other.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int words,
                                                     unsigned long* set) {
  return on_card(device, {set}, [&](const View&) {
    cpu_set_t mine;
    CPU_ZERO(&mine);
    if (words == 0 || ::sched_getaffinity(0, sizeof mine, &mine) != 0)
      return NVML_ERROR_INVALID_ARGUMENT;
    constexpr unsigned int kBits = sizeof(unsigned long) * 8;
    std::fill_n(set, words, 0UL);
    for (unsigned int cpu = 0; cpu < CPU_SETSIZE && cpu / kBits < words; ++cpu)
      if (CPU_ISSET(cpu, &mine))
        set[cpu / kBits] |= 1UL << cpu % kBits;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned int words,
                                                                unsigned long* set, nvmlAffinityScope_t) {
  return nvmlDeviceGetCpuAffinity(device, words, set);
}

} // extern "C"
