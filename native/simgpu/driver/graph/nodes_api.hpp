// What the entry points that add and change nodes share.
#pragma once

#include "native/simgpu/driver/graph/graph_entry.hpp"
#include "native/simgpu/driver/graph/read_work.hpp"

namespace aliquot::simgpu::driver {

struct Dependencies {
  const CUgraphNode* nodes = nullptr;
  const CUgraphEdgeData* edges = nullptr;
  std::size_t count = 0;
};

// Adds a node that does `work`; under graphs_mutex.
CUresult add_node(CUgraphNode* out, const GraphPtr& graph, const Dependencies& dependencies, Work work);

// The same for an entry point: read(Work&) is called without the mutex.
template <class Read>
CUresult add_node(CUgraphNode* out, CUgraph handle, const Dependencies& dependencies, Read read) noexcept {
  return with_driver([&](Driver& driver) {
    if (out == nullptr || !driver.graphs.live(handle))
      return CUDA_ERROR_INVALID_VALUE;
    Work work;
    if (const CUresult result = read(work); result != CUDA_SUCCESS)
      return result;
    return with_graph(
        handle, [&](const GraphPtr& graph) { return add_node(out, graph, dependencies, std::move(work)); });
  });
}

// A child graph, by clone or by move, and the free of a graph allocation: they change other graphs, too.
CUresult add_child(CUgraphNode* out, CUgraph handle, const Dependencies& dependencies, CUgraph child,
                   CUgraphChildGraphNodeOwnership ownership);
CUresult add_free(CUgraphNode* out, CUgraph handle, const Dependencies& dependencies, CUdeviceptr address);

// Gives a node other work of the same kind. A kernel keeps its attributes.
CUresult change_node(const NodePtr& node, Work work);

template <class Read>
CUresult change_node(CUgraphNode handle, Read read) noexcept {
  return with_driver([&](Driver& driver) {
    if (!driver.graph_nodes.live(handle))
      return CUDA_ERROR_INVALID_VALUE;
    Work work;
    if (const CUresult result = read(work); result != CUDA_SUCCESS)
      return result;
    return with_node(handle, [&](const NodePtr& node) { return change_node(node, std::move(work)); });
  });
}

// The attributes of a kernel node stay with it whatever it runs.
void keep_attributes(const Work& old, Work& fresh);
// Array of pointers to the values of a kernel node's parameters; lives as long as they do.
void** parameter_array(GraphNode& node);
CUDA_KERNEL_NODE_PARAMS_v2 kernel_params(GraphNode& node, const KernelWork& work);

} // namespace aliquot::simgpu::driver
