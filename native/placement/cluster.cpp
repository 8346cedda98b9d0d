// See cluster.hpp.
#include "native/placement/cluster.hpp"

#include <algorithm>
#include <bit>

namespace aliquot::placement {
namespace {

// Past this many bytes of numbered rooms all are forgotten and met anew: a bound, not a tuned figure.
constexpr std::size_t kRoomBytes = std::size_t{64} << 20;
constexpr std::size_t kLogLength = std::size_t{1} << 20;

std::uint64_t hash_of(const Demand& demand) noexcept {
  std::uint64_t hash = 0x9e3779b97f4a7c15ULL;
  const auto add = [&hash](std::int32_t value) {
    hash = (hash ^ static_cast<std::uint32_t>(value)) * 0xff51afd7ed558ccdULL;
    hash ^= hash >> 29;
  };
  add(demand.cpu);
  add(demand.memory);
  add(demand.count);
  for (const Share& share : demand.shares) {
    add(share.model);
    add(share.milli);
    add(share.vram);
  }
  return hash;
}

// Whether sign times the amount can be added without leaving 0 to the largest amount.
bool addable(std::int32_t free, std::int32_t amount, int sign) noexcept {
  const std::int64_t result = std::int64_t{free} + std::int64_t{sign} * amount;
  return result >= 0 && result <= kUnlimited;
}

} // namespace

std::uint32_t Vocabulary::number_of(const Demand& demand) {
  const std::uint64_t hash = hash_of(demand);
  const auto [first, last] = demand_by_hash.equal_range(hash);
  for (auto found = first; found != last; ++found)
    if (demands[found->second] == demand)
      return found->second;
  const auto made = static_cast<std::uint32_t>(demands.size());
  demands.push_back(demand);
  demand_by_hash.emplace(hash, made);
  return made;
}

void Vocabulary::note_capacity(const Gap& device) {
  std::int32_t& most = vram_of_model[device.model];
  most = std::max(most, device.vram);
}

std::int64_t Vocabulary::value_of(const Demand& demand, const Share& share) const {
  const auto found = vram_of_model.find(share.model);
  const std::int32_t vram = found == vram_of_model.end() ? 0 : found->second;
  const std::int64_t by_vram = vram == 0 ? 0 : std::int64_t{kWholeMilli} * share.vram / vram;
  return demand.count * std::max<std::int64_t>(share.milli, by_vram);
}

int kind_of(const Demand& demand) noexcept {
  if (demand.count == 0)
    return -1;
  return demand.shares.front().milli < kWholeMilli ? 0 : demand.count;
}

std::uint32_t Cluster::add_node(std::int32_t cpu, std::int32_t memory, std::span<const Gap> devices) {
  const std::uint32_t node = node_count();
  cpu_.push_back(cpu);
  memory_.push_back(memory);
  devices_.insert(devices_.end(), devices.begin(), devices.end());
  first_.push_back(static_cast<std::uint32_t>(devices_.size()));
  versions_.push_back(0);
  rooms_.push_back(RoomTable::kNone);
  kinds_.emplace_back();
  log_change(node);
  for (const Gap& device : devices)
    vocabulary_->note_capacity(device);
  return node;
}

Change Cluster::take(std::uint32_t demand, std::uint32_t node, std::uint64_t devices) {
  return apply(demand, node, devices, -1);
}

Change Cluster::give(std::uint32_t demand, std::uint32_t node, std::uint64_t devices) {
  return apply(demand, node, devices, 1);
}

Room Cluster::free(std::uint32_t node) const noexcept {
  return {cpu_[node], memory_[node],
          std::span(devices_).subspan(first_[node], first_[node + 1] - first_[node])};
}

int Cluster::kinds_on(std::uint32_t node) const noexcept {
  return static_cast<int>(
      std::ranges::count_if(kinds_[node], [](std::uint16_t count) { return count != 0; }));
}

std::uint32_t Cluster::room_number(std::uint32_t node) {
  if (rooms_generation_ != vocabulary_->generation) {
    std::ranges::fill(rooms_, RoomTable::kNone);
    rooms_generation_ = vocabulary_->generation;
  }
  if (rooms_[node] == RoomTable::kNone) {
    const Room room = free(node);
    std::array<Gap, kMaximumDevices> sorted;
    std::ranges::copy(room.gaps, sorted.begin());
    std::ranges::sort(sorted.begin(), sorted.begin() + room.gaps.size());
    rooms_[node] =
        vocabulary_->rooms.number({room.cpu, room.memory, std::span(sorted).first(room.gaps.size())});
  }
  return rooms_[node];
}

void Cluster::tidy() {
  if (vocabulary_->rooms.bytes() < kRoomBytes)
    return;
  vocabulary_->rooms.clear();
  ++vocabulary_->generation;
}

Change Cluster::apply(std::uint32_t demand, std::uint32_t node, std::uint64_t devices, int sign) {
  if (demand >= vocabulary_->demands.size() || node >= node_count())
    return Change::kInvalid;
  const Demand& asked = vocabulary_->demands[demand];
  const std::uint32_t first = first_[node];
  const std::uint32_t there = first_[node + 1] - first;
  if (std::popcount(devices) != asked.count || (there < 64 && (devices >> there) != 0))
    return Change::kInvalid;
  if (!addable(cpu_[node], asked.cpu, sign) || !addable(memory_[node], asked.memory, sign))
    return Change::kDoesNotFit;
  for (std::uint64_t left = devices; left != 0; left &= left - 1) {
    const Gap& gap = devices_[first + std::countr_zero(left)];
    const Share* share = asked.share_of(gap.model);
    if (share == nullptr || !addable(gap.milli, share->milli, sign) || !addable(gap.vram, share->vram, sign))
      return Change::kDoesNotFit;
  }
  for (std::uint64_t left = devices; left != 0; left &= left - 1) {
    Gap& gap = devices_[first + std::countr_zero(left)];
    const Share* share = asked.share_of(gap.model);
    gap.milli += sign * share->milli;
    gap.vram += sign * share->vram;
  }
  cpu_[node] += sign * asked.cpu;
  memory_[node] += sign * asked.memory;
  if (const int kind = kind_of(asked); kind >= 0)
    kinds_[node][kind] = static_cast<std::uint16_t>(kinds_[node][kind] - sign);
  ++versions_[node];
  rooms_[node] = RoomTable::kNone;
  log_change(node);
  return Change::kDone;
}

void Cluster::log_change(std::uint32_t node) {
  if (log_.size() >= kLogLength) { // whoever is further behind than half of it starts afresh
    log_.erase(log_.begin(), log_.begin() + kLogLength / 2);
    log_first_ += kLogLength / 2;
  }
  log_.push_back(node);
}

} // namespace aliquot::placement
