// The C interface: checks what comes in, keeps exceptions in. Everything else is behind it.
#include "native/placement/api.h"

#include "native/placement/cluster.hpp"
#include "native/placement/scorer.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <new>

namespace placement = aliquot::placement;

struct aliquot_cluster {
  placement::Cluster state;
};

struct aliquot_scorer {
  aliquot_cluster* cluster;
  placement::Scorer state;
};

#define ALIQUOT_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// Memory is all that can run out in here; whatever else is thrown would be a fault of ours.
template <class Work>
int guarded(const Work& work) noexcept {
  try {
    return work();
  } catch (...) {
    return ALIQUOT_PLACEMENT_NO_MEMORY;
  }
}

template <class Work>
auto made(const Work& work) noexcept -> decltype(work()) {
  try {
    return work();
  } catch (...) {
    return nullptr;
  }
}

int told(placement::Change change) noexcept {
  switch (change) {
  case placement::Change::kDone:
    return ALIQUOT_PLACEMENT_DONE;
  case placement::Change::kDoesNotFit:
    return ALIQUOT_PLACEMENT_DOES_NOT_FIT;
  case placement::Change::kInvalid:
    break;
  }
  return ALIQUOT_PLACEMENT_INVALID;
}

bool valid(const aliquot_amounts* amounts, std::uint32_t count) noexcept {
  return count <= placement::kMaximumDevices && (count == 0 || amounts != nullptr) &&
         std::all_of(amounts, amounts + count, [](const aliquot_amounts& each) {
           return each.model >= 0 && each.milli >= 0 && each.vram >= 0;
         });
}

bool known(const aliquot_cluster* cluster, std::uint32_t demand) noexcept {
  return cluster != nullptr && demand < cluster->state.vocabulary().demands.size();
}

bool known(const aliquot_scorer* scorer, std::uint32_t demand) noexcept {
  return scorer != nullptr && known(scorer->cluster, demand);
}

bool all_known(const aliquot_cluster* cluster, const aliquot_weighted_demand* list,
               std::uint32_t count) noexcept {
  return count == 0 ||
         (list != nullptr && std::all_of(list, list + count, [&](const aliquot_weighted_demand& each) {
            return known(cluster, each.demand) && std::isfinite(each.number);
          }));
}

placement::Masks masks_of(const aliquot_cluster& cluster, const std::uint8_t* nodes,
                          const std::uint8_t* devices) {
  const std::uint32_t count = cluster.state.node_count();
  placement::Masks masks;
  if (nodes != nullptr)
    masks.nodes = {nodes, count};
  if (devices != nullptr)
    masks.devices = {devices, cluster.state.first_device(count)};
  return masks;
}

aliquot_choice told(const placement::Scorer::Choice& choice) noexcept {
  return {choice.node, 0, choice.verdict.chosen, choice.verdict.score};
}

} // namespace

ALIQUOT_EXPORT uint32_t aliquot_placement_abi(void) {
  return ALIQUOT_PLACEMENT_ABI;
}

ALIQUOT_EXPORT aliquot_cluster* aliquot_cluster_new(void) {
  return made(
      [] { return new aliquot_cluster{placement::Cluster(std::make_shared<placement::Vocabulary>())}; });
}

ALIQUOT_EXPORT aliquot_cluster* aliquot_cluster_copy(const aliquot_cluster* cluster) {
  if (cluster == nullptr)
    return nullptr;
  return made([&] { return new aliquot_cluster(*cluster); });
}

ALIQUOT_EXPORT void aliquot_cluster_delete(aliquot_cluster* cluster) {
  delete cluster;
}

ALIQUOT_EXPORT int aliquot_cluster_add_node(aliquot_cluster* cluster, int32_t cpu, int32_t memory,
                                            const aliquot_amounts* devices, uint32_t device_count) {
  if (cluster == nullptr || cpu < 0 || memory < 0 || !valid(devices, device_count))
    return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] {
    std::vector<placement::Gap> gaps;
    for (std::uint32_t at = 0; at < device_count; ++at)
      gaps.push_back({devices[at].model, devices[at].milli, devices[at].vram});
    cluster->state.add_node(cpu, memory, gaps);
    return ALIQUOT_PLACEMENT_DONE;
  });
}

ALIQUOT_EXPORT int aliquot_cluster_demand(aliquot_cluster* cluster, int32_t cpu, int32_t memory,
                                          int32_t count, const aliquot_amounts* shares, uint32_t share_count,
                                          uint32_t* number) {
  if (cluster == nullptr || number == nullptr || cpu < 0 || memory < 0 || count < 0 ||
      count > placement::kMaximumDevices || share_count > 4096 || (share_count != 0 && shares == nullptr) ||
      (count == 0) != (share_count == 0))
    return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] {
    placement::Demand demand{cpu, memory, count, {}};
    for (std::uint32_t at = 0; at < share_count; ++at) {
      const placement::Share share{shares[at].model, shares[at].milli, shares[at].vram};
      if (share.model < 0 || share.milli < 0 || share.vram < 0 ||
          (at > 0 && share.model <= demand.shares.back().model))
        return ALIQUOT_PLACEMENT_INVALID;
      demand.shares.push_back(share);
    }
    *number = cluster->state.vocabulary().number_of(demand);
    return ALIQUOT_PLACEMENT_DONE;
  });
}

ALIQUOT_EXPORT int aliquot_cluster_take(aliquot_cluster* cluster, uint32_t demand, uint32_t node,
                                        uint64_t devices) {
  if (cluster == nullptr)
    return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] { return told(cluster->state.take(demand, node, devices)); });
}

ALIQUOT_EXPORT int aliquot_cluster_give(aliquot_cluster* cluster, uint32_t demand, uint32_t node,
                                        uint64_t devices) {
  if (cluster == nullptr)
    return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] { return told(cluster->state.give(demand, node, devices)); });
}

ALIQUOT_EXPORT int aliquot_cluster_free(const aliquot_cluster* cluster, uint32_t node, int32_t* cpu,
                                        int32_t* memory, aliquot_amounts* devices, uint32_t device_count) {
  if (cluster == nullptr || node >= cluster->state.node_count() || cpu == nullptr || memory == nullptr)
    return ALIQUOT_PLACEMENT_INVALID;
  const placement::Room room = cluster->state.free(node);
  if (device_count != room.gaps.size() || (device_count != 0 && devices == nullptr))
    return ALIQUOT_PLACEMENT_INVALID;
  *cpu = room.cpu;
  *memory = room.memory;
  std::ranges::transform(room.gaps, devices, [](const placement::Gap& gap) {
    return aliquot_amounts{gap.model, gap.milli, gap.vram};
  });
  return ALIQUOT_PLACEMENT_DONE;
}

ALIQUOT_EXPORT int aliquot_cluster_feasible(const aliquot_cluster* cluster, uint32_t demand,
                                            const uint8_t* nodes, const uint8_t* devices, uint8_t* fits) {
  if (!known(cluster, demand) || fits == nullptr)
    return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] {
    const placement::Demand& asked = cluster->state.vocabulary().demands[demand];
    for (std::uint32_t node = 0; node < cluster->state.node_count(); ++node) {
      placement::Room room = cluster->state.free(node);
      std::vector<placement::Gap> allowed;
      if (devices != nullptr) {
        for (std::size_t at = 0; at < room.gaps.size(); ++at)
          if (devices[cluster->state.first_device(node) + at] != 0)
            allowed.push_back(room.gaps[at]);
        room.gaps = allowed;
      }
      fits[node] = (nodes == nullptr || nodes[node] != 0) && placement::fits(asked, room) ? 1 : 0;
    }
    return ALIQUOT_PLACEMENT_DONE;
  });
}

ALIQUOT_EXPORT aliquot_scorer* aliquot_scorer_new(aliquot_cluster* cluster, const int32_t* terms,
                                                  const double* weights, uint32_t term_count, int32_t devices,
                                                  uint64_t seed) {
  if (cluster == nullptr || term_count > 64 ||
      (term_count != 0 && (terms == nullptr || weights == nullptr)) || devices < 0 || devices > 2)
    return nullptr;
  return made([&]() -> aliquot_scorer* {
    std::vector<placement::WeightedTerm> weighted;
    for (std::uint32_t at = 0; at < term_count; ++at) {
      if (terms[at] < 0 || terms[at] >= placement::kTermCount || !std::isfinite(weights[at]))
        return nullptr;
      weighted.push_back({static_cast<placement::Term>(terms[at]), weights[at]});
    }
    auto book =
        std::make_shared<placement::ScoreBook>(cluster->state.shared_vocabulary(), std::move(weighted),
                                               static_cast<placement::Devices>(devices), seed);
    return new aliquot_scorer{cluster, placement::Scorer(cluster->state, std::move(book))};
  });
}

ALIQUOT_EXPORT aliquot_scorer* aliquot_scorer_on(const aliquot_scorer* scorer, aliquot_cluster* copy) {
  if (scorer == nullptr || copy == nullptr ||
      &scorer->cluster->state.vocabulary() != &copy->state.vocabulary())
    return nullptr;
  return made([&] { return new aliquot_scorer{copy, placement::Scorer(copy->state, scorer->state.book())}; });
}

ALIQUOT_EXPORT void aliquot_scorer_delete(aliquot_scorer* scorer) {
  delete scorer;
}

ALIQUOT_EXPORT int aliquot_scorer_outlook(aliquot_scorer* scorer, const aliquot_outlook* outlook) {
  if (scorer == nullptr || outlook == nullptr ||
      !all_known(scorer->cluster, outlook->typical, outlook->typical_count) ||
      !all_known(scorer->cluster, outlook->hosts, outlook->host_count))
    return ALIQUOT_PLACEMENT_INVALID;
  const std::uint64_t drawn = std::uint64_t{outlook->sequences} * outlook->length;
  if (drawn > (1U << 24) || (drawn != 0 && outlook->drawn == nullptr) ||
      !std::all_of(outlook->drawn, outlook->drawn + drawn,
                   [&](uint32_t each) { return known(scorer, each); }))
    return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] {
    const placement::Vocabulary& words = scorer->cluster->state.vocabulary();
    placement::Outlook made;
    if (drawn != 0)
      made.rollout = std::make_unique<placement::Rollout>(
          words, std::vector<std::uint32_t>(outlook->drawn, outlook->drawn + drawn), outlook->length);
    if (outlook->typical_count != 0) {
      std::vector<placement::Fragmentation::Typical> typical;
      for (std::uint32_t at = 0; at < outlook->typical_count; ++at)
        typical.push_back({outlook->typical[at].demand, outlook->typical[at].number});
      made.fragmentation = std::make_unique<placement::Fragmentation>(words, std::move(typical));
    }
    for (std::uint32_t at = 0; at < outlook->host_count; ++at)
      made.hosts.push_back({outlook->hosts[at].demand, outlook->hosts[at].number});
    scorer->state.book()->set_outlook(std::move(made));
    return ALIQUOT_PLACEMENT_DONE;
  });
}

ALIQUOT_EXPORT int aliquot_scorer_choose(aliquot_scorer* scorer, uint32_t demand, const uint8_t* nodes,
                                         const uint8_t* devices, aliquot_choice* choice) {
  if (!known(scorer, demand) || choice == nullptr)
    return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] {
    *choice = told(scorer->state.choose(demand, masks_of(*scorer->cluster, nodes, devices)));
    return ALIQUOT_PLACEMENT_DONE;
  });
}

ALIQUOT_EXPORT int aliquot_scorer_place(aliquot_scorer* scorer, uint32_t demand, aliquot_choice* choice) {
  const int chosen = aliquot_scorer_choose(scorer, demand, nullptr, nullptr, choice);
  if (chosen != ALIQUOT_PLACEMENT_DONE || choice->node == placement::Scorer::kNowhere)
    return chosen;
  return aliquot_cluster_take(scorer->cluster, demand, choice->node, choice->devices);
}

ALIQUOT_EXPORT int aliquot_scorer_choices(aliquot_scorer* scorer, uint32_t demand, const uint8_t* nodes,
                                          const uint8_t* devices, aliquot_choice* choices, uint32_t most,
                                          uint32_t* count) {
  if (!known(scorer, demand) || count == nullptr || (most != 0 && choices == nullptr))
    return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] {
    const auto found = scorer->state.choices(demand, masks_of(*scorer->cluster, nodes, devices), most);
    std::ranges::transform(found, choices, [](const auto& each) { return told(each); });
    *count = static_cast<std::uint32_t>(found.size());
    return ALIQUOT_PLACEMENT_DONE;
  });
}

ALIQUOT_EXPORT int aliquot_scorer_explain(aliquot_scorer* scorer, uint32_t demand,
                                          const aliquot_choice* choice, double* terms) {
  if (!known(scorer, demand) || choice == nullptr || terms == nullptr ||
      choice->node >= scorer->cluster->state.node_count())
    return ALIQUOT_PLACEMENT_INVALID;
  const placement::Room room = scorer->cluster->state.free(choice->node);
  const placement::Demand& asked = scorer->cluster->state.vocabulary().demands[demand];
  if (std::popcount(choice->devices) != asked.count ||
      (room.gaps.size() < 64 && (choice->devices >> room.gaps.size()) != 0))
    return ALIQUOT_PLACEMENT_INVALID;
  for (std::uint64_t left = choice->devices; left != 0; left &= left - 1)
    if (asked.share_of(room.gaps[std::countr_zero(left)].model) == nullptr)
      return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] {
    const auto values = scorer->state.explained(demand, {choice->node, {choice->score, choice->devices}});
    std::ranges::copy(values, terms);
    return ALIQUOT_PLACEMENT_DONE;
  });
}

ALIQUOT_EXPORT int aliquot_scorer_fragmentation(aliquot_scorer* scorer, double* milli) {
  if (scorer == nullptr || milli == nullptr)
    return ALIQUOT_PLACEMENT_INVALID;
  return guarded([&] {
    *milli = scorer->state.fragmentation();
    return ALIQUOT_PLACEMENT_DONE;
  });
}

ALIQUOT_EXPORT uint64_t aliquot_scorer_runs(const aliquot_scorer* scorer) {
  if (scorer == nullptr || !scorer->state.book()->outlook().rollout)
    return 0;
  return scorer->state.book()->outlook().rollout->runs();
}
