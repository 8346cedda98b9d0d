// Changes to executable graphs: a node's parameters, whether it runs, or all nodes by another graph.
#include "native/simgpu/driver/graph/exec_entry.hpp"
#include "native/simgpu/driver/graph/nodes_api.hpp"
#include "native/simgpu/driver/graph/update.hpp"

using namespace aliquot::simgpu::driver;

namespace {

bool is_one_row(const CUDA_MEMCPY3D& copy) noexcept {
  return copy.Height == 1 && copy.Depth == 1;
}

// A node alone is held to more than a whole graph: its copies have one dimension.
bool may_replace(const Work& old, const Work& fresh, std::uint64_t flags) {
  if (check_update(old, fresh, flags) != CU_GRAPH_EXEC_UPDATE_SUCCESS)
    return false;
  const auto* copy = std::get_if<CopyWork>(&old);
  return copy == nullptr || (is_one_row(copy->copy) && is_one_row(std::get<CopyWork>(fresh).copy));
}

template <class Read>
CUresult set_params(CUgraphExec handle, CUgraphNode node_handle, Read read) noexcept {
  return with_driver([&](Driver& driver) {
    if (!driver.graph_execs.live(handle) || !driver.graph_nodes.live(node_handle))
      return CUDA_ERROR_INVALID_VALUE;
    Work work;
    if (const CUresult result = read(work); result != CUDA_SUCCESS)
      return result;
    return with_exec_node(handle, node_handle, [&](GraphExec& exec, const NodePtr& image, const NodePtr&) {
      keep_attributes(image->work, work);
      if (is_memory_node(work) || !may_replace(image->work, work, exec.flags))
        return CUDA_ERROR_INVALID_VALUE;
      exec.set_work(image, std::move(work));
      return CUDA_SUCCESS;
    });
  });
}

CUresult set_kernel(CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v2* params) {
  return set_params(exec, node, [=](Work& work) {
    return params != nullptr ? read_kernel(*params, work) : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult set_child(CUgraphExec handle, CUgraphNode node, CUgraph child_handle) {
  return with_exec_node(handle, node, [&](GraphExec& exec, const NodePtr& image, const NodePtr&) {
    const GraphPtr graph = Driver::instance().graphs.find(child_handle);
    const auto* child = std::get_if<ChildWork>(&image->work);
    if (!graph || child == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const UpdateResult result = update_child(exec, *child->graph, *graph);
    return result.result == CU_GRAPH_EXEC_UPDATE_SUCCESS ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

CUgraphNode handle_of(const NodePtr& node) noexcept {
  return node ? static_cast<CUgraphNode>(node->handle) : nullptr;
}

CUresult update_all(CUgraphExec handle, CUgraph graph_handle, CUgraphExecUpdateResultInfo_v1& out) {
  out = {CU_GRAPH_EXEC_UPDATE_ERROR, nullptr, nullptr};
  return with_exec(handle, [&](GraphExec& exec) {
    const GraphPtr graph = Driver::instance().graphs.find(graph_handle);
    if (!graph || graph->capturing)
      return CUDA_ERROR_INVALID_VALUE;
    const UpdateResult result = update(exec, *graph);
    out = {result.result, handle_of(result.node), handle_of(result.from_node)};
    return result.result == CU_GRAPH_EXEC_UPDATE_SUCCESS ? CUDA_SUCCESS
                                                         : CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  });
}

bool can_be_disabled(const Work& work) noexcept {
  return std::holds_alternative<KernelWork>(work) || std::holds_alternative<CopyWork>(work) ||
         std::holds_alternative<SetWork>(work);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                       const CUDA_KERNEL_NODE_PARAMS_v1* params) {
  CUDA_KERNEL_NODE_PARAMS_v2 wide{};
  if (params != nullptr)
    std::memcpy(&wide, params, sizeof *params);
  return set_kernel(exec, node, params != nullptr ? &wide : nullptr);
}
ALIQUOT_EXPORT CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node,
                                                          const CUDA_KERNEL_NODE_PARAMS* params) {
  return set_kernel(exec, node, params);
}

ALIQUOT_EXPORT CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                       const CUDA_MEMCPY3D* params, CUcontext handle) {
  return set_params(exec, node, [=](Work& work) {
    ContextPtr context;
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const CUresult found = find_context(handle, context);
    return found == CUDA_SUCCESS ? read_copy(*params, context, work) : found;
  });
}

ALIQUOT_EXPORT CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                       const CUDA_MEMSET_NODE_PARAMS* params,
                                                       CUcontext handle) {
  return set_params(exec, node, [=](Work& work) {
    ContextPtr context;
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult found = find_context(handle, context); found != CUDA_SUCCESS)
      return found;
    CUDA_MEMSET_NODE_PARAMS_v2 wide{};
    std::memcpy(&wide, params, sizeof *params);
    return read_set(wide, context, work);
  });
}

ALIQUOT_EXPORT CUresult cuGraphExecHostNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                     const CUDA_HOST_NODE_PARAMS* params) {
  return set_params(exec, node, [=](Work& work) {
    return params != nullptr ? read_host(params->fn, params->userData, work) : CUDA_ERROR_INVALID_VALUE;
  });
}

ALIQUOT_EXPORT CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                           CUgraph child) {
  return set_child(exec, node, child);
}

ALIQUOT_EXPORT CUresult cuGraphExecEventRecordNodeSetEvent(CUgraphExec exec, CUgraphNode node,
                                                           CUevent event) {
  return set_params(exec, node, [=](Work& work) { return read_record(event, work); });
}
ALIQUOT_EXPORT CUresult cuGraphExecEventWaitNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event) {
  return set_params(exec, node, [=](Work& work) { return read_wait(event, work); });
}

ALIQUOT_EXPORT CUresult cuGraphExecBatchMemOpNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                           const CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  return set_params(exec, node, [=](Work& work) {
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    return read_memory_operations({params->ctx, params->count, params->paramArray, params->flags}, work);
  });
}

ALIQUOT_EXPORT CUresult cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                                 CUgraphNodeParams* params) {
  if (params != nullptr && params->type == CU_GRAPH_NODE_TYPE_GRAPH)
    return set_child(exec, node, params->graph.graph);
  return set_params(exec, node, [=](Work& work) {
    return params != nullptr && params->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC ? read_params(*params, work)
                                                                             : CUDA_ERROR_INVALID_VALUE;
  });
}

ALIQUOT_EXPORT CUresult cuGraphNodeSetEnabled(CUgraphExec handle, CUgraphNode node, unsigned int enabled) {
  return with_exec_node(handle, node, [&](GraphExec& exec, const NodePtr& image, const NodePtr&) {
    if (!can_be_disabled(image->work))
      return CUDA_ERROR_INVALID_VALUE;
    exec.set_enabled(image, enabled != 0);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphNodeGetEnabled(CUgraphExec handle, CUgraphNode node, unsigned int* enabled) {
  return with_exec_node(handle, node, [&](GraphExec& exec, const NodePtr& image, const NodePtr&) {
    if (enabled == nullptr || !can_be_disabled(image->work))
      return CUDA_ERROR_INVALID_VALUE;
    *enabled = exec.enabled(image) ? 1 : 0;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode* bad_node,
                                          CUgraphExecUpdateResult* result) {
  CUgraphExecUpdateResultInfo_v1 info{};
  const CUresult updated = update_all(exec, graph, info);
  if (bad_node != nullptr)
    *bad_node = info.errorNode;
  if (result != nullptr)
    *result = info.result;
  return updated;
}

ALIQUOT_EXPORT CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph,
                                             CUgraphExecUpdateResultInfo* out) {
  CUgraphExecUpdateResultInfo_v1 info{};
  const CUresult updated = update_all(exec, graph, info);
  if (out == nullptr)
    return updated == CUDA_SUCCESS || updated == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE
               ? CUDA_ERROR_INVALID_VALUE
               : updated;
  *out = info;
  return updated;
}

} // extern "C"
