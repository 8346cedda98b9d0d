#include "native/simgpu/driver/graph/read_work.hpp"

#include "native/simgpu/driver/copy_box.hpp"
#include "native/simgpu/driver/core/host_memory.hpp"
#include "native/simgpu/driver/graph/capture.hpp"
#include "native/simgpu/driver/graph/graph_memory.hpp"
#include "native/simgpu/driver/stream_memory.hpp"

namespace aliquot::simgpu::driver {
namespace {

constexpr std::size_t kMostAccessEntries = 1024; // more than there are cards; a larger count is not one
constexpr unsigned kMostOperations = 256;        // as cuStreamBatchMemOp takes

bool in_graph_memory(CUmemorytype type, CUdeviceptr address) {
  return (type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_UNIFIED) && driver::in_graph_memory(address);
}

template <class Kind>
CUresult read_event(CUevent handle, Work& work) {
  Kind made;
  made.event = Driver::instance().events.find(handle);
  made.handle = handle;
  if (!made.event)
    return CUDA_ERROR_INVALID_VALUE;
  work = std::move(made);
  return CUDA_SUCCESS;
}

CUresult check_access(const Device& device, const CUmemAccessDesc* access, std::size_t count) {
  if (count > kMostAccessEntries || (count != 0 && access == nullptr) ||
      (count != 0 && !host_range_is_mapped(access, count * sizeof *access)))
    return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < count; ++i) {
    if (access[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE)
      return CUDA_ERROR_INVALID_VALUE;
    if (Driver::instance().device(access[i].location.id) == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    // Other cards' access to graph memory is not implemented.
    if (access[i].location.id != device.ordinal)
      return CUDA_ERROR_NOT_SUPPORTED;
  }
  return CUDA_SUCCESS;
}

} // namespace

CUresult find_context(CUcontext handle, ContextPtr& context) {
  if (handle == nullptr)
    return current_context(context);
  context = Driver::instance().contexts.find(handle);
  return context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult read_kernel(const CUDA_KERNEL_NODE_PARAMS_v2& given, Work& work) {
  const bool both = given.func != nullptr && given.kern != nullptr;
  if (both || (given.func == nullptr && given.kern == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  KernelWork made;
  made.function = given.func;
  made.kernel = given.kern;
  const auto handle = given.func != nullptr ? given.func : reinterpret_cast<CUfunction>(given.kern);
  ContextPtr context;
  // The context matters to a CUkernel alone: a CUfunction has its own.
  if (kind_of(handle) == HandleKind::Kernel)
    if (const CUresult found = find_context(given.ctx, context); found != CUDA_SUCCESS)
      return found;
  if (const CUresult found = resolve_function(Driver::instance(), handle, context, made.resolved);
      found != CUDA_SUCCESS)
    return found == CUDA_ERROR_INVALID_HANDLE ? CUDA_ERROR_INVALID_VALUE : found;
  made.shape = {{given.gridDimX, given.gridDimY, given.gridDimZ},
                {given.blockDimX, given.blockDimY, given.blockDimZ},
                given.sharedMemBytes,
                false};
  if (const CUresult checked = check_launch(made.resolved, made.shape); checked != CUDA_SUCCESS)
    return checked;
  const CUresult read =
      read_parameters(made.resolved.function->info(), given.kernelParams, given.extra, made.parameters);
  if (read == CUDA_SUCCESS)
    work = std::move(made);
  return read;
}

CUresult read_copy(const CUDA_MEMCPY3D& given, const ContextPtr& context, Work& work) {
  ResolvedBox box;
  const CUresult found = resolve_box(Driver::instance(), given, box);
  // What an allocation node will allocate is not there yet; it is looked for again when the node runs.
  const bool later = in_graph_memory(given.srcMemoryType, given.srcDevice) ||
                     in_graph_memory(given.dstMemoryType, given.dstDevice);
  if (found != CUDA_SUCCESS && !(found == CUDA_ERROR_INVALID_VALUE && later))
    return found;
  work = CopyWork{given, context};
  return CUDA_SUCCESS;
}

CUresult read_set(const CUDA_MEMSET_NODE_PARAMS_v2& given, const ContextPtr& context, Work& work) {
  std::unique_ptr<Command> command;
  const CUresult found = make_set_command(Driver::instance(), given, command);
  if (found != CUDA_SUCCESS && !driver::in_graph_memory(given.dst))
    return found;
  SetWork made{given, context};
  made.set.ctx = context->handle;
  work = std::move(made);
  return CUDA_SUCCESS;
}

CUresult read_host(CUhostFn function, void* data, Work& work) {
  if (function == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  work = HostWork{function, data};
  return CUDA_SUCCESS;
}

CUresult read_record(CUevent handle, Work& work) {
  return read_event<RecordWork>(handle, work);
}

CUresult read_wait(CUevent handle, Work& work) {
  return read_event<WaitWork>(handle, work);
}

CUresult read_memory_operations(const CUDA_BATCH_MEM_OP_NODE_PARAMS_v2& given, Work& work) {
  MemoryOperationsWork made;
  if (given.flags != 0 || given.count == 0 || given.count > kMostOperations || given.paramArray == nullptr ||
      !host_range_is_mapped(given.paramArray, given.count * sizeof *given.paramArray))
    return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult found = find_context(given.ctx, made.context); found != CUDA_SUCCESS)
    return found;
  made.operations.assign(given.paramArray, given.paramArray + given.count);
  std::unique_ptr<Command> command;
  const CUresult checked =
      make_memory_operations(*made.context, made.operations.data(), given.count, command);
  if (checked == CUDA_SUCCESS)
    work = std::move(made);
  return checked;
}

CUresult allocation_on(Device& device, std::size_t bytes, Work& work) {
  if (bytes == 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (bytes > device.model.vram_bytes)
    return CUDA_ERROR_OUT_OF_MEMORY;
  AllocateWork made;
  made.allocation = GraphAllocation::make(device, bytes);
  if (!made.allocation)
    return CUDA_ERROR_OUT_OF_MEMORY;
  made.properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  made.properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {device.ordinal}};
  work = std::move(made);
  return CUDA_SUCCESS;
}

CUresult read_allocation(const CUDA_MEM_ALLOC_NODE_PARAMS_v2& given, Work& work) {
  const CUmemPoolProps& properties = given.poolProps;
  if (properties.allocType != CU_MEM_ALLOCATION_TYPE_PINNED ||
      properties.location.type != CU_MEM_LOCATION_TYPE_DEVICE)
    return CUDA_ERROR_INVALID_VALUE;
  if (properties.handleTypes != CU_MEM_HANDLE_TYPE_NONE)
    return CUDA_ERROR_NOT_SUPPORTED; // graph memory cannot be shared
  Device* device = Driver::instance().device(properties.location.id);
  if (device == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult checked = check_access(*device, given.accessDescs, given.accessDescCount);
      checked != CUDA_SUCCESS)
    return checked;
  const CUresult made = allocation_on(*device, given.bytesize, work);
  if (made == CUDA_SUCCESS && given.accessDescCount != 0)
    std::get<AllocateWork>(work).access.assign(given.accessDescs, given.accessDescs + given.accessDescCount);
  return made;
}

CUresult read_params(const CUgraphNodeParams& given, Work& work) {
  ContextPtr context;
  switch (given.type) {
  case CU_GRAPH_NODE_TYPE_KERNEL: {
    const auto& kernel = given.kernel;
    return read_kernel({kernel.func, kernel.gridDimX, kernel.gridDimY, kernel.gridDimZ, kernel.blockDimX,
                        kernel.blockDimY, kernel.blockDimZ, kernel.sharedMemBytes, kernel.kernelParams,
                        kernel.extra, kernel.kern, kernel.ctx},
                       work);
  }
  case CU_GRAPH_NODE_TYPE_MEMCPY:
    if (given.memcpy.flags != 0)
      return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult found = find_context(given.memcpy.copyCtx, context); found != CUDA_SUCCESS)
      return found;
    return read_copy(given.memcpy.copyParams, context, work);
  case CU_GRAPH_NODE_TYPE_MEMSET:
    if (const CUresult found = find_context(given.memset.ctx, context); found != CUDA_SUCCESS)
      return found;
    return read_set(given.memset, context, work);
  case CU_GRAPH_NODE_TYPE_HOST:
    return read_host(given.host.fn, given.host.userData, work);
  case CU_GRAPH_NODE_TYPE_EMPTY:
    work = EmptyWork{};
    return CUDA_SUCCESS;
  case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
    return read_wait(given.eventWait.event, work);
  case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
    return read_record(given.eventRecord.event, work);
  case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
    return read_allocation(given.alloc, work);
  case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
    return read_memory_operations(given.memOp, work);
  case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
  case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
  case CU_GRAPH_NODE_TYPE_CONDITIONAL:
  case CU_GRAPH_NODE_TYPE_MEMCPY_BATCH:
  case CU_GRAPH_NODE_TYPE_FABRIC_CPY_BATCH:
    return CUDA_ERROR_NOT_SUPPORTED;
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult capture_box(Stream& stream, const CUDA_MEMCPY3D& what) {
  Work work;
  const CUresult read = read_copy(what, stream.shared_context(), work);
  return read == CUDA_SUCCESS ? capture(stream, std::move(work)) : read;
}

CUresult capture_set(Stream& stream, const CUDA_MEMSET_NODE_PARAMS_v2& what) {
  Work work;
  const CUresult read = read_set(what, stream.shared_context(), work);
  return read == CUDA_SUCCESS ? capture(stream, std::move(work)) : read;
}

} // namespace aliquot::simgpu::driver
