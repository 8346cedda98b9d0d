// See scorer.hpp.
#include "native/placement/scorer.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <tuple>

namespace aliquot::placement {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();
constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
constexpr std::uint64_t kEverything = ~std::uint64_t{0};
constexpr std::size_t kKeptMost = std::size_t{1} << 22; // 96 MiB of kept scores
constexpr std::uint32_t kBlock = 64;
constexpr std::size_t kColumnBytes = std::size_t{256} << 20;

using GapArray = std::array<Gap, kMaximumDevices>;

// The room once the demand stands on the chosen gaps; `gaps` is where its gaps are kept.
Room after(const Demand& demand, const Room& room, std::uint64_t chosen, GapArray& gaps) {
  std::ranges::copy(room.gaps, gaps.begin());
  const std::span<Gap> changed(gaps.data(), room.gaps.size());
  for (std::uint64_t left = chosen; left != 0; left &= left - 1) {
    Gap& gap = changed[std::countr_zero(left)];
    const Share* share = demand.share_of(gap.model);
    gap.milli -= share->milli;
    gap.vram -= share->vram;
  }
  if (std::has_single_bit(chosen)) { // a gap that shrank moves left
    auto at = static_cast<std::size_t>(std::countr_zero(chosen));
    for (; at > 0 && changed[at] < changed[at - 1]; --at)
      std::swap(changed[at], changed[at - 1]);
  } else if (chosen != 0) {
    std::ranges::sort(changed);
  }
  return {room.cpu - demand.cpu, room.memory - demand.memory, changed};
}

// A node's room with its gaps sorted, and which device each of them is.
struct SortedRoom {
  GapArray gaps;
  std::array<int, kMaximumDevices> device;
  Room room;

  explicit SortedRoom(const Room& free) {
    std::array<std::pair<Gap, int>, kMaximumDevices> order;
    const std::size_t count = free.gaps.size();
    for (std::size_t at = 0; at < count; ++at)
      order[at] = {free.gaps[at], static_cast<int>(at)};
    std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
    for (std::size_t at = 0; at < count; ++at)
      std::tie(gaps[at], device[at]) = order[at];
    room = {free.cpu, free.memory, std::span(gaps).first(count)};
  }
  SortedRoom(const SortedRoom&) = delete;
  SortedRoom& operator=(const SortedRoom&) = delete;

  [[nodiscard]] std::uint64_t devices_of(std::uint64_t chosen) const noexcept {
    std::uint64_t devices = 0;
    for (std::uint64_t left = chosen; left != 0; left &= left - 1)
      devices |= std::uint64_t{1} << device[std::countr_zero(left)];
    return devices;
  }
  // The gaps whose device is in the set; `test` says which.
  template <class Test>
  [[nodiscard]] std::uint64_t gaps_where(const Test& test) const {
    std::uint64_t bits = 0;
    for (std::size_t at = 0; at < room.gaps.size(); ++at)
      if (test(device[at]))
        bits |= std::uint64_t{1} << at;
    return bits;
  }
};

// Calls `offer` with each way to put the demand onto the room that is worth weighing, on allowed gaps only.
template <class Offer>
void each_option(const Demand& demand, const Room& room, std::uint64_t allowed, bool only_first,
                 const Offer& offer) {
  if (demand.cpu > room.cpu || demand.memory > room.memory)
    return;
  if (demand.count == 0) {
    offer(std::uint64_t{0});
    return;
  }
  for (const Share& share : demand.shares) {
    std::array<int, kMaximumDevices> fitting;
    int count = 0;
    for (int at = 0; at < static_cast<int>(room.gaps.size()); ++at)
      if ((allowed >> at & 1) != 0 && room.gaps[at].holds(share))
        fitting[count++] = at;
    if (count < demand.count)
      continue;
    if (demand.count == 1) {
      for (int index = 0; index < count; ++index) {
        if (index > 0 && room.gaps[fitting[index]] == room.gaps[fitting[index - 1]])
          continue;
        offer(std::uint64_t{1} << fitting[index]);
        if (only_first)
          return;
      }
      continue;
    }
    std::uint64_t smallest = 0;
    std::uint64_t largest = 0;
    for (int index = 0; index < demand.count; ++index) {
      smallest |= std::uint64_t{1} << fitting[index];
      largest |= std::uint64_t{1} << fitting[count - 1 - index];
    }
    offer(smallest);
    if (only_first)
      return;
    if (room.gaps[fitting[0]] != room.gaps[fitting[count - 1]])
      offer(largest);
  }
}

} // namespace

ScoreBook::ScoreBook(std::shared_ptr<Vocabulary> vocabulary, std::vector<WeightedTerm> terms, Devices devices,
                     std::uint64_t seed)
    : vocabulary_(std::move(vocabulary)), terms_(std::move(terms)), devices_(devices), seed_(seed),
      pure_(devices != Devices::kRandom &&
            std::ranges::all_of(terms_, [](const WeightedTerm& each) { return is_pure(each.term); })) {
  forget();
}

void ScoreBook::set_outlook(Outlook outlook) {
  outlook_ = std::move(outlook);
  forget();
  ++epoch_;
}

Verdict ScoreBook::verdict(std::uint32_t demand, std::uint32_t room) {
  if (generation_ != vocabulary_->generation) {
    generation_ = vocabulary_->generation;
    forget();
  }
  const std::uint64_t key = (std::uint64_t{demand} << 32) | room;
  const std::size_t mask = kept_.size() - 1;
  std::size_t at = scrambled(key) & mask;
  for (; kept_[at].key != kEmpty; at = (at + 1) & mask)
    if (kept_[at].key == key)
      return kept_[at].verdict;
  const Verdict made =
      best_of(vocabulary_->demands[demand], vocabulary_->rooms.room(room), kEverything, {0, nullptr});
  kept_[at] = {key, made};
  if (++kept_count_ * 2 > kept_.size())
    grow();
  return made;
}

Verdict ScoreBook::computed(const Demand& demand, const Room& room, std::uint64_t allowed,
                            const Place& place) {
  return devices_ == Devices::kRandom ? random_of(demand, room, allowed, place)
                                      : best_of(demand, room, allowed, place);
}

std::vector<double> ScoreBook::explained(const Demand& demand, const Room& room, std::uint64_t chosen,
                                         const Place& place) {
  GapArray gaps;
  const Room left = after(demand, room, chosen, gaps);
  const Candidate candidate{demand, room, left, chosen, place, scrambled(seed_ + decisions_)};
  std::vector<double> values;
  values.reserve(terms_.size());
  for (const WeightedTerm& each : terms_)
    values.push_back(each.weight * value_of(each.term, candidate, *vocabulary_, outlook_));
  return values;
}

Verdict ScoreBook::scored(const Demand& demand, const Room& room, std::uint64_t chosen, const Place& place) {
  GapArray gaps;
  const Room left = after(demand, room, chosen, gaps);
  const Candidate candidate{demand, room, left, chosen, place, scrambled(seed_ + decisions_)};
  double score = 0;
  for (const WeightedTerm& each : terms_)
    score += each.weight * value_of(each.term, candidate, *vocabulary_, outlook_);
  return {score, chosen};
}

Verdict ScoreBook::best_of(const Demand& demand, const Room& room, std::uint64_t allowed,
                           const Place& place) {
  Verdict best{kNever, 0};
  each_option(demand, room, allowed, devices_ == Devices::kSmallest, [&](std::uint64_t chosen) {
    const Verdict offered = scored(demand, room, chosen, place);
    if (offered.score > best.score)
      best = offered;
  });
  return best;
}

// Any device that holds the share is as likely as any other; several are the first that fit.
Verdict ScoreBook::random_of(const Demand& demand, const Room& room, std::uint64_t allowed,
                             const Place& place) {
  std::uint64_t chosen = 0;
  bool found = false;
  each_option(demand, room, allowed, true, [&](std::uint64_t first) {
    chosen = first;
    found = true;
  });
  if (!found)
    return {kNever, 0};
  if (demand.count == 1) {
    const std::uint64_t seed =
        scrambled(scrambled(seed_ + decisions_) ^ place.node ^ (std::uint64_t{1} << 32));
    std::uint64_t highest = 0;
    for (std::size_t at = 0; at < room.gaps.size(); ++at) {
      const Share* share = demand.share_of(room.gaps[at].model);
      const std::uint64_t drawn = scrambled(seed + at) | 1;
      if ((allowed >> at & 1) != 0 && share != nullptr && room.gaps[at].holds(*share) && drawn > highest) {
        highest = drawn;
        chosen = std::uint64_t{1} << at;
      }
    }
  }
  return scored(demand, room, chosen, place);
}

void ScoreBook::forget() {
  kept_.assign(std::size_t{1} << 12, {kEmpty, {}});
  kept_count_ = 0;
}

void ScoreBook::grow() {
  if (kept_.size() >= kKeptMost) {
    forget();
    return;
  }
  std::vector<Kept> old(kept_.size() * 2, {kEmpty, {}});
  old.swap(kept_);
  const std::size_t mask = kept_.size() - 1;
  for (const Kept& each : old) {
    if (each.key == kEmpty)
      continue;
    std::size_t at = scrambled(each.key) & mask;
    while (kept_[at].key != kEmpty)
      at = (at + 1) & mask;
    kept_[at] = each;
  }
}

Scorer::Choice Scorer::choose(std::uint32_t demand, const Masks& masks) {
  cluster_.tidy();
  book_->next_decision();
  return book_->pure() && masks.nodes.empty() && masks.devices.empty() ? best_unmasked(demand)
                                                                       : best_masked(demand, masks);
}

std::vector<Scorer::Choice> Scorer::choices(std::uint32_t demand, const Masks& masks, std::size_t most) {
  cluster_.tidy();
  book_->next_decision();
  const Column* column = book_->pure() ? &column_of(demand) : nullptr;
  std::vector<std::pair<double, std::uint32_t>> ranked; // score negated, so that the natural order is ours
  for (std::uint32_t node = 0; node < cluster_.node_count(); ++node)
    if (const double score = score_on(demand, node, masks, column); score != kNever)
      ranked.emplace_back(-score, node);
  most = std::min(most, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(most), ranked.end());
  std::vector<Choice> result;
  result.reserve(most);
  for (std::size_t rank = 0; rank < most; ++rank)
    result.push_back(placed(demand, ranked[rank].second, masks));
  return result;
}

std::vector<double> Scorer::explained(std::uint32_t demand, const Choice& choice) {
  const SortedRoom sorted(cluster_.free(choice.node)); // the terms are defined on sorted gaps
  const std::uint64_t chosen =
      sorted.gaps_where([&](int device) { return (choice.verdict.chosen >> device & 1) != 0; });
  return book_->explained(cluster_.vocabulary().demands[demand], sorted.room, chosen,
                          {choice.node, &cluster_});
}

double Scorer::fragmentation() {
  cluster_.tidy();
  Fragmentation* const fragmentation = book_->outlook().fragmentation.get();
  double sum = 0;
  for (std::uint32_t node = 0; fragmentation != nullptr && node < cluster_.node_count(); ++node)
    sum += fragmentation->amount(cluster_.vocabulary().rooms.room(cluster_.room_number(node)));
  return sum;
}

Scorer::Column& Scorer::column_of(std::uint32_t demand) {
  if (epoch_ != book_->epoch()) {
    columns_.clear();
    column_count_ = 0;
    epoch_ = book_->epoch();
  }
  if (demand >= columns_.size())
    columns_.resize(demand + 1);
  if (!columns_[demand]) {
    limit_columns();
    columns_[demand] = std::make_unique<Column>();
    ++column_count_;
  }
  Column& column = *columns_[demand];
  column.used = ++clock_;
  follow(demand, column);
  return column;
}

void Scorer::follow(std::uint32_t demand, Column& column) {
  const std::uint32_t nodes = cluster_.node_count();
  const std::uint64_t now = cluster_.changes();
  if (column.scores.empty() || column.followed < cluster_.oldest_change() || now - column.followed > nodes) {
    column.scores.resize(nodes);
    column.block_best.assign((nodes + kBlock - 1) / kBlock, kNever);
    for (std::uint32_t node = 0; node < nodes; ++node) {
      column.scores[node] = book_->verdict(demand, cluster_.room_number(node)).score;
      column.block_best[node / kBlock] = std::max(column.block_best[node / kBlock], column.scores[node]);
    }
  } else {
    column.scores.resize(nodes, kNever);
    column.block_best.resize((nodes + kBlock - 1) / kBlock, kNever);
    for (std::uint64_t change = column.followed; change < now; ++change) {
      const std::uint32_t node = cluster_.changed_node(change);
      set_score(column, node, book_->verdict(demand, cluster_.room_number(node)).score);
    }
  }
  column.followed = now;
}

void Scorer::set_score(Column& column, std::uint32_t node, double score) {
  const double old = column.scores[node];
  double& best = column.block_best[node / kBlock];
  column.scores[node] = score;
  if (score >= best) {
    best = score;
  } else if (old == best) {
    const auto first = column.scores.begin() + node / kBlock * kBlock;
    const auto last = column.scores.end() - first > kBlock ? first + kBlock : column.scores.end();
    best = *std::max_element(first, last);
  }
}

Scorer::Choice Scorer::best_unmasked(std::uint32_t demand) {
  const Column& column = column_of(demand);
  const auto block = std::ranges::max_element(column.block_best); // the first of equals
  if (block == column.block_best.end() || *block == kNever)
    return {};
  auto node = static_cast<std::uint32_t>(block - column.block_best.begin()) * kBlock;
  while (column.scores[node] != *block)
    ++node;
  return placed(demand, node, {});
}

Scorer::Choice Scorer::best_masked(std::uint32_t demand, const Masks& masks) {
  const Column* column = book_->pure() ? &column_of(demand) : nullptr;
  double best = kNever;
  std::uint32_t where = kNowhere;
  for (std::uint32_t node = 0; node < cluster_.node_count(); ++node) {
    if (!masks.nodes.empty() && masks.nodes[node] == 0)
      continue;
    if (const double score = score_on(demand, node, masks, column); score > best) {
      best = score;
      where = node;
    }
  }
  return where == kNowhere ? Choice{} : placed(demand, where, masks);
}

double Scorer::score_on(std::uint32_t demand, std::uint32_t node, const Masks& masks, const Column* column) {
  if (!masks.nodes.empty() && masks.nodes[node] == 0)
    return kNever;
  if (column != nullptr && masks.devices.empty())
    return column->scores[node];
  if (column != nullptr && column->scores[node] == kNever)
    return kNever;
  return verdict_on(demand, node, masks).score;
}

// What is chosen is told in sorted gaps.
Verdict Scorer::verdict_on(std::uint32_t demand, std::uint32_t node, const Masks& masks) {
  const Vocabulary& words = cluster_.vocabulary();
  const std::uint32_t first = cluster_.first_device(node);
  const auto barred = [&](std::uint32_t device) { return masks.devices[first + device] == 0; };
  if (!masks.devices.empty()) {
    const SortedRoom sorted(cluster_.free(node));
    const std::uint64_t allowed = sorted.gaps_where([&](int device) { return !barred(device); });
    if (std::popcount(allowed) != static_cast<int>(sorted.room.gaps.size()))
      return book_->computed(words.demands[demand], sorted.room, allowed, {node, &cluster_});
  }
  const std::uint32_t number = cluster_.room_number(node);
  if (book_->pure())
    return book_->verdict(demand, number);
  return book_->computed(words.demands[demand], words.rooms.room(number), kEverything, {node, &cluster_});
}

Scorer::Choice Scorer::placed(std::uint32_t demand, std::uint32_t node, const Masks& masks) {
  Verdict verdict = verdict_on(demand, node, masks);
  verdict.chosen = SortedRoom(cluster_.free(node)).devices_of(verdict.chosen);
  return {node, verdict};
}

void Scorer::limit_columns() {
  const std::size_t bytes = (column_count_ + 1) * cluster_.node_count() * sizeof(double);
  if (bytes <= kColumnBytes || column_count_ < 2)
    return;
  auto oldest = columns_.end();
  for (auto each = columns_.begin(); each != columns_.end(); ++each)
    if (*each && (oldest == columns_.end() || (*each)->used < (*oldest)->used))
      oldest = each;
  oldest->reset();
  --column_count_;
}

} // namespace aliquot::placement
