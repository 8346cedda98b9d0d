// Chooses a node and its devices for a demand by a strategy's score, and keeps scores so that it rarely
// computes one.
//
// Kept twice: per demand and room (most nodes look like another), and per demand and node, with the best of
// each block of nodes. A change of the cluster costs a look-up per demand that is asked for again; nothing is
// ever rebuilt.
#pragma once

#include "native/placement/cluster.hpp"
#include "native/placement/terms.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace aliquot::placement {

struct WeightedTerm {
  Term term;
  double weight;
};

// Which of a node's devices are weighed for a demand. Numbers are part of the C interface.
enum class Devices : std::int32_t { kScored = 0, kSmallest = 1, kRandom = 2 };

// The best way to put a demand onto one node.
struct Verdict {
  double score;
  std::uint64_t chosen; // bits of the room's sorted gaps; of the node's devices once it leaves Scorer
};

// Scores by demand and room. Shared by scorers of copies of one cluster.
class ScoreBook {
 public:
  ScoreBook(std::shared_ptr<Vocabulary> vocabulary, std::vector<WeightedTerm> terms, Devices devices,
            std::uint64_t seed);

  void set_outlook(Outlook outlook);
  // The best option on the room; a score of -infinity where nothing fits.
  Verdict verdict(std::uint32_t demand, std::uint32_t room);
  // Without what is kept: for terms that are not pure, and for rooms with devices masked out.
  Verdict computed(const Demand& demand, const Room& room, std::uint64_t allowed, const Place& place);
  // The values of the terms, each with its weight, of one option.
  std::vector<double> explained(const Demand& demand, const Room& room, std::uint64_t chosen,
                                const Place& place);

  void next_decision() noexcept { ++decisions_; }
  [[nodiscard]] bool pure() const noexcept { return pure_; }
  [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_; } // rises when kept scores became wrong
  [[nodiscard]] const std::vector<WeightedTerm>& terms() const noexcept { return terms_; }
  [[nodiscard]] Outlook& outlook() noexcept { return outlook_; }

 private:
  struct Kept {
    std::uint64_t key;
    Verdict verdict;
  };

  Verdict scored(const Demand& demand, const Room& room, std::uint64_t chosen, const Place& place);
  Verdict best_of(const Demand& demand, const Room& room, std::uint64_t allowed, const Place& place);
  Verdict random_of(const Demand& demand, const Room& room, std::uint64_t allowed, const Place& place);
  void forget();
  void grow();

  std::shared_ptr<Vocabulary> vocabulary_;
  std::vector<WeightedTerm> terms_;
  Devices devices_;
  std::uint64_t seed_;
  bool pure_;
  Outlook outlook_;
  std::uint64_t decisions_ = 0;
  std::uint64_t epoch_ = 0;
  std::uint32_t generation_ = 0;
  std::vector<Kept> kept_; // open addressing; a power of two
  std::size_t kept_count_ = 0;
};

struct Masks {
  std::span<const std::uint8_t> nodes;   // empty: all
  std::span<const std::uint8_t> devices; // of all nodes; empty: all
};

class Scorer {
 public:
  static constexpr std::uint32_t kNowhere = 0xffffffff;

  struct Choice {
    std::uint32_t node = kNowhere;
    Verdict verdict{};
  };

  Scorer(Cluster& cluster, std::shared_ptr<ScoreBook> book) : cluster_(cluster), book_(std::move(book)) {}

  Choice choose(std::uint32_t demand, const Masks& masks);
  // The best option of every node that has one, the best first, ties by node; at most `most`.
  std::vector<Choice> choices(std::uint32_t demand, const Masks& masks, std::size_t most);
  std::vector<double> explained(std::uint32_t demand, const Choice& choice);
  // Of all nodes, in thousandths of devices; 0 with no outlook.
  double fragmentation();
  [[nodiscard]] const std::shared_ptr<ScoreBook>& book() const noexcept { return book_; }

 private:
  // The scores of one demand on every node.
  struct Column {
    std::uint64_t followed = 0; // changes of the cluster that are in it
    std::uint64_t used = 0;     // when, for throwing out
    std::vector<double> scores;
    std::vector<double> block_best;
  };

  Column& column_of(std::uint32_t demand);
  void follow(std::uint32_t demand, Column& column);
  void set_score(Column& column, std::uint32_t node, double score);
  Verdict verdict_on(std::uint32_t demand, std::uint32_t node, const Masks& masks);
  Choice placed(std::uint32_t demand, std::uint32_t node, const Masks& masks);
  Choice best_unmasked(std::uint32_t demand);
  Choice best_masked(std::uint32_t demand, const Masks& masks);
  double score_on(std::uint32_t demand, std::uint32_t node, const Masks& masks, const Column* column);
  void limit_columns();

  Cluster& cluster_;
  std::shared_ptr<ScoreBook> book_;
  std::vector<std::unique_ptr<Column>> columns_; // by demand
  std::uint64_t epoch_ = 0;
  std::uint64_t clock_ = 0;
  std::size_t column_count_ = 0;
};

} // namespace aliquot::placement
