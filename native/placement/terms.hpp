// The terms that a strategy's score is made of: each a formula over a node's room before and after one
// placement.
//
// The same numbers as src/aliquot/placement/strategies/terms.py, in the same order of arithmetic: the tests
// hold one against the other bit by bit.
#pragma once

#include "native/placement/cluster.hpp"
#include "native/placement/fragmentation.hpp"
#include "native/placement/rollout.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace aliquot::placement {

// Numbers are part of the C interface.
enum Term : std::int32_t {
  kTermRandom = 0,
  kTermBestFit = 1,
  kTermDotProduct = 2,
  kTermGpuPacking = 3,
  kTermGpuClustering = 4,
  kTermFgd = 5,
  kTermFragmentation = 6,
  kTermRollout = 7,
  kTermHosts = 8,
  kTermFreeAfter = 9,
  kTermNodeFill = 10,
  kTermDeviceFill = 11,
  kTermCpuFill = 12,
  kTermCount = 13,
};

// What is known of the claims that are likely to come.
struct Outlook {
  struct Host {
    std::uint32_t demand;
    double worth; // of one more node that can host it
  };
  std::unique_ptr<Rollout> rollout;
  std::unique_ptr<Fragmentation> fragmentation;
  std::vector<Host> hosts;
};

// Which node a room is, for the terms that look at more than the room.
struct Place {
  std::uint32_t node;
  const Cluster* cluster; // null where only pure terms are asked for
};

// One way to put a demand onto a node.
struct Candidate {
  const Demand& demand;
  const Room& before;   // gaps sorted
  const Room& after;    // gaps sorted
  std::uint64_t chosen; // bits of `before`'s gaps
  Place place;
  std::uint64_t seed; // of this decision
};

// Whether the term depends on nothing but the demand and the room, so that its value may be kept.
bool is_pure(Term term) noexcept;
double value_of(Term term, const Candidate& candidate, const Vocabulary& vocabulary, Outlook& outlook);

bool fits(const Demand& demand, const Room& room) noexcept;
// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
std::uint64_t scrambled(std::uint64_t word) noexcept;

} // namespace aliquot::placement
