// How much of a node's free room the claims that are likely to come would fill: the mean over many drawn
// sequences of claims, each put greedily onto the node. Pure arithmetic on one node's room; nothing is known
// of other nodes.
#pragma once

#include "native/placement/cluster.hpp"
#include "native/placement/lanes.hpp"

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace aliquot::placement {

class Rollout {
 public:
  // `drawn`: `sequences` times `length` numbers of demands; a length of at most 64.
  Rollout(const Vocabulary& vocabulary, const std::vector<std::uint32_t>& drawn, std::uint32_t length);

  // Thousandths of devices filled, summed over the sequences. The room's gaps are sorted.
  std::int64_t filled(const Room& room);
  [[nodiscard]] std::uint32_t sequences() const noexcept { return sequences_; }
  // Sequences run so far: the work that nothing kept could save.
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
    LaneSteps lanes;                           // of length 0 where some step is not what lanes can do
  };
  // What one sequence fills, and the CPU and memory that it takes to do so.
  struct Run {
    std::int64_t filled = 0;
    std::int64_t cpu = 0;
    std::int64_t memory = 0;
  };
  // What all sequences fill on gaps with no lack of CPU or memory. A run that needs no more than there is
  // runs alike where there is less than no lack: only the others need to be run again.
  struct Unhindered {
    std::int64_t filled = 0;
    std::int64_t most_cpu = 0;
    std::int64_t most_memory = 0;
    std::size_t first = 0; // of its sequences in needs_
  };
  struct Need { // kUnlimited where it is more than that
    std::int32_t filled;
    std::int32_t cpu;
    std::int32_t memory;
  };
  struct Hindered {
    std::int64_t filled = 0;
    std::int64_t most_memory = 0;
  };

  const Unhindered& unhindered(const Room& gaps_only);
  const Hindered& hindered(const Room& room, const Unhindered& free);
  void limit_memory();
  void run_all(const Room& room, const Table* table);
  [[nodiscard]] Run run(const Room& room, std::uint32_t sequence, const Table* table) const;
  template <int kGaps>
  [[nodiscard]] Run run_one_model(const Room& room, std::uint32_t sequence, const Table& table) const;
  [[nodiscard]] Run run_any(const Room& room, std::uint32_t sequence) const;
  const Table* table_for(const Room& room);
  Table make_table(std::int32_t model) const;
  LaneSteps lanes_of(const std::vector<Step>& steps) const;

  const Vocabulary& vocabulary_;
  std::vector<std::uint32_t> drawn_;
  std::uint32_t length_;
  std::uint32_t sequences_;
  std::unordered_map<std::int32_t, Table> tables_;
  RoomTable free_rooms_; // gaps only
  std::vector<Unhindered> free_answers_;
  std::vector<Need> needs_; // per sequence of each
  RoomTable rooms_;         // with CPU, or with CPU and memory
  std::vector<Hindered> answers_;
  std::vector<std::int32_t> lane_filled_; // what run_all found, by sequence
  std::vector<std::int32_t> lane_cpu_;
  std::vector<std::int32_t> lane_memory_;
  std::uint64_t runs_ = 0;
};

} // namespace aliquot::placement
