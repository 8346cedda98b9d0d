// What is free on each node of a cluster, and how it changes. No preferences: those are the scorer's.
#pragma once

#include "native/placement/room_table.hpp"
#include "native/placement/types.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace aliquot::placement {

// Demands and rooms by number. Copies of a cluster share one, so that what was scored for one holds for all.
struct Vocabulary {
  std::vector<Demand> demands;
  std::unordered_multimap<std::uint64_t, std::uint32_t> demand_by_hash;
  RoomTable rooms;
  std::uint32_t generation = 0; // rises when rooms are forgotten, because there were too many

  std::unordered_map<std::int32_t, std::int32_t> vram_of_model; // the largest capacity met

  std::uint32_t number_of(const Demand& demand);
  void note_capacity(const Gap& device);
  // How much of a model's devices the demand takes, in thousandths: its compute or its VRAM, whichever is
  // more.
  [[nodiscard]] std::int64_t value_of(const Demand& demand, const Share& share) const;
};

enum class Change { kDone, kDoesNotFit, kInvalid };

// Which kinds of claim stand on a node, as GPU clustering tells them apart: shares, or whole devices by their
// count.
inline constexpr int kKinds = kMaximumDevices + 1;
int kind_of(const Demand& demand) noexcept;

class Cluster {
 public:
  explicit Cluster(std::shared_ptr<Vocabulary> vocabulary) : vocabulary_(std::move(vocabulary)) {}

  std::uint32_t add_node(std::int32_t cpu, std::int32_t memory, std::span<const Gap> devices);
  // Takes room for a demand on the devices whose bits are set, or gives it back. Nothing changes unless
  // kDone.
  Change take(std::uint32_t demand, std::uint32_t node, std::uint64_t devices);
  Change give(std::uint32_t demand, std::uint32_t node, std::uint64_t devices);

  [[nodiscard]] std::uint32_t node_count() const noexcept { return static_cast<std::uint32_t>(cpu_.size()); }
  [[nodiscard]] std::uint32_t first_device(std::uint32_t node) const noexcept { return first_[node]; }
  [[nodiscard]] std::uint64_t version(std::uint32_t node) const noexcept { return versions_[node]; }
  [[nodiscard]] Room free(std::uint32_t node) const noexcept; // gaps in the order of the devices
  [[nodiscard]] bool has_kind(std::uint32_t node, int kind) const noexcept { return kinds_[node][kind] != 0; }
  [[nodiscard]] int kinds_on(std::uint32_t node) const noexcept;
  [[nodiscard]] Vocabulary& vocabulary() const noexcept { return *vocabulary_; }
  [[nodiscard]] const std::shared_ptr<Vocabulary>& shared_vocabulary() const noexcept { return vocabulary_; }

  // The number of the node's room with its gaps sorted.
  std::uint32_t room_number(std::uint32_t node);
  // Forgets numbered rooms where there are too many. Between decisions only.
  void tidy();

  // Changes so far, and which node each concerned: whoever keeps something per node follows this.
  [[nodiscard]] std::uint64_t changes() const noexcept { return log_first_ + log_.size(); }
  [[nodiscard]] std::uint64_t oldest_change() const noexcept { return log_first_; }
  [[nodiscard]] std::uint32_t changed_node(std::uint64_t change) const noexcept {
    return log_[change - log_first_];
  }

 private:
  Change apply(std::uint32_t demand, std::uint32_t node, std::uint64_t devices, int sign);
  void log_change(std::uint32_t node);

  std::shared_ptr<Vocabulary> vocabulary_;
  std::vector<std::int32_t> cpu_;
  std::vector<std::int32_t> memory_;
  std::vector<std::uint32_t> first_{0};
  std::vector<Gap> devices_;
  std::vector<std::uint64_t> versions_;
  std::vector<std::uint32_t> rooms_; // RoomTable::kNone: to be looked up again
  std::uint32_t rooms_generation_ = 0;
  std::vector<std::array<std::uint16_t, kKinds>> kinds_;
  std::vector<std::uint32_t> log_;
  std::uint64_t log_first_ = 0;
};

} // namespace aliquot::placement
