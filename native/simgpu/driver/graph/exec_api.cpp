// Executable graphs: made, launched, destroyed.
#include "native/simgpu/driver/graph/capture.hpp"
#include "native/simgpu/driver/graph/exec_entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

constexpr std::uint64_t kKnownFlags =
    CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
    CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;

struct Failure {
  CUgraphInstantiateResult result = CUDA_GRAPH_INSTANTIATE_ERROR;
  CUgraphNode node = nullptr;
};

CUresult instantiate(CUgraphExec* out, CUgraph handle, std::uint64_t flags, Failure& failure) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    if (out == nullptr || (flags & ~kKnownFlags) != 0 || graph->capturing)
      return CUDA_ERROR_INVALID_VALUE;
    if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0)
      return CUDA_ERROR_NOT_SUPPORTED;
    const bool single = graph->has_memory_nodes();
    if (single && !graph->instance.expired())
      return CUDA_ERROR_INVALID_VALUE;
    NodePtr bad;
    const auto exec = GraphExec::make(graph, flags & ~std::uint64_t{CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD}, bad);
    if (!exec) {
      failure = {CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE, static_cast<CUgraphNode>(bad->handle)};
      return CUDA_ERROR_INVALID_VALUE;
    }
    exec->handle = Driver::instance().graph_execs.insert(exec);
    if (single)
      graph->instance = exec;
    *out = static_cast<CUgraphExec>(exec->handle);
    failure.result = CUDA_GRAPH_INSTANTIATE_SUCCESS;
    return CUDA_SUCCESS;
  });
}

CUresult instantiate_with_log(CUgraphExec* out, CUgraph graph, CUgraphNode* bad_node, char* log,
                              std::size_t bytes) {
  Failure failure;
  const CUresult made = instantiate(out, graph, 0, failure);
  if (bad_node != nullptr)
    *bad_node = failure.node;
  if (log != nullptr && bytes != 0)
    std::snprintf(log, bytes, "%s", failure.node != nullptr ? "the graph has a cycle" : "");
  return made;
}

CUresult upload(const std::shared_ptr<GraphExec>& exec, CUstream handle) {
  return with_stream(handle, [&](Driver&, const StreamPtr& stream) { return exec->upload(stream); });
}

// A launch into a capture is a child graph node.
CUresult capture_child(Stream& stream, const GraphExec& exec) {
  GraphPtr child;
  {
    const std::lock_guard guard(graphs_mutex());
    if (exec.image()->has_memory_nodes())
      return CUDA_ERROR_INVALID_VALUE;
    child = exec.image()->clone(true);
  }
  return capture(stream, ChildWork{child});
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuGraphInstantiate(CUgraphExec* out, CUgraph graph, CUgraphNode* bad_node, char* log,
                                           size_t bytes) {
  return instantiate_with_log(out, graph, bad_node, log, bytes);
}
ALIQUOT_EXPORT CUresult cuGraphInstantiate_v2(CUgraphExec* out, CUgraph graph, CUgraphNode* bad_node,
                                              char* log, size_t bytes) {
  return instantiate_with_log(out, graph, bad_node, log, bytes);
}

// There is no stream to upload into: the flag belongs to the form below.
ALIQUOT_EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph graph,
                                                    unsigned long long flags) {
  Failure failure;
  return instantiate(out, graph, flags, failure);
}

ALIQUOT_EXPORT CUresult cuGraphInstantiateWithParams(CUgraphExec* out, CUgraph graph,
                                                     CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  if (params == nullptr) {
    const CUresult status = Driver::status();
    return status != CUDA_SUCCESS ? status : CUDA_ERROR_INVALID_VALUE;
  }
  Failure failure;
  const CUresult made = instantiate(out, graph, params->flags, failure);
  params->result_out = failure.result;
  params->hErrNode_out = failure.node;
  if (made != CUDA_SUCCESS || (params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) == 0)
    return made;
  const auto exec = Driver::instance().graph_execs.find(*out);
  return exec ? upload(exec, params->hUploadStream) : CUDA_ERROR_INVALID_VALUE;
}

ALIQUOT_EXPORT CUresult cuGraphExecGetFlags(CUgraphExec handle, cuuint64_t* flags) {
  return with_exec(handle, [&](GraphExec& exec) {
    if (flags == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *flags = exec.flags;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphExecGetId(CUgraphExec handle, unsigned int* id) {
  return with_exec(handle, [&](GraphExec& exec) {
    if (id == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *id = exec.id;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphUpload(CUgraphExec handle, CUstream stream) {
  return with_driver([&](Driver& driver) {
    const auto exec = driver.graph_execs.find(handle);
    return exec ? upload(exec, stream) : CUDA_ERROR_INVALID_VALUE;
  });
}

ALIQUOT_EXPORT CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  return with_capturable_stream(stream_handle, [&](Driver& driver, const StreamPtr& stream) {
    const auto exec = driver.graph_execs.find(handle);
    if (!exec)
      return CUDA_ERROR_INVALID_VALUE;
    return stream->capturing ? capture_child(*stream, *exec) : exec->launch(stream);
  });
}

// Launches under way keep what they need.
ALIQUOT_EXPORT CUresult cuGraphExecDestroy(CUgraphExec handle) {
  return with_driver([&](Driver& driver) {
    std::shared_ptr<GraphExec> last;
    const std::lock_guard guard(graphs_mutex());
    last = driver.graph_execs.erase(handle);
    return last ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

} // extern "C"
