// How a graph is launched: its nodes in order, child graphs among them, divided into chains that may overlap.
//
// A chain is run by one stream: the launch stream for the first, streams of the executable graph's own for
// the others. Within a chain nodes that need no stream's attention between them form a segment, which is one
// command however many nodes it has: that is what makes a launch cheap.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "native/simgpu/driver/graph/graph.hpp"

namespace aliquot::simgpu::driver {

// One node, ready to run. Not changed once a launch may see it: an update puts another in its place.
struct Step {
  Work work;
  bool enabled = true;
};

struct Segment {
  std::size_t chain = 0;
  std::vector<std::size_t> steps;     // in order
  std::vector<std::size_t> waits_for; // segments of other chains, earlier in the plan
  bool alone = false;                 // one step, which is a command of its own
};

struct Chain {
  ContextPtr context; // null: any
  int priority = 0;   // where the plan uses the nodes' own
  std::size_t last_segment = 0;
};

struct Plan {
  std::vector<std::shared_ptr<const Step>> steps;
  std::vector<Segment> segments;
  std::vector<Chain> chains; // the first runs in the launch stream, if that is in its context
  bool node_priorities = false;
  std::vector<std::shared_ptr<GraphAllocation>> allocations; // what a launch allocates
  std::vector<std::shared_ptr<GraphAllocation>> frees;       // what it frees, its own or others'
  std::shared_ptr<const ObjectReferences> objects;           // user objects of the graph and its children

  std::unordered_map<const GraphNode*, std::size_t> step_of; // by image node
};

// `image` has no cycle, nor has any child graph in it.
std::shared_ptr<Plan> make_plan(const Graph& image, bool node_priorities);

// What one launch needs beside its plan.
struct LaunchState {
  // Which life of an allocation this launch is to end (Allocation::buffer_id).
  std::unordered_map<const GraphAllocation*, std::uint64_t> lives;
};

// The command that runs a segment of several steps.
std::unique_ptr<Command> make_segment_command(std::shared_ptr<const Plan> plan,
                                              std::shared_ptr<const LaunchState> state, std::size_t segment);
// The command of a step alone. Records and waits of events look at the event now.
std::unique_ptr<Command> make_lone_command(const Step& step, Context& context);

} // namespace aliquot::simgpu::driver
