// What the entry points of graphs begin with: handles are looked up under graphs_mutex, which is held to the
// end of the call.
#pragma once

#include <cstring>

#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/graph/graph.hpp"

namespace aliquot::simgpu::driver {

// body(const GraphPtr&)
template <class Body>
CUresult with_graph(CUgraph handle, Body body) noexcept {
  return with_driver([&](Driver& driver) {
    const std::lock_guard guard(graphs_mutex());
    const GraphPtr graph = driver.graphs.find(handle);
    return graph ? body(graph) : CUDA_ERROR_INVALID_VALUE;
  });
}

// body(const NodePtr&)
template <class Body>
CUresult with_node(CUgraphNode handle, Body body) noexcept {
  return with_driver([&](Driver& driver) {
    const std::lock_guard guard(graphs_mutex());
    const NodePtr node = driver.graph_nodes.find(handle);
    return node && node->graph != nullptr ? body(node) : CUDA_ERROR_INVALID_VALUE;
  });
}

// body(Kind&), for nodes that do work of this kind.
template <class Kind, class Body>
CUresult with_work(CUgraphNode handle, Body body) noexcept {
  return with_node(handle, [&](const NodePtr& node) {
    auto* work = std::get_if<Kind>(&node->work);
    return work != nullptr ? body(*node, *work) : CUDA_ERROR_INVALID_VALUE;
  });
}

inline bool is_default(const CUgraphEdgeData& data) noexcept {
  const CUgraphEdgeData zero{};
  return std::memcmp(&data, &zero, sizeof data) == 0;
}

// Whether an edge of this kind may leave the node.
bool edge_is_valid(const GraphNode& from, const CUgraphEdgeData& data) noexcept;

// The nodes behind `count` handles, all of `graph`; INVALID_VALUE where one is not, or is there twice.
CUresult read_dependencies(const Graph& graph, const CUgraphNode* handles, const CUgraphEdgeData* edges,
                           std::size_t count, std::vector<Link>& links);

} // namespace aliquot::simgpu::driver
