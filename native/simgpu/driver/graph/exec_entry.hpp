// What the entry points of executable graphs begin with.
#pragma once

#include "native/simgpu/driver/graph/exec.hpp"
#include "native/simgpu/driver/graph/graph_entry.hpp"

namespace aliquot::simgpu::driver {

// body(GraphExec&), under graphs_mutex.
template <class Body>
CUresult with_exec(CUgraphExec handle, Body body) noexcept {
  return with_driver([&](Driver& driver) {
    const auto exec = driver.graph_execs.find(handle);
    if (!exec)
      return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard guard(graphs_mutex());
    return body(*exec);
  });
}

// body(GraphExec&, const NodePtr& image, const NodePtr& node): a node of the graph that the executable graph
// was made from, and its image there.
template <class Body>
CUresult with_exec_node(CUgraphExec handle, CUgraphNode node_handle, Body body) noexcept {
  return with_exec(handle, [&](GraphExec& exec) {
    const NodePtr node = Driver::instance().graph_nodes.find(node_handle);
    const NodePtr image = node && node->graph != nullptr ? exec.image_of(*node) : nullptr;
    return image ? body(exec, image, node) : CUDA_ERROR_INVALID_VALUE;
  });
}

} // namespace aliquot::simgpu::driver
