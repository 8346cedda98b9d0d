// See rollout.hpp.
#include "native/placement/rollout.hpp"

#include "native/placement/gaps.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace aliquot::placement {
namespace {

constexpr std::size_t kMemoBytes = std::size_t{192} << 20;
constexpr int kFewGaps = 8;
// Sequences from which on it is faster to run all of them in lanes than these one by one.
constexpr std::uint32_t kWorthLanes = 20;
// Amounts that lanes can add up over a whole sequence without overflow.
constexpr std::int32_t kLaneAmount = kUnlimited / 64;

} // namespace

Rollout::Rollout(const Vocabulary& vocabulary, const std::vector<std::uint32_t>& drawn, std::uint32_t length)
    : vocabulary_(vocabulary), drawn_(drawn), length_(length),
      sequences_(static_cast<std::uint32_t>(drawn.size() / length)) {
  const std::size_t lanes = (sequences_ + kLaneMultiple - 1) / kLaneMultiple * kLaneMultiple;
  lane_filled_.resize(lanes);
  lane_cpu_.resize(lanes);
  lane_memory_.resize(lanes);
}

std::int64_t Rollout::filled(const Room& room) {
  limit_memory();
  std::array<Gap, kMaximumDevices> open;
  const auto* end = std::ranges::copy_if(room.gaps, open.begin(), [](const Gap& gap) {
                      return gap.milli > 0 || gap.vram > 0;
                    }).out;
  const std::span<const Gap> gaps(open.data(), end - open.begin());
  if (gaps.empty())
    return 0;
  // Where neither CPU nor memory runs short they make no difference, and most rooms have the same answer.
  const Unhindered& free = unhindered({0, 0, gaps});
  if (free.most_cpu <= room.cpu && free.most_memory <= room.memory)
    return free.filled;
  const Hindered& by_cpu = hindered({room.cpu, kUnlimited, gaps}, free);
  if (by_cpu.most_memory <= room.memory)
    return by_cpu.filled;
  return hindered({room.cpu, room.memory, gaps}, free).filled;
}

void Rollout::limit_memory() {
  const std::size_t bytes = free_rooms_.bytes() + rooms_.bytes() +
                            free_answers_.capacity() * sizeof(Unhindered) +
                            answers_.capacity() * sizeof(Hindered) + needs_.capacity() * sizeof(Need);
  if (bytes <= kMemoBytes)
    return;
  free_rooms_.clear();
  free_answers_.clear();
  needs_.clear();
  rooms_.clear();
  answers_.clear();
}

const Rollout::Unhindered& Rollout::unhindered(const Room& gaps_only) {
  const std::uint32_t number = free_rooms_.number(gaps_only);
  if (number < free_answers_.size())
    return free_answers_[number];
  const Room room{kUnlimited, kUnlimited, gaps_only.gaps};
  run_all(room, table_for(room));
  Unhindered answer;
  answer.first = needs_.size();
  for (std::uint32_t sequence = 0; sequence < sequences_; ++sequence) {
    const Need need{lane_filled_[sequence], lane_cpu_[sequence], lane_memory_[sequence]};
    needs_.push_back(need);
    answer.filled += need.filled;
    answer.most_cpu = std::max<std::int64_t>(answer.most_cpu, need.cpu);
    answer.most_memory = std::max<std::int64_t>(answer.most_memory, need.memory);
  }
  free_answers_.push_back(answer);
  return free_answers_.back();
}

const Rollout::Hindered& Rollout::hindered(const Room& room, const Unhindered& free) {
  const std::uint32_t number = rooms_.number(room);
  if (number < answers_.size())
    return answers_[number];
  const Table* table = table_for(room);
  const std::span<const Need> needs(needs_.data() + free.first, sequences_);
  const auto enough = [&](const Need& need) { return need.cpu <= room.cpu && need.memory <= room.memory; };
  const auto short_of = sequences_ - static_cast<std::uint32_t>(std::ranges::count_if(needs, enough));
  const bool all = short_of >= kWorthLanes;
  if (all)
    run_all(room, table);
  Hindered answer;
  for (std::uint32_t sequence = 0; sequence < sequences_; ++sequence) {
    Run each{needs[sequence].filled, needs[sequence].cpu, needs[sequence].memory};
    if (all) {
      each = {lane_filled_[sequence], lane_cpu_[sequence], lane_memory_[sequence]};
    } else if (!enough(needs[sequence])) {
      each = run(room, sequence, table);
      ++runs_;
    }
    answer.filled += each.filled;
    answer.most_memory = std::max(answer.most_memory, each.memory);
  }
  answers_.push_back(answer);
  return answers_.back();
}

void Rollout::run_all(const Room& room, const Table* table) {
  runs_ += sequences_;
  const auto small = [](const Gap& gap) { return gap.milli > 0 && gap.milli <= kWholeMilli; };
  if (table != nullptr && table->lanes.length != 0 && room.gaps.size() <= kLaneGaps &&
      std::ranges::all_of(room.gaps, small)) {
    run_lanes(table->lanes, room, {lane_filled_.data(), lane_cpu_.data(), lane_memory_.data()});
    return;
  }
  for (std::uint32_t sequence = 0; sequence < sequences_; ++sequence) {
    const Run each = run(room, sequence, table);
    lane_filled_[sequence] = static_cast<std::int32_t>(each.filled);
    lane_cpu_[sequence] = static_cast<std::int32_t>(std::min<std::int64_t>(each.cpu, kUnlimited));
    lane_memory_[sequence] = static_cast<std::int32_t>(std::min<std::int64_t>(each.memory, kUnlimited));
  }
}

Rollout::Run Rollout::run(const Room& room, std::uint32_t sequence, const Table* table) const {
  if (table == nullptr)
    return run_any(room, sequence);
  return room.gaps.size() <= kFewGaps ? run_one_model<kFewGaps>(room, sequence, *table)
                                      : run_one_model<kMaximumDevices>(room, sequence, *table);
}

template <int kGaps>
Rollout::Run Rollout::run_one_model(const Room& room, std::uint32_t sequence, const Table& table) const {
  Gaps<kGaps> gaps;
  for (const Gap& gap : room.gaps)
    gaps.append(gap);
  const auto possible = [&] {
    const auto largest = std::min<std::uint64_t>(gaps.largest_milli(), kWholeMilli);
    return table.masks[std::size_t{table.class_of_milli[largest]} * sequences_ + sequence];
  };
  const Step* const steps = table.steps.data() + std::size_t{sequence} * length_;
  Run run;
  for (std::uint64_t mask = possible(); mask != 0;) {
    const Step& step = steps[std::countr_zero(mask)];
    mask &= mask - 1;
    if (run.cpu + step.cpu > room.cpu || run.memory + step.memory > room.memory)
      continue;
    if (step.count != 0 && !gaps.put(step.count, step.milli, step.vram))
      continue;
    run.cpu += step.cpu;
    run.memory += step.memory;
    if (step.count == 0)
      continue;
    run.filled += step.value;
    if (gaps.count() == 0)
      break;
    mask &= possible();
  }
  return run;
}

// Nodes with devices of several models, one claim after the other with no shortcuts.
Rollout::Run Rollout::run_any(const Room& room, std::uint32_t sequence) const {
  std::unordered_map<std::int32_t, Gaps<kMaximumDevices>> gaps;
  int open = static_cast<int>(room.gaps.size());
  for (const Gap& gap : room.gaps)
    gaps[gap.model].append(gap);
  Run run;
  for (std::uint32_t index = 0; index < length_ && open > 0; ++index) {
    const Demand& demand = vocabulary_.demands[drawn_[sequence * length_ + index]];
    if (run.cpu + demand.cpu > room.cpu || run.memory + demand.memory > room.memory)
      continue;
    const auto put = std::ranges::find_if(demand.shares, [&](const Share& share) {
      const auto same = gaps.find(share.model);
      if (same == gaps.end())
        return false;
      const int before = same->second.count();
      const bool fits = same->second.put(demand.count, share.milli, share.vram);
      open -= before - same->second.count();
      return fits;
    });
    if (demand.count != 0 && put == demand.shares.end())
      continue;
    run.cpu += demand.cpu;
    run.memory += demand.memory;
    if (demand.count != 0)
      run.filled += vocabulary_.value_of(demand, *put);
  }
  return run;
}

// Null where the gaps are of several models.
const Rollout::Table* Rollout::table_for(const Room& room) {
  const std::int32_t model = room.gaps.front().model;
  if (room.gaps.back().model != model)
    return nullptr;
  const auto found = tables_.find(model);
  return found != tables_.end() ? &found->second : &tables_.emplace(model, make_table(model)).first->second;
}

Rollout::Table Rollout::make_table(std::int32_t model) const {
  Table table;
  std::vector<std::int32_t> asked{0};
  for (const std::uint32_t number : drawn_) {
    const Demand& demand = vocabulary_.demands[number];
    const Share* share = demand.share_of(model);
    if (demand.count == 0)
      table.steps.push_back({demand.cpu, demand.memory, 0, 0, 0, 0});
    else if (share == nullptr)
      table.steps.push_back({0, 0, -1, 0, 0, 0});
    else
      table.steps.push_back({demand.cpu, demand.memory, demand.count, share->milli, share->vram,
                             static_cast<std::int32_t>(vocabulary_.value_of(demand, *share))});
    asked.push_back(std::min(table.steps.back().milli, kWholeMilli));
  }
  std::ranges::sort(asked);
  asked.erase(std::unique(asked.begin(), asked.end()), asked.end());
  table.class_of_milli.resize(kWholeMilli + 1);
  for (int milli = 0; milli <= kWholeMilli; ++milli) {
    const auto above = std::ranges::upper_bound(asked, milli);
    table.class_of_milli[milli] = static_cast<std::uint16_t>(above - asked.begin() - 1);
  }
  table.masks.assign(asked.size() * sequences_, 0);
  for (std::size_t of_class = 0; of_class < asked.size(); ++of_class)
    for (std::size_t at = 0; at < table.steps.size(); ++at) {
      const Step& step = table.steps[at];
      if (step.count >= 0 && std::min(step.milli, kWholeMilli) <= asked[of_class])
        table.masks[of_class * sequences_ + at / length_] |= std::uint64_t{1} << (at % length_);
    }
  table.lanes = lanes_of(table.steps);
  return table;
}

LaneSteps Rollout::lanes_of(const std::vector<Step>& steps) const {
  const auto regular = [](const Step& step) {
    return step.count <= 0 || (step.vram == 0 && step.milli > 0 && step.milli <= kWholeMilli &&
                               (step.count == 1 || step.milli == kWholeMilli));
  };
  const auto moderate = [](const Step& step) {
    return step.cpu <= kLaneAmount && step.memory <= kLaneAmount;
  };
  LaneSteps lanes;
  if (!std::ranges::all_of(steps, regular) || !std::ranges::all_of(steps, moderate))
    return lanes;
  lanes.length = length_;
  lanes.sequences = static_cast<std::uint32_t>(lane_filled_.size());
  const std::size_t size = std::size_t{lanes.length} * lanes.sequences;
  lanes.milli.assign(size, 0);
  lanes.count.assign(size, -1);
  lanes.cpu.assign(size, 0);
  lanes.memory.assign(size, 0);
  for (std::size_t at = 0; at < steps.size(); ++at) {
    const std::size_t lane = at % length_ * lanes.sequences + at / length_;
    lanes.milli[lane] = static_cast<std::int16_t>(steps[at].milli);
    lanes.count[lane] = static_cast<std::int16_t>(steps[at].count);
    lanes.cpu[lane] = steps[at].cpu;
    lanes.memory[lane] = steps[at].memory;
  }
  return lanes;
}

} // namespace aliquot::placement
