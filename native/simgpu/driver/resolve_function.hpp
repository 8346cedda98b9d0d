// A CUfunction as clients use it: the handle of a function, or of a library's kernel in its place.
#pragma once

#include "native/simgpu/driver/core/code.hpp"
#include "native/simgpu/driver/entry.hpp"

namespace aliquot::simgpu::driver {

struct ResolvedFunction {
  std::shared_ptr<Function> function;
  KernelSettings* settings = nullptr; // the kernel's where a kernel was given
  std::shared_ptr<Kernel> kernel;     // keeps `settings` alive
};

CUresult resolve_function(Driver& driver, CUfunction handle, const ContextPtr& context,
                          ResolvedFunction& resolved);

} // namespace aliquot::simgpu::driver
