// Memory nodes: allocation and free of graph memory, stream memory operations, and what a card holds for
// graphs.
#include "native/simgpu/driver/graph/capture.hpp"
#include "native/simgpu/driver/graph/graph_memory.hpp"
#include "native/simgpu/driver/graph/memory_capture.hpp"
#include "native/simgpu/driver/graph/nodes_api.hpp"

namespace aliquot::simgpu::driver {
namespace {

// Freed once: in the graph that allocates it, or else in others.
CUresult claim_free(const Graph& graph, CUdeviceptr address, Work& work) {
  const auto allocation = find_graph_allocation(address);
  if (!allocation || allocation->address != address || allocation->allocated_in == 0)
    return CUDA_ERROR_INVALID_VALUE;
  const bool by_owner = allocation->freed_in == allocation->allocated_in && allocation->freed_in != 0;
  const bool owner_is_late = allocation->freed_in != 0 && graph.id == allocation->allocated_in;
  if (by_owner || owner_is_late || allocation->freed_in == graph.id)
    return CUDA_ERROR_INVALID_VALUE;
  allocation->freed_in = graph.id;
  work = FreeWork{allocation};
  return CUDA_SUCCESS;
}

} // namespace

CUresult add_free(CUgraphNode* out, CUgraph handle, const Dependencies& dependencies, CUdeviceptr address) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    std::vector<Link> links;
    if (out == nullptr || read_dependencies(*graph, dependencies.nodes, dependencies.edges,
                                            dependencies.count, links) != CUDA_SUCCESS)
      return CUDA_ERROR_INVALID_VALUE;
    Work work;
    const CUresult claimed = claim_free(*graph, address, work);
    return claimed == CUDA_SUCCESS ? add_node(out, graph, dependencies, std::move(work)) : claimed;
  });
}

CUresult capture_allocate(Stream& stream, Device& device, std::size_t bytes, CUdeviceptr* address) {
  Work work;
  if (const CUresult made = allocation_on(device, bytes, work); made != CUDA_SUCCESS)
    return made;
  const auto allocation = std::get<AllocateWork>(work).allocation;
  NodePtr node;
  if (const CUresult captured = capture(stream, std::move(work), node); captured != CUDA_SUCCESS)
    return captured;
  const std::lock_guard guard(graphs_mutex());
  if (node->graph != nullptr)
    allocation->allocated_in = node->graph->id;
  *address = allocation->address;
  return CUDA_SUCCESS;
}

CUresult capture_free(Stream& stream, CUdeviceptr address) {
  Work work;
  {
    const std::lock_guard guard(graphs_mutex());
    if (!stream.capture || !stream.capture->sequence->valid)
      return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    const CUresult claimed = claim_free(*stream.capture->sequence->graph, address, work);
    if (claimed != CUDA_SUCCESS)
      return claimed;
  }
  return capture(stream, std::move(work));
}

CUresult capture_memory_operations(Stream& stream, const CUstreamBatchMemOpParams* operations,
                                   unsigned count) {
  MemoryOperationsWork work;
  work.context = stream.shared_context();
  work.operations.assign(operations, operations + count);
  return capture(stream, std::move(work));
}

} // namespace aliquot::simgpu::driver

using namespace aliquot::simgpu::driver;

namespace {

CUDA_BATCH_MEM_OP_NODE_PARAMS params_of(MemoryOperationsWork& work) noexcept {
  return {work.context->handle, static_cast<unsigned>(work.operations.size()), work.operations.data(),
          work.flags};
}

CUresult read_operations(const CUDA_BATCH_MEM_OP_NODE_PARAMS* given, Work& work) {
  if (given == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  return read_memory_operations({given->ctx, given->count, given->paramArray, given->flags}, work);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuGraphAddMemAllocNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                               size_t count, CUDA_MEM_ALLOC_NODE_PARAMS* params) {
  CUdeviceptr address = 0;
  const CUresult added = add_node(out, graph, {nodes, nullptr, count}, [&](Work& work) {
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const CUresult read = read_allocation(
        {params->poolProps, params->accessDescs, params->accessDescCount, params->bytesize, 0}, work);
    if (read == CUDA_SUCCESS)
      address = std::get<AllocateWork>(work).allocation->address;
    return read;
  });
  if (added == CUDA_SUCCESS)
    params->dptr = address;
  return added;
}

ALIQUOT_EXPORT CUresult cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS* params) {
  return with_work<AllocateWork>(node, [&](GraphNode&, const AllocateWork& work) {
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *params = {work.properties, work.access.data(), work.access.size(), work.allocation->bytes,
               work.allocation->address};
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphAddMemFreeNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                              size_t count, CUdeviceptr address) {
  return add_free(out, graph, {nodes, nullptr, count}, address);
}

ALIQUOT_EXPORT CUresult cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr* address) {
  return with_work<FreeWork>(node, [&](GraphNode&, const FreeWork& work) {
    if (address == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *address = work.allocation->address;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphAddBatchMemOpNode(CUgraphNode* out, CUgraph graph, const CUgraphNode* nodes,
                                                 size_t count, const CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  return add_node(out, graph, {nodes, nullptr, count},
                  [=](Work& work) { return read_operations(params, work); });
}
ALIQUOT_EXPORT CUresult cuGraphBatchMemOpNodeGetParams(CUgraphNode node,
                                                       CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  return with_work<MemoryOperationsWork>(node, [&](GraphNode&, MemoryOperationsWork& work) {
    if (params == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *params = params_of(work);
    return CUDA_SUCCESS;
  });
}
ALIQUOT_EXPORT CUresult cuGraphBatchMemOpNodeSetParams(CUgraphNode node,
                                                       const CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  return change_node(node, [=](Work& work) { return read_operations(params, work); });
}

ALIQUOT_EXPORT CUresult cuDeviceGetGraphMemAttribute(CUdevice ordinal, CUgraphMem_attribute attribute,
                                                     void* value) {
  return with_device(ordinal, [&](Device& device) {
    if (value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    std::uint64_t bytes = 0;
    const CUresult got = graph_memory_of(device).get(attribute, bytes);
    if (got == CUDA_SUCCESS)
      *static_cast<cuuint64_t*>(value) = bytes;
    return got;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceSetGraphMemAttribute(CUdevice ordinal, CUgraphMem_attribute attribute,
                                                     void* value) {
  return with_device(ordinal, [&](Device& device) {
    if (value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    return graph_memory_of(device).set(attribute, *static_cast<const cuuint64_t*>(value));
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGraphMemTrim(CUdevice ordinal) {
  return with_device(ordinal, [](Device& device) {
    graph_memory_of(device).trim();
    return CUDA_SUCCESS;
  });
}

} // extern "C"
