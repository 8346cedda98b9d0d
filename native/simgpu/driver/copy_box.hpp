// A box of bytes to copy or to set, as CUDA_MEMCPY3D and CUDA_MEMSET_NODE_PARAMS describe one: found in
// memory and checked. For calls, and for the nodes of graphs.
#pragma once

#include "native/simgpu/driver/endpoint.hpp"

namespace aliquot::simgpu::driver {

struct ResolvedBox {
  Endpoint to, from;
  Pitched to_layout, from_layout;
  Extent3D extent;
};

// INVALID_VALUE where one of the sides is not all there.
CUresult resolve_box(Driver& driver, const CUDA_MEMCPY3D& what, ResolvedBox& box);

// Runs or captures the copy that a box describes.
CUresult copy_box(const CUDA_MEMCPY3D& what, CUstream stream, bool blocking);

// The command that sets memory as CUDA_MEMSET_NODE_PARAMS describes it. INVALID_VALUE where it is not all
// there.
CUresult make_set_command(Driver& driver, const CUDA_MEMSET_NODE_PARAMS_v2& what,
                          std::unique_ptr<Command>& command, bool* on_device = nullptr);

} // namespace aliquot::simgpu::driver
