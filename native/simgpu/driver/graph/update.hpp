// Which changes an executable graph takes: of one node, and of all by another graph of the same shape.
#pragma once

#include "native/simgpu/driver/graph/exec.hpp"

namespace aliquot::simgpu::driver {

// Whether a node of an executable graph may do `fresh` in place of `old`.
CUgraphExecUpdateResult check_update(const Work& old, const Work& fresh, std::uint64_t exec_flags);

struct UpdateResult {
  CUgraphExecUpdateResult result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
  NodePtr node, from_node; // of the updating graph
};

// Changes all nodes of `exec`, or none. Under graphs_mutex.
UpdateResult update(GraphExec& exec, const Graph& graph);
// The same for the graph inside one child graph node of `exec`.
UpdateResult update_child(GraphExec& exec, const Graph& image, const Graph& graph);

} // namespace aliquot::simgpu::driver
