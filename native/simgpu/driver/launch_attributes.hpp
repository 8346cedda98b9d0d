// The attributes of a launch (cuLaunchKernelEx) and of a graph's kernel node: which there are, and what they
// may be.
#pragma once

#include <map>

#include "native/simgpu/driver/launch.hpp"

namespace aliquot::simgpu::driver {

using LaunchAttributes = std::map<CUlaunchAttributeID, CUlaunchAttributeValue>;

// Whether the list that `config` points to can be one.
bool attributes_are_there(const CUlaunchConfig& config) noexcept;
// Checks one attribute and keeps it. NOT_SUPPORTED for what is known and not implemented (clusters of more
// than one block, kernels that a device updates), INVALID_VALUE for what is none.
CUresult put_attribute(CUlaunchAttributeID id, const CUlaunchAttributeValue& value, LaunchShape& shape,
                       LaunchAttributes& attributes);
// The attributes of a launch, the unused ones left out.
CUresult read_attributes(const CUlaunchConfig& config, LaunchShape& shape, LaunchAttributes& attributes);
// Attributes that a kernel node of a graph may have.
bool is_node_attribute(CUlaunchAttributeID id) noexcept;

} // namespace aliquot::simgpu::driver
