#include "native/simgpu/driver/launch_attributes.hpp"

#include "native/common/log.hpp"
#include "native/simgpu/driver/core/host_memory.hpp"

namespace aliquot::simgpu::driver {
namespace {

constexpr unsigned kMostAttributes = 64; // more than there are; a larger count is not one

bool is_single(const CUlaunchAttributeValue& value) noexcept {
  return value.clusterDim.x <= 1 && value.clusterDim.y <= 1 && value.clusterDim.z <= 1;
}

// Such an event must not be timed, nor be shared with other processes.
CUresult check_event(CUevent handle) {
  const auto event = Driver::instance().events.find(handle);
  if (!event)
    return CUDA_ERROR_INVALID_HANDLE;
  const bool fits =
      (event->flags & CU_EVENT_DISABLE_TIMING) != 0 && (event->flags & CU_EVENT_INTERPROCESS) == 0;
  return fits ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult check_value(CUlaunchAttributeID id, const CUlaunchAttributeValue& value) {
  switch (id) {
  case CU_LAUNCH_ATTRIBUTE_IGNORE:
  case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
  case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
  case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
  case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
  case CU_LAUNCH_ATTRIBUTE_PRIORITY:
  case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
  // Permission to overlap with the kernel before; to run after it is always right.
  case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
    return CUDA_SUCCESS;
  case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
    return value.memSyncDomain <= CU_LAUNCH_MEM_SYNC_DOMAIN_REMOTE ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: {
    // A percentage, or CU_SHAREDMEM_CARVEOUT_DEFAULT, which is -1.
    const int percent = static_cast<int>(value.sharedMemCarveout);
    return percent >= -1 && percent <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
  case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
  case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
    return is_single(value) ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
  case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
    return check_event(value.programmaticEvent.event);
  case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
    return check_event(value.launchCompletionEvent.event);
  case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
    return value.deviceUpdatableKernelNode.deviceUpdatable == 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
  default:
    return id < CU_LAUNCH_ATTRIBUTE_MAX ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
  }
}

} // namespace

bool attributes_are_there(const CUlaunchConfig& config) noexcept {
  if (config.numAttrs == 0)
    return true;
  return config.numAttrs <= kMostAttributes && config.attrs != nullptr &&
         host_range_is_mapped(config.attrs, config.numAttrs * sizeof *config.attrs);
}

CUresult put_attribute(CUlaunchAttributeID id, const CUlaunchAttributeValue& value, LaunchShape& shape,
                       LaunchAttributes& attributes) {
  if (const CUresult checked = check_value(id, value); checked != CUDA_SUCCESS)
    return checked;
  if (id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
    shape.cooperative = value.cooperative != 0;
  if (id != CU_LAUNCH_ATTRIBUTE_IGNORE)
    attributes[id] = value;
  return CUDA_SUCCESS;
}

CUresult read_attributes(const CUlaunchConfig& config, LaunchShape& shape, LaunchAttributes& attributes) {
  if (!attributes_are_there(config))
    return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const CUlaunchAttribute& each = config.attrs[i];
    const CUresult put = put_attribute(each.id, each.value, shape, attributes);
    if (put == CUDA_ERROR_NOT_SUPPORTED)
      common::log_line(common::LogLevel::Warning, "cuLaunchKernelEx: launch attribute %d is not implemented",
                       static_cast<int>(each.id));
    if (put != CUDA_SUCCESS)
      return put;
  }
  return CUDA_SUCCESS;
}

bool is_node_attribute(CUlaunchAttributeID id) noexcept {
  switch (id) {
  case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
  case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
  case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
  case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
  case CU_LAUNCH_ATTRIBUTE_PRIORITY:
  case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
  case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
  case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
  case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
  case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    return true;
  default:
    return false;
  }
}

} // namespace aliquot::simgpu::driver
