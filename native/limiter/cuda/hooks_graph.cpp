// Hooks of graphs that allocate: what their nodes want is known when they are instantiated, and reserved when
// they are launched.
#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"
#include "native/limiter/cuda/observers.hpp"

namespace aliquot::limiter {
namespace {

void expect_memory(CUresult answer, CUgraphNodeType type) noexcept {
  Limiter* here = limiter();
  if (answer == CUDA_SUCCESS && here != nullptr && type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
    here->graphs.expect_memory();
}

template <typename Parameters>
CUgraphNodeType type_of(const Parameters* parameters) noexcept {
  return parameters != nullptr ? parameters->type : CU_GRAPH_NODE_TYPE_EMPTY;
}

// Instantiating, too, makes a driver take memory of its own.
CUresult learn(CUresult answer, CUgraphExec* exec, CUgraph graph) noexcept {
  Limiter* here = limiter();
  if (answer != CUDA_SUCCESS || here == nullptr)
    return answer;
  here->overhead.may_have_grown_anywhere();
  if (here->graphs.learn(*exec, graph))
    return CUDA_SUCCESS;
  driver().cuGraphExecDestroy(*exec);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

template <typename Call>
CUresult launch(CUgraphExec exec, Call call) noexcept {
  Limiter* here = limiter();
  return here != nullptr ? here->graphs.launch(exec, call) : call();
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT CUresult cuGraphAddMemAllocNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* before,
                                               size_t count, CUDA_MEM_ALLOC_NODE_PARAMS* parameters) {
  const CUresult answer = driver().cuGraphAddMemAllocNode(node, graph, before, count, parameters);
  expect_memory(answer, CU_GRAPH_NODE_TYPE_MEM_ALLOC);
  return answer;
}

ALIQUOT_EXPORT CUresult cuGraphAddNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* before,
                                       size_t count, CUgraphNodeParams* parameters) {
  const CUresult answer = driver().cuGraphAddNode(node, graph, before, count, parameters);
  expect_memory(answer, type_of(parameters));
  return answer;
}

ALIQUOT_EXPORT CUresult cuGraphAddNode_v2(CUgraphNode* node, CUgraph graph, const CUgraphNode* before,
                                          const CUgraphEdgeData* edges, size_t count,
                                          CUgraphNodeParams* parameters) {
  const CUresult answer = driver().cuGraphAddNode_v2(node, graph, before, edges, count, parameters);
  expect_memory(answer, type_of(parameters));
  return answer;
}

ALIQUOT_EXPORT CUresult cuGraphAddNode_v3(CUgraphNode* node, CUgraph graph, const CUgraphNode* before,
                                          const CUgraphEdgeData* edges, size_t count,
                                          CUgraphNodeParams* parameters) {
  const CUresult answer = driver().cuGraphAddNode_v3(node, graph, before, edges, count, parameters);
  expect_memory(answer, type_of(parameters));
  return answer;
}

ALIQUOT_EXPORT CUresult cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, CUgraphNode* culprit, char* log,
                                           size_t bytes) {
  return learn(driver().cuGraphInstantiate(exec, graph, culprit, log, bytes), exec, graph);
}

ALIQUOT_EXPORT CUresult cuGraphInstantiate_v2(CUgraphExec* exec, CUgraph graph, CUgraphNode* culprit,
                                              char* log, size_t bytes) {
  return learn(driver().cuGraphInstantiate_v2(exec, graph, culprit, log, bytes), exec, graph);
}

ALIQUOT_EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph,
                                                    unsigned long long flags) {
  return learn(driver().cuGraphInstantiateWithFlags(exec, graph, flags), exec, graph);
}

ALIQUOT_EXPORT CUresult cuGraphInstantiateWithParams(CUgraphExec* exec, CUgraph graph,
                                                     CUDA_GRAPH_INSTANTIATE_PARAMS* parameters) {
  return learn(driver().cuGraphInstantiateWithParams(exec, graph, parameters), exec, graph);
}

ALIQUOT_EXPORT CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec* exec, CUgraph graph,
                                                          CUDA_GRAPH_INSTANTIATE_PARAMS* parameters) {
  return learn(driver().cuGraphInstantiateWithParams_ptsz(exec, graph, parameters), exec, graph);
}

ALIQUOT_EXPORT CUresult cuGraphExecDestroy(CUgraphExec exec) {
  const CUresult answer = forward<cuGraphExecDestroy_entry>(driver().cuGraphExecDestroy)(exec);
  Limiter* here = limiter();
  if (answer == CUDA_SUCCESS && here != nullptr) {
    here->graphs.forget(exec);
    here->overhead.may_have_shrunk_anywhere();
  }
  return answer;
}

ALIQUOT_EXPORT CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) {
  return launch(exec, [&] { return driver().cuGraphUpload(exec, stream); });
}

ALIQUOT_EXPORT CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream) {
  return launch(exec, [&] { return driver().cuGraphUpload_ptsz(exec, stream); });
}

ALIQUOT_EXPORT CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  return launch(exec, [&] { return forward<cuGraphLaunch_entry>(driver().cuGraphLaunch)(exec, stream); });
}

ALIQUOT_EXPORT CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream) {
  return launch(exec, [&] {
    return forward<cuGraphLaunch_entry, StreamVariant::ptsz>(driver().cuGraphLaunch_ptsz)(exec, stream);
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGraphMemTrim(CUdevice device) {
  const CUresult answer = driver().cuDeviceGraphMemTrim(device);
  if (Limiter* here = limiter())
    here->graphs.settle_all();
  return answer;
}
}
