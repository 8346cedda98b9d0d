// Nodes of any kind through one structure: cuGraphAddNode and its like.
#include "native/simgpu/driver/graph/graph_memory.hpp"
#include "native/simgpu/driver/graph/nodes_api.hpp"

using namespace aliquot::simgpu::driver;

namespace {

CUresult add(CUgraphNode* out, CUgraph graph, const Dependencies& dependencies, CUgraphNodeParams* params) {
  if (params != nullptr && params->type == CU_GRAPH_NODE_TYPE_GRAPH)
    return add_child(out, graph, dependencies, params->graph.graph, params->graph.ownership);
  if (params != nullptr && params->type == CU_GRAPH_NODE_TYPE_MEM_FREE)
    return add_free(out, graph, dependencies, params->free.dptr);
  CUdeviceptr address = 0;
  const CUresult added = add_node(out, graph, dependencies, [&](Work& work) {
    const CUresult read = params != nullptr ? read_params(*params, work) : CUDA_ERROR_INVALID_VALUE;
    if (const auto* allocate = std::get_if<AllocateWork>(&work); read == CUDA_SUCCESS && allocate != nullptr)
      address = allocate->allocation->address;
    return read;
  });
  if (added == CUDA_SUCCESS && params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
    params->alloc.dptr = address;
  return added;
}

CUresult change(CUgraphNode node, CUgraphNodeParams* params) {
  return change_node(node, [=](Work& work) {
    return params != nullptr && params->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC ? read_params(*params, work)
                                                                             : CUDA_ERROR_INVALID_VALUE;
  });
}

struct FillParams {
  GraphNode& node;
  CUgraphNodeParams& out;

  void operator()(const KernelWork& work) const {
    const CUDA_KERNEL_NODE_PARAMS_v2 params = kernel_params(node, work);
    static_assert(sizeof params == sizeof out.kernel);
    std::memcpy(&out.kernel, &params, sizeof params);
  }
  void operator()(const CopyWork& work) const { out.memcpy = {0, 0, work.context->handle, work.copy}; }
  void operator()(const SetWork& work) const { out.memset = work.set; }
  void operator()(const HostWork& work) const {
    out.host.fn = work.function;
    out.host.userData = work.data;
  }
  void operator()(const ChildWork& work) const {
    out.graph = {static_cast<CUgraph>(work.graph->handle), CU_GRAPH_CHILD_GRAPH_OWNERSHIP_INVALID};
  }
  void operator()(const EmptyWork&) const {}
  void operator()(const WaitWork& work) const { out.eventWait.event = work.handle; }
  void operator()(const RecordWork& work) const { out.eventRecord.event = work.handle; }
  void operator()(const AllocateWork& work) const {
    out.alloc = {work.properties, work.access.data(), work.access.size(), work.allocation->bytes,
                 work.allocation->address};
  }
  void operator()(const FreeWork& work) const { out.free.dptr = work.allocation->address; }
  void operator()(MemoryOperationsWork& work) const {
    out.memOp = {work.context->handle, static_cast<unsigned>(work.operations.size()), work.operations.data(),
                 work.flags};
  }
};

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuGraphAddNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                       size_t count, CUgraphNodeParams* params) {
  return add(out, graph, {nodes, nullptr, count}, params);
}
ALIQUOT_EXPORT CUresult cuGraphAddNode_v2(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                          const CUgraphEdgeData* edges, size_t count,
                                          CUgraphNodeParams* params) {
  return add(out, graph, {nodes, edges, count}, params);
}
ALIQUOT_EXPORT CUresult cuGraphAddNode_v3(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                          const CUgraphEdgeData* edges, size_t count,
                                          CUgraphNodeParams* params) {
  return add(out, graph, {nodes, edges, count}, params);
}

ALIQUOT_EXPORT CUresult cuGraphNodeSetParams(CUgraphNode node, CUgraphNodeParams* params) {
  return change(node, params);
}
ALIQUOT_EXPORT CUresult cuGraphNodeSetParams_v2(CUgraphNode node, CUgraphNodeParams* params) {
  return change(node, params);
}

ALIQUOT_EXPORT CUresult cuGraphNodeGetParams(CUgraphNode handle, CUgraphNodeParams* params) {
  return with_node(handle, [&](const NodePtr& node) {
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *params = {};
    params->type = node->type();
    std::visit(FillParams{*node, *params}, node->work);
    return CUDA_SUCCESS;
  });
}

} // extern "C"
