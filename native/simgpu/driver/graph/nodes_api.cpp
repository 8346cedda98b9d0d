// Nodes that run, copy, set, call and mark: added, asked, changed. Memory nodes are in memory_api.cpp.
#include "native/simgpu/driver/graph/nodes_api.hpp"

#include "native/simgpu/driver/graph/graph_memory.hpp"

namespace aliquot::simgpu::driver {

CUresult add_node(CUgraphNode* out, const GraphPtr& graph, const Dependencies& dependencies, Work work) {
  std::vector<Link> links;
  const CUresult read =
      read_dependencies(*graph, dependencies.nodes, dependencies.edges, dependencies.count, links);
  if (read != CUDA_SUCCESS)
    return read;
  const NodePtr node = graph->add(std::move(work), links);
  if (auto* allocate = std::get_if<AllocateWork>(&node->work))
    allocate->allocation->allocated_in = graph->id;
  *out = static_cast<CUgraphNode>(node->handle);
  return CUDA_SUCCESS;
}

CUresult add_child(CUgraphNode* out, CUgraph handle, const Dependencies& dependencies, CUgraph child_handle,
                   CUgraphChildGraphNodeOwnership ownership) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    const GraphPtr child = Driver::instance().graphs.find(child_handle);
    const bool move = ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE;
    if (out == nullptr || !child || (!move && ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE))
      return CUDA_ERROR_INVALID_VALUE;
    if (!move && child->has_memory_nodes())
      return CUDA_ERROR_INVALID_VALUE;
    if (move && (child->parent != nullptr || child->capturing || !child->instance.expired()))
      return CUDA_ERROR_INVALID_VALUE;
    for (const Graph* each = graph.get(); move; each = each->parent->graph) {
      if (each == child.get()) // it would hold itself
        return CUDA_ERROR_INVALID_VALUE;
      if (each->parent == nullptr)
        break;
    }
    return add_node(out, graph, dependencies, ChildWork{move ? child : child->clone(true)});
  });
}

void keep_attributes(const Work& old, Work& fresh) {
  const auto* before = std::get_if<KernelWork>(&old);
  auto* after = std::get_if<KernelWork>(&fresh);
  if (before == nullptr || after == nullptr)
    return;
  after->attributes = before->attributes;
  after->shape.cooperative = before->shape.cooperative;
}

CUresult change_node(const NodePtr& node, Work work) {
  if (work.index() != node->work.index())
    return CUDA_ERROR_INVALID_VALUE;
  keep_attributes(node->work, work);
  if (const auto* kernel = std::get_if<KernelWork>(&work))
    if (const CUresult checked = check_launch(kernel->resolved, kernel->shape); checked != CUDA_SUCCESS)
      return checked;
  node->work = std::move(work);
  return CUDA_SUCCESS;
}

void** parameter_array(GraphNode& node) {
  auto& work = std::get<KernelWork>(node.work);
  const auto& parameters = work.resolved.function->info().parameters;
  node.parameter_pointers.resize(parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i)
    node.parameter_pointers[i] = work.parameters.data() + parameters[i].offset;
  return parameters.empty() ? nullptr : node.parameter_pointers.data();
}

CUDA_KERNEL_NODE_PARAMS_v2 kernel_params(GraphNode& node, const KernelWork& work) {
  const LaunchShape& shape = work.shape;
  const auto handle = static_cast<CUfunction>(work.resolved.function->handle);
  return {work.kernel == nullptr ? handle : nullptr,
          shape.grid[0],
          shape.grid[1],
          shape.grid[2],
          shape.block[0],
          shape.block[1],
          shape.block[2],
          shape.dynamic_shared_bytes,
          parameter_array(node),
          nullptr,
          work.kernel,
          work.resolved.function->context->handle};
}

} // namespace aliquot::simgpu::driver

using namespace aliquot::simgpu::driver;

namespace {

// The form without a kernel and a context, as it was before 12.0.
CUDA_KERNEL_NODE_PARAMS_v2 widen(const CUDA_KERNEL_NODE_PARAMS_v1& given) noexcept {
  CUDA_KERNEL_NODE_PARAMS_v2 wide{};
  std::memcpy(&wide, &given, sizeof given);
  return wide;
}

CUDA_MEMSET_NODE_PARAMS_v2 widen(const CUDA_MEMSET_NODE_PARAMS& given, CUcontext context) noexcept {
  return {given.dst, given.pitch, given.value, given.elementSize, given.width, given.height, context};
}

CUresult read_copy_in(const CUDA_MEMCPY3D* given, CUcontext handle, Work& work) {
  if (given == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  ContextPtr context;
  const CUresult found = find_context(handle, context);
  return found == CUDA_SUCCESS ? read_copy(*given, context, work) : found;
}

CUresult read_set_in(const CUDA_MEMSET_NODE_PARAMS* given, CUcontext handle, Work& work) {
  if (given == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  ContextPtr context;
  const CUresult found = find_context(handle, context);
  return found == CUDA_SUCCESS ? read_set(widen(*given, context->handle), context, work) : found;
}

// The context that a node's work already has.
CUcontext context_of_node(CUgraphNode handle) {
  const std::lock_guard guard(graphs_mutex());
  const NodePtr node = Driver::instance().graph_nodes.find(handle);
  const ContextPtr context = node ? context_of(node->work) : nullptr;
  return context ? context->handle : nullptr;
}

template <class Params>
CUresult get_kernel(CUgraphNode handle, Params* out) {
  return with_work<KernelWork>(handle, [&](GraphNode& node, const KernelWork& work) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const CUDA_KERNEL_NODE_PARAMS_v2 params = kernel_params(node, work);
    std::memcpy(out, &params, sizeof *out); // the older form is the beginning of the newer
    if constexpr (std::is_same_v<Params, CUDA_KERNEL_NODE_PARAMS_v1>)
      if (out->func == nullptr)
        out->func = reinterpret_cast<CUfunction>(params.kern);
    return CUDA_SUCCESS;
  });
}

template <class Kind>
CUresult get_event(CUgraphNode handle, CUevent* out) {
  return with_work<Kind>(handle, [&](GraphNode&, const Kind& work) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *out = work.handle;
    return CUDA_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuGraphAddKernelNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                             size_t count, const CUDA_KERNEL_NODE_PARAMS_v1* params) {
  return add_node(out, graph, {nodes, nullptr, count}, [=](Work& work) {
    return params != nullptr ? read_kernel(widen(*params), work) : CUDA_ERROR_INVALID_VALUE;
  });
}
ALIQUOT_EXPORT CUresult cuGraphAddKernelNode_v2(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                                size_t count, const CUDA_KERNEL_NODE_PARAMS* params) {
  return add_node(out, graph, {nodes, nullptr, count}, [=](Work& work) {
    return params != nullptr ? read_kernel(*params, work) : CUDA_ERROR_INVALID_VALUE;
  });
}
ALIQUOT_EXPORT CUresult cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1* params) {
  return get_kernel(node, params);
}
ALIQUOT_EXPORT CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS* params) {
  return get_kernel(node, params);
}
ALIQUOT_EXPORT CUresult cuGraphKernelNodeSetParams(CUgraphNode node,
                                                   const CUDA_KERNEL_NODE_PARAMS_v1* params) {
  return change_node(node, [=](Work& work) {
    return params != nullptr ? read_kernel(widen(*params), work) : CUDA_ERROR_INVALID_VALUE;
  });
}
ALIQUOT_EXPORT CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode node,
                                                      const CUDA_KERNEL_NODE_PARAMS* params) {
  return change_node(node, [=](Work& work) {
    return params != nullptr ? read_kernel(*params, work) : CUDA_ERROR_INVALID_VALUE;
  });
}

ALIQUOT_EXPORT CUresult cuGraphKernelNodeGetAttribute(CUgraphNode handle, CUkernelNodeAttrID id,
                                                      CUkernelNodeAttrValue* value) {
  return with_work<KernelWork>(handle, [&](GraphNode&, const KernelWork& work) {
    if (value == nullptr || !is_node_attribute(id))
      return CUDA_ERROR_INVALID_VALUE;
    const auto at = work.attributes.find(id);
    *value = at != work.attributes.end() ? at->second : CUkernelNodeAttrValue{};
    return CUDA_SUCCESS;
  });
}
ALIQUOT_EXPORT CUresult cuGraphKernelNodeSetAttribute(CUgraphNode handle, CUkernelNodeAttrID id,
                                                      const CUkernelNodeAttrValue* value) {
  return with_work<KernelWork>(handle, [&](GraphNode&, KernelWork& work) {
    if (value == nullptr || !is_node_attribute(id))
      return CUDA_ERROR_INVALID_VALUE;
    LaunchShape shape = work.shape;
    LaunchAttributes attributes = work.attributes;
    if (const CUresult put = put_attribute(id, *value, shape, attributes); put != CUDA_SUCCESS)
      return put;
    if (const CUresult checked = check_launch(work.resolved, shape); checked != CUDA_SUCCESS)
      return checked;
    work.shape = shape;
    work.attributes = std::move(attributes);
    return CUDA_SUCCESS;
  });
}
ALIQUOT_EXPORT CUresult cuGraphKernelNodeCopyAttributes(CUgraphNode to, CUgraphNode from) {
  return with_work<KernelWork>(to, [&](GraphNode&, KernelWork& work) {
    const NodePtr source = Driver::instance().graph_nodes.find(from);
    const auto* other = source ? std::get_if<KernelWork>(&source->work) : nullptr;
    if (other == nullptr || other->resolved.function->context != work.resolved.function->context)
      return CUDA_ERROR_INVALID_VALUE;
    work.attributes = other->attributes;
    work.shape.cooperative = other->shape.cooperative;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphAddMemcpyNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                             size_t count, const CUDA_MEMCPY3D* params, CUcontext context) {
  return add_node(out, graph, {nodes, nullptr, count},
                  [=](Work& work) { return read_copy_in(params, context, work); });
}
ALIQUOT_EXPORT CUresult cuGraphMemcpyNodeGetParams(CUgraphNode node, CUDA_MEMCPY3D* params) {
  return with_work<CopyWork>(node, [&](GraphNode&, const CopyWork& work) {
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *params = work.copy;
    return CUDA_SUCCESS;
  });
}
ALIQUOT_EXPORT CUresult cuGraphMemcpyNodeSetParams(CUgraphNode node, const CUDA_MEMCPY3D* params) {
  return change_node(node, [=](Work& work) { return read_copy_in(params, context_of_node(node), work); });
}

ALIQUOT_EXPORT CUresult cuGraphAddMemsetNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                             size_t count, const CUDA_MEMSET_NODE_PARAMS* params,
                                             CUcontext context) {
  return add_node(out, graph, {nodes, nullptr, count},
                  [=](Work& work) { return read_set_in(params, context, work); });
}
ALIQUOT_EXPORT CUresult cuGraphMemsetNodeGetParams(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS* params) {
  return with_work<SetWork>(node, [&](GraphNode&, const SetWork& work) {
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(params, &work.set, sizeof *params); // the older form is the beginning of the newer
    return CUDA_SUCCESS;
  });
}
ALIQUOT_EXPORT CUresult cuGraphMemsetNodeSetParams(CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS* params) {
  return change_node(node, [=](Work& work) { return read_set_in(params, context_of_node(node), work); });
}

ALIQUOT_EXPORT CUresult cuGraphAddHostNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                           size_t count, const CUDA_HOST_NODE_PARAMS* params) {
  return add_node(out, graph, {nodes, nullptr, count}, [=](Work& work) {
    return params != nullptr ? read_host(params->fn, params->userData, work) : CUDA_ERROR_INVALID_VALUE;
  });
}
ALIQUOT_EXPORT CUresult cuGraphHostNodeGetParams(CUgraphNode node, CUDA_HOST_NODE_PARAMS* params) {
  return with_work<HostWork>(node, [&](GraphNode&, const HostWork& work) {
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *params = {work.function, work.data};
    return CUDA_SUCCESS;
  });
}
ALIQUOT_EXPORT CUresult cuGraphHostNodeSetParams(CUgraphNode node, const CUDA_HOST_NODE_PARAMS* params) {
  return change_node(node, [=](Work& work) {
    return params != nullptr ? read_host(params->fn, params->userData, work) : CUDA_ERROR_INVALID_VALUE;
  });
}

ALIQUOT_EXPORT CUresult cuGraphAddEmptyNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                            size_t count) {
  return add_node(out, graph, {nodes, nullptr, count}, [](Work& work) {
    work = EmptyWork{};
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphAddChildGraphNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                                 size_t count, CUgraph child) {
  return add_child(out, graph, {nodes, nullptr, count}, child, CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE);
}
ALIQUOT_EXPORT CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph* graph) {
  return with_work<ChildWork>(node, [&](GraphNode&, const ChildWork& work) {
    if (graph == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *graph = static_cast<CUgraph>(work.graph->handle);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphAddEventRecordNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                                  size_t count, CUevent event) {
  return add_node(out, graph, {nodes, nullptr, count}, [=](Work& work) { return read_record(event, work); });
}
ALIQUOT_EXPORT CUresult cuGraphEventRecordNodeGetEvent(CUgraphNode node, CUevent* event) {
  return get_event<RecordWork>(node, event);
}
ALIQUOT_EXPORT CUresult cuGraphEventRecordNodeSetEvent(CUgraphNode node, CUevent event) {
  return change_node(node, [=](Work& work) { return read_record(event, work); });
}
ALIQUOT_EXPORT CUresult cuGraphAddEventWaitNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                                size_t count, CUevent event) {
  return add_node(out, graph, {nodes, nullptr, count}, [=](Work& work) { return read_wait(event, work); });
}
ALIQUOT_EXPORT CUresult cuGraphEventWaitNodeGetEvent(CUgraphNode node, CUevent* event) {
  return get_event<WaitWork>(node, event);
}
ALIQUOT_EXPORT CUresult cuGraphEventWaitNodeSetEvent(CUgraphNode node, CUevent event) {
  return change_node(node, [=](Work& work) { return read_wait(event, work); });
}

} // extern "C"
