// What the nodes of a graph do, kind by kind. Purely data: nothing here runs, and nothing knows of graphs.
#pragma once

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/launch_attributes.hpp"

namespace aliquot::simgpu::driver {

class Event;
class Graph;
class GraphAllocation;

struct KernelWork {
  CUfunction function = nullptr; // as given: one of the two is null
  CUkernel kernel = nullptr;
  ResolvedFunction resolved;
  LaunchShape shape;
  std::vector<std::uint8_t> parameters;
  LaunchAttributes attributes;
};

struct CopyWork {
  CUDA_MEMCPY3D copy; // always given: a memory type has no default
  ContextPtr context;
};

struct SetWork {
  CUDA_MEMSET_NODE_PARAMS_v2 set{};
  ContextPtr context;
};

struct HostWork {
  CUhostFn function = nullptr;
  void* data = nullptr;
};

struct ChildWork {
  std::shared_ptr<Graph> graph; // the node's own: a clone, or moved into it
};

struct EmptyWork {};

struct EventWork {
  std::shared_ptr<Event> event;
  CUevent handle = nullptr;
};
struct RecordWork : EventWork {};
struct WaitWork : EventWork {};

struct AllocateWork {
  std::shared_ptr<GraphAllocation> allocation;
  CUmemPoolProps properties{};
  std::vector<CUmemAccessDesc> access;
};

struct FreeWork {
  std::shared_ptr<GraphAllocation> allocation;
};

struct MemoryOperationsWork {
  ContextPtr context;
  std::vector<CUstreamBatchMemOpParams> operations;
  unsigned flags = 0;
};

// In the order of CUgraphNodeType, as far as node_type() needs none.
using Work = std::variant<KernelWork, CopyWork, SetWork, HostWork, ChildWork, EmptyWork, WaitWork, RecordWork,
                          AllocateWork, FreeWork, MemoryOperationsWork>;

CUgraphNodeType node_type(const Work& work) noexcept;
// The context that the work needs; null where any will do.
ContextPtr context_of(const Work& work);
inline bool is_memory_node(const Work& work) noexcept {
  return std::holds_alternative<AllocateWork>(work) || std::holds_alternative<FreeWork>(work);
}

} // namespace aliquot::simgpu::driver
