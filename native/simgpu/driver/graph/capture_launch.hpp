// A kernel launch into a stream that captures.
#pragma once

#include <vector>

#include "native/simgpu/driver/launch_attributes.hpp"

namespace aliquot::simgpu::driver {

// The launch, already checked, as a kernel node: its attributes, and the stream's priority, are the node's.
// Events among the attributes are recorded at the node; programmatic order becomes the kind of its edge.
CUresult capture_launch(Stream& stream, const ResolvedFunction& resolved, const LaunchShape& shape,
                        std::vector<std::uint8_t> parameters, const LaunchAttributes& attributes);

} // namespace aliquot::simgpu::driver
