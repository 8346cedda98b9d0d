// The driver of this process: made by cuInit, never destroyed.
//
// Threads may be inside while the process exits, and static destructors of other libraries call in after main
// has returned; so nothing here is ever destroyed. What a process held comes back to the machine when it
// dies.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/address_space.hpp"
#include "native/simgpu/driver/core/allocations.hpp"
#include "native/simgpu/driver/core/context.hpp"
#include "native/simgpu/driver/core/device.hpp"
#include "native/simgpu/driver/core/event.hpp"
#include "native/simgpu/driver/core/handle_table.hpp"
#include "native/simgpu/driver/core/pool.hpp"
#include "native/simgpu/driver/core/stream.hpp"
#include "native/simgpu/driver/core/virtual_memory.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::driver {

class LoadedModule;
class Function;
class Library;
class Kernel;
class Linker;
class Array;
class MipmappedArray;
class Graph;
class GraphNode;
class GraphExec;
class UserObject;

class Driver {
 public:
  // Valid only while `status()` is CUDA_SUCCESS or CUDA_ERROR_DEINITIALIZED.
  static Driver& instance() noexcept;
  // What every entry point returns first: NOT_INITIALIZED before cuInit and in the child of a fork,
  // DEINITIALIZED once the process is ending.
  static CUresult status() noexcept;
  static CUresult initialise() noexcept;

  Device* device(CUdevice ordinal) const noexcept {
    return ordinal >= 0 && static_cast<std::size_t>(ordinal) < devices.size() ? devices[ordinal].get()
                                                                              : nullptr;
  }
  // Gives back the memory of an entry that was erased from `allocations`.
  void give_back(const Allocation& allocation) noexcept;
  void destroy_events_of(std::uint64_t context_id);
  void destroy_arrays_of(std::uint64_t context_id);
  void trim_pools() noexcept;

  std::shared_ptr<machine::Machine> machine;
  AddressSpace space;
  Allocations allocations;
  VirtualMemory virtual_memory;
  std::vector<std::unique_ptr<Device>> devices;

  HandleTable<Context> contexts{HandleKind::Context};
  HandleTable<Stream> streams{HandleKind::Stream};
  HandleTable<Event> events{HandleKind::Event};
  HandleTable<LoadedModule> modules{HandleKind::Module};
  HandleTable<Function> functions{HandleKind::Function};
  HandleTable<Library> libraries{HandleKind::Library};
  HandleTable<Kernel> kernels{HandleKind::Kernel};
  HandleTable<Pool> pools{HandleKind::Pool};
  HandleTable<Linker> linkers{HandleKind::Linker};
  HandleTable<Array> arrays{HandleKind::Array};
  HandleTable<MipmappedArray> mipmapped_arrays{HandleKind::MipmappedArray};
  HandleTable<Graph> graphs{HandleKind::Graph};
  HandleTable<GraphNode> graph_nodes{HandleKind::GraphNode};
  HandleTable<GraphExec> graph_execs{HandleKind::GraphExec};
  HandleTable<UserObject> user_objects{HandleKind::UserObject};

 private:
  CUresult open() noexcept;
  CUresult add_devices();
};

} // namespace aliquot::simgpu::driver
