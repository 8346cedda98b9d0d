// See terms.hpp. Where a baseline's paper leaves a constant open, it is that of its authors' published
// simulator.
#include "native/placement/terms.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace aliquot::placement {
namespace {

constexpr double kLargestCpu = 128000; // of a node, by which the published scores are scaled
constexpr double kLargestGpu = 8000;

std::int64_t free_milli(const Room& room) noexcept {
  std::int64_t sum = 0;
  for (const Gap& gap : room.gaps)
    sum += gap.milli;
  return sum;
}

int whole_gaps(const Room& room) noexcept {
  return static_cast<int>(
      std::ranges::count_if(room.gaps, [](const Gap& gap) { return gap.milli >= kWholeMilli; }));
}

double random_term(const Candidate& candidate) noexcept {
  return static_cast<double>(scrambled(candidate.seed ^ candidate.place.node) >> 11) * 0x1p-53;
}

// What is left, over the largest node: the less the better.
double best_fit(const Candidate& candidate) noexcept {
  const double left = candidate.after.cpu / kLargestCpu * 0.5 +
                      static_cast<double>(free_milli(candidate.after)) / kLargestGpu * 0.5;
  return std::trunc((1.0 - left) * 100);
}

// Request times what is free: the more they point the same way, the worse (Grandl et al., SIGCOMM 2014,
// reversed so that full nodes are preferred, as the fragmentation study has it).
double dot_product(const Candidate& candidate) noexcept {
  const auto asked = static_cast<double>(free_milli(candidate.before) - free_milli(candidate.after));
  const double product =
      candidate.before.cpu / kLargestCpu * (candidate.demand.cpu / kLargestCpu) +
      static_cast<double>(free_milli(candidate.before)) / kLargestGpu * (asked / kLargestGpu);
  return std::trunc(100 * (1 - product / 2));
}

// Shared devices first, then free ones of nodes in use, then empty nodes (MLaaS in the Wild, NSDI 2022).
double gpu_packing(const Candidate& candidate) noexcept {
  if (candidate.demand.count == 0)
    return 0;
  const int whole = whole_gaps(candidate.before);
  if (whole == static_cast<int>(candidate.before.gaps.size()))
    return std::max(33 - whole, whole);
  int opened = 0;
  std::int64_t used = 0;
  for (std::uint64_t left = candidate.chosen; left != 0; left &= left - 1) {
    const Gap& gap = candidate.before.gaps[std::countr_zero(left)];
    opened += gap.milli >= kWholeMilli ? 1 : 0;
    used += std::int64_t{gap.milli} * 100 / kWholeMilli;
  }
  if (opened > 0)
    return std::max(50 - opened, 33);
  return static_cast<double>(std::max<std::int64_t>(100 - used / 10, 50));
}

// Claims of one kind together (Gandiva, OSDI 2018); among equals the fuller node.
double gpu_clustering(const Candidate& candidate) noexcept {
  if (candidate.demand.count == 0)
    return 0;
  const std::int64_t fill = 25 * (8000 - free_milli(candidate.before)) / 8000;
  const auto& [node, cluster] = candidate.place;
  const int kinds = cluster->kinds_on(node);
  if (cluster->has_kind(node, kind_of(candidate.demand)))
    return static_cast<double>(fill + (kinds == 1 ? 75 : 50));
  return static_cast<double>(fill + (kinds == 0 ? 25 : 0));
}

double fragmentation_saved(const Candidate& candidate, Outlook& outlook) {
  if (!outlook.fragmentation)
    return 0;
  return outlook.fragmentation->amount(candidate.before) - outlook.fragmentation->amount(candidate.after);
}

double rollout_term(const Candidate& candidate, Outlook& outlook) {
  if (!outlook.rollout)
    return 0;
  const std::int64_t gained =
      outlook.rollout->filled(candidate.after) - outlook.rollout->filled(candidate.before);
  return static_cast<double>(gained) / (1000.0 * outlook.rollout->sequences());
}

double hosts_term(const Candidate& candidate, const Vocabulary& vocabulary, const Outlook& outlook) {
  double lost = 0;
  for (const Outlook::Host& host : outlook.hosts) {
    const Demand& demand = vocabulary.demands[host.demand];
    if (fits(demand, candidate.before) && !fits(demand, candidate.after))
      lost += host.worth;
  }
  return -lost;
}

double device_fill(const Candidate& candidate) noexcept {
  std::int64_t before = 0;
  for (std::uint64_t left = candidate.chosen; left != 0; left &= left - 1)
    before += candidate.before.gaps[std::countr_zero(left)].milli;
  const int count = std::popcount(candidate.chosen);
  return count == 0 ? 0 : 1 - static_cast<double>(before) / (1000.0 * count);
}

} // namespace

bool is_pure(Term term) noexcept {
  return term != kTermRandom && term != kTermGpuClustering;
}

bool fits(const Demand& demand, const Room& room) noexcept {
  if (demand.cpu > room.cpu || demand.memory > room.memory)
    return false;
  if (demand.count == 0)
    return true;
  return std::ranges::any_of(demand.shares, [&](const Share& share) {
    return std::ranges::count_if(room.gaps, [&](const Gap& gap) { return gap.holds(share); }) >= demand.count;
  });
}

std::uint64_t scrambled(std::uint64_t word) noexcept {
  word += 0x9e3779b97f4a7c15ULL;
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ULL;
  word = (word ^ (word >> 27)) * 0x94d049bb133111ebULL;
  return word ^ (word >> 31);
}

double value_of(Term term, const Candidate& candidate, const Vocabulary& vocabulary, Outlook& outlook) {
  switch (term) {
  case kTermRandom:
    return random_term(candidate);
  case kTermBestFit:
    return best_fit(candidate);
  case kTermDotProduct:
    return dot_product(candidate);
  case kTermGpuPacking:
    return gpu_packing(candidate);
  case kTermGpuClustering:
    return gpu_clustering(candidate);
  case kTermFgd: // rounded to whole points and ties to the first: the published results depend on both
    return std::trunc(100 / (1 + std::exp(-fragmentation_saved(candidate, outlook) / 1000)));
  case kTermFragmentation:
    return fragmentation_saved(candidate, outlook) / 1000;
  case kTermRollout:
    return rollout_term(candidate, outlook);
  case kTermHosts:
    return hosts_term(candidate, vocabulary, outlook);
  case kTermFreeAfter:
    return static_cast<double>(free_milli(candidate.after)) / kLargestGpu;
  case kTermNodeFill: {
    const auto devices = static_cast<double>(candidate.before.gaps.size());
    return devices == 0 ? 0 : 1 - static_cast<double>(free_milli(candidate.after)) / (1000.0 * devices);
  }
  case kTermDeviceFill:
    return device_fill(candidate);
  case kTermCpuFill:
    return 1 - candidate.after.cpu / kLargestCpu;
  case kTermCount:
    break;
  }
  return 0;
}

} // namespace aliquot::placement
