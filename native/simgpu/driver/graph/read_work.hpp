// From the structures of the API to what a node does. Everything is checked here: what is read can be run.
#pragma once

#include "native/simgpu/driver/graph/graph.hpp"

namespace aliquot::simgpu::driver {

// The context of a handle, or the current one for null.
CUresult find_context(CUcontext handle, ContextPtr& context);

CUresult read_kernel(const CUDA_KERNEL_NODE_PARAMS_v2& given, Work& work);
CUresult read_copy(const CUDA_MEMCPY3D& given, const ContextPtr& context, Work& work);
CUresult read_set(const CUDA_MEMSET_NODE_PARAMS_v2& given, const ContextPtr& context, Work& work);
CUresult read_host(CUhostFn function, void* data, Work& work);
CUresult read_record(CUevent handle, Work& work);
CUresult read_wait(CUevent handle, Work& work);
CUresult read_memory_operations(const CUDA_BATCH_MEM_OP_NODE_PARAMS_v2& given, Work& work);
// Makes the allocation, whose address is then known.
CUresult read_allocation(const CUDA_MEM_ALLOC_NODE_PARAMS_v2& given, Work& work);
CUresult allocation_on(Device& device, std::size_t bytes, Work& work);

// Any kind but child graphs and frees, which depend on other graphs (under graphs_mutex: nodes_api).
CUresult read_params(const CUgraphNodeParams& given, Work& work);

} // namespace aliquot::simgpu::driver
