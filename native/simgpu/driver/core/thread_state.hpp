// What the driver keeps for each thread of the host program.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "native/simgpu/driver/core/stream.hpp"
#include "native/simgpu/exec/exec.hpp"

namespace aliquot::simgpu::driver {

struct ThreadState {
  std::vector<void*> contexts; // the stack of current contexts, by handle
  std::map<std::uint64_t, std::shared_ptr<Stream>> default_streams; // per-thread default, by context id
  std::unique_ptr<exec::Worker> worker;
  bool in_host_function = false; // cuLaunchHostFunc and callbacks: driver calls are not permitted
};

// Made at first use, gone with the thread. A plain thread_local with a destructor would need a symbol newer
// than GLIBC_2.17, so a pthread key owns it.
ThreadState& this_thread();
// Scratch memory for kernels that this thread runs; null where the host has none left.
exec::Worker* worker_of_this_thread() noexcept;

} // namespace aliquot::simgpu::driver
