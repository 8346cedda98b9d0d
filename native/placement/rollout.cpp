// See rollout.hpp.
#include "native/placement/rollout.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace aliquot::placement {
namespace {

constexpr std::size_t kMemoBytes = std::size_t{96} << 20;

// A gap of one model in one word, so that comparing words compares compute first, then VRAM.
std::uint64_t word_of(std::int32_t milli, std::int32_t vram) noexcept {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(milli)) << 32) |
         static_cast<std::uint32_t>(vram);
}

// The gaps of one node while a sequence runs over it: ascending, those with nothing free left out.
struct Gaps {
  std::array<std::uint64_t, kMaximumDevices> word;
  int count = 0;

  [[nodiscard]] static bool holds(std::uint64_t gap, std::int32_t milli, std::int32_t vram) noexcept {
    return (gap >> 32) >= static_cast<std::uint32_t>(milli) &&
           static_cast<std::uint32_t>(gap) >= static_cast<std::uint32_t>(vram);
  }
  // The first gap at `from` or later that holds a share; `count` if there is none.
  [[nodiscard]] int find(int from, std::int32_t milli, std::int32_t vram) const noexcept {
    while (from < count && !holds(word[from], milli, vram))
      ++from;
    return from;
  }
  void shrink(int at, std::uint64_t by) noexcept {
    const std::uint64_t left = word[at] - by; // no borrow between the halves: the gap holds the share
    if (left == 0) {
      --count;
      for (; at < count; ++at)
        word[at] = word[at + 1];
      return;
    }
    for (; at > 0 && word[at - 1] > left; --at)
      word[at] = word[at - 1];
    word[at] = left;
  }
  // Puts `wanted` shares onto the smallest gaps that hold them; false, and nothing changed, if they do not
  // fit.
  bool put(int wanted, std::int32_t milli, std::int32_t vram) noexcept {
    int fitting = 0;
    std::array<int, kMaximumDevices> chosen;
    for (int at = find(0, milli, vram); at < count && fitting < wanted; at = find(at + 1, milli, vram))
      chosen[fitting++] = at;
    if (fitting < wanted)
      return false;
    const std::uint64_t by = word_of(milli, vram);
    if (wanted == 1) {
      shrink(chosen[0], by);
      return true;
    }
    for (int index = 0; index < wanted; ++index)
      word[chosen[index]] -= by;
    std::sort(word.begin(), word.begin() + count);
    const auto* first =
        std::find_if(word.begin(), word.begin() + count, [](std::uint64_t gap) { return gap != 0; });
    count -= static_cast<int>(first - word.begin());
    std::copy(first, first + count, word.begin());
    return true;
  }
};

} // namespace

Rollout::Rollout(const Vocabulary& vocabulary, const std::vector<std::uint32_t>& drawn, std::uint32_t length)
    : vocabulary_(vocabulary), drawn_(drawn), length_(length),
      sequences_(static_cast<std::uint32_t>(drawn.size() / length)) {}

std::int64_t Rollout::filled(const Room& room) {
  if (rooms_.bytes() + answers_.capacity() * sizeof(Answer) > kMemoBytes) {
    rooms_.clear();
    answers_.clear();
  }
  std::array<Gap, kMaximumDevices> open;
  const auto* end = std::ranges::copy_if(room.gaps, open.begin(), [](const Gap& gap) {
                      return gap.milli > 0 || gap.vram > 0;
                    }).out;
  const std::span<const Gap> gaps(open.data(), end - open.begin());
  if (gaps.empty())
    return 0;
  // Where neither CPU nor memory runs short they make no difference, and most rooms have the same answer.
  const Answer free = answer({kUnlimited, kUnlimited, gaps});
  if (free.cpu <= room.cpu && free.memory <= room.memory)
    return free.filled;
  const Answer by_cpu = answer({room.cpu, kUnlimited, gaps});
  if (by_cpu.memory <= room.memory)
    return by_cpu.filled;
  return answer({room.cpu, room.memory, gaps}).filled;
}

Rollout::Answer Rollout::answer(const Room& room) {
  const std::uint32_t number = rooms_.number(room);
  if (number == answers_.size())
    answers_.push_back(run(room));
  return answers_[number];
}

Rollout::Answer Rollout::run(const Room& room) {
  ++runs_;
  const std::int32_t model = room.gaps.front().model;
  if (length_ <= 64 && room.gaps.back().model == model)
    return run_one_model(room, table_of(model));
  return run_any(room);
}

Rollout::Answer Rollout::run_one_model(const Room& room, const Table& table) const {
  Gaps start;
  for (const Gap& gap : room.gaps)
    start.word[start.count++] = word_of(gap.milli, gap.vram);
  const auto masks_for = [&](const Gaps& gaps) {
    const auto largest = std::min<std::uint64_t>(gaps.word[gaps.count - 1] >> 32, kWholeMilli);
    return table.masks.data() + std::size_t{table.class_of_milli[largest]} * sequences_;
  };
  const std::uint64_t* const first_masks = masks_for(start);
  Answer total{0, 0, 0};
  for (std::uint32_t sequence = 0; sequence < sequences_; ++sequence) {
    Gaps gaps = start;
    std::int64_t cpu = 0;
    std::int64_t memory = 0;
    const Step* const steps = table.steps.data() + std::size_t{sequence} * length_;
    for (std::uint64_t mask = first_masks[sequence]; mask != 0;) {
      const Step& step = steps[std::countr_zero(mask)];
      mask &= mask - 1;
      if (cpu + step.cpu > room.cpu || memory + step.memory > room.memory)
        continue;
      if (step.count != 0 && !gaps.put(step.count, step.milli, step.vram))
        continue;
      cpu += step.cpu;
      memory += step.memory;
      if (step.count == 0)
        continue;
      total.filled += step.value;
      if (gaps.count == 0)
        break;
      mask &= masks_for(gaps)[sequence];
    }
    total.cpu = std::max(total.cpu, cpu);
    total.memory = std::max(total.memory, memory);
  }
  return total;
}

// Nodes with devices of several models, one claim after the other with no shortcuts.
Rollout::Answer Rollout::run_any(const Room& room) const {
  Answer total{0, 0, 0};
  for (std::uint32_t sequence = 0; sequence < sequences_; ++sequence) {
    std::unordered_map<std::int32_t, Gaps> gaps;
    int open = static_cast<int>(room.gaps.size());
    for (const Gap& gap : room.gaps) {
      Gaps& same = gaps[gap.model];
      same.word[same.count++] = word_of(gap.milli, gap.vram);
    }
    std::int64_t cpu = 0;
    std::int64_t memory = 0;
    for (std::uint32_t index = 0; index < length_ && open > 0; ++index) {
      const Demand& demand = vocabulary_.demands[drawn_[sequence * length_ + index]];
      if (cpu + demand.cpu > room.cpu || memory + demand.memory > room.memory)
        continue;
      const auto put = std::ranges::find_if(demand.shares, [&](const Share& share) {
        const auto same = gaps.find(share.model);
        if (same == gaps.end())
          return false;
        const int before = same->second.count;
        const bool fits = same->second.put(demand.count, share.milli, share.vram);
        open -= before - same->second.count;
        return fits;
      });
      if (demand.count != 0 && put == demand.shares.end())
        continue;
      cpu += demand.cpu;
      memory += demand.memory;
      if (demand.count != 0)
        total.filled += vocabulary_.value_of(demand, *put);
    }
    total.cpu = std::max(total.cpu, cpu);
    total.memory = std::max(total.memory, memory);
  }
  return total;
}

const Rollout::Table& Rollout::table_of(std::int32_t model) {
  const auto found = tables_.find(model);
  if (found != tables_.end())
    return found->second;
  Table& table = tables_[model];
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
  return table;
}

} // namespace aliquot::placement
