// How much of a node's free room the claims that are likely to come would fill: the mean over many drawn
// sequences of claims, each put greedily onto the node. Pure arithmetic on one node's room; nothing is known
// of other nodes.
#pragma once

#include "native/placement/cluster.hpp"

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace aliquot::placement {

class Rollout {
 public:
  // `drawn`: `sequences` times `length` numbers of demands.
  Rollout(const Vocabulary& vocabulary, const std::vector<std::uint32_t>& drawn, std::uint32_t length);

  // Thousandths of devices filled, summed over the sequences. The room's gaps are sorted.
  std::int64_t filled(const Room& room);
  [[nodiscard]] std::uint32_t sequences() const noexcept { return sequences_; }
  [[nodiscard]] std::uint64_t runs() const noexcept { return runs_; }

 private:
  // One claim of a sequence, as one model sees it.
  struct Step {
    std::int32_t cpu;
    std::int32_t memory;
    std::int32_t count;
    std::int32_t milli;
    std::int32_t vram;
    std::int32_t value;
  };
  // A model's view of all sequences. A mask says which steps may fit a largest gap of some class.
  struct Table {
    std::vector<Step> steps;
    std::vector<std::uint16_t> class_of_milli; // of a largest gap, 0 to kWholeMilli and all above as the last
    std::vector<std::uint64_t> masks;          // [class][sequence]
  };
  // What the sequences fill, and the most CPU and memory that one of them takes to do so.
  struct Answer {
    std::int64_t filled;
    std::int64_t cpu;
    std::int64_t memory;
  };

  Answer answer(const Room& room);
  Answer run(const Room& room);
  Answer run_one_model(const Room& room, const Table& table) const;
  Answer run_any(const Room& room) const;
  const Table& table_of(std::int32_t model);

  const Vocabulary& vocabulary_;
  std::vector<std::uint32_t> drawn_;
  std::uint32_t length_;
  std::uint32_t sequences_;
  std::unordered_map<std::int32_t, Table> tables_;
  RoomTable rooms_;
  std::vector<Answer> answers_; // by number in rooms_
  std::uint64_t runs_ = 0;
};

} // namespace aliquot::placement
