// Occupancy by clusters: the answers of a card that launches none of more than one block
// (CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH is 0).
#include <algorithm>

#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/launch_attributes.hpp"
#include "native/simgpu/driver/occupancy.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

constexpr unsigned kMostThreads = 1024;

struct ClusterSize {
  unsigned x = 0, y = 0, z = 0;

  bool given() const noexcept { return x != 0 && y != 0 && z != 0; }
  bool is_one_block() const noexcept { return x == 1 && y == 1 && z == 1; }
};

// CUDA_ERROR_INVALID_VALUE where the list of attributes cannot be.
CUresult read_cluster_size(const CUlaunchConfig& config, ClusterSize& size) {
  if (!attributes_are_there(config))
    return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < config.numAttrs; ++i)
    if (const CUlaunchAttribute& each = config.attrs[i]; each.id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
      size = {each.value.clusterDim.x, each.value.clusterDim.y, each.value.clusterDim.z};
  return CUDA_SUCCESS;
}

// 0 where there is no such block.
std::uint32_t threads_of(const CUlaunchConfig& config) noexcept {
  std::uint64_t threads = 1;
  for (const unsigned extent : {config.blockDimX, config.blockDimY, config.blockDimZ})
    threads = std::min<std::uint64_t>(threads * std::min(extent, kMostThreads + 1), kMostThreads + 1);
  return threads <= kMostThreads ? static_cast<std::uint32_t>(threads) : 0;
}

// The kernel may be null, though the manual does not say so: cuBLASLt asks what fits whatever is launched.
CUresult blocks_on_card(const ContextPtr& context, CUfunction handle, const CUlaunchConfig& config,
                        std::uint32_t& blocks) {
  const std::uint32_t threads = threads_of(config);
  if (threads == 0)
    return CUDA_ERROR_INVALID_VALUE;
  ResolvedFunction resolved;
  if (handle != nullptr)
    if (const CUresult found = resolve_function(Driver::instance(), handle, context, resolved);
        found != CUDA_SUCCESS)
      return found;
  const Device& device = context->device();
  const exec::KernelInfo any;
  const exec::KernelInfo& info = resolved.function ? resolved.function->info() : any;
  blocks = blocks_per_multiprocessor(device, info, threads, config.sharedMemBytes) * device.model.sm_count;
  return CUDA_SUCCESS;
}

// body(number of blocks that the card holds), in the context of the configuration's stream.
template <class Body>
CUresult about(const int* out, CUfunction handle, const CUlaunchConfig* config, Body body) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (out == nullptr || config == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    StreamPtr stream;
    if (const CUresult found = resolve_stream(config->hStream, context, stream); found != CUDA_SUCCESS)
      return found;
    std::uint32_t blocks = 0;
    const CUresult counted = blocks_on_card(stream->shared_context(), handle, *config, blocks);
    return counted == CUDA_SUCCESS ? body(blocks) : counted;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuOccupancyMaxActiveClusters(int* clusters, CUfunction function,
                                                     const CUlaunchConfig* config) {
  return about(clusters, function, config, [&](std::uint32_t blocks) {
    ClusterSize size;
    if (const CUresult read = read_cluster_size(*config, size); read != CUDA_SUCCESS)
      return read;
    if (!size.given())
      return CUDA_ERROR_INVALID_VALUE; // no kernel here requires a size of its own
    if (!size.is_one_block())
      return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    *clusters = static_cast<int>(blocks);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuOccupancyMaxPotentialClusterSize(int* size, CUfunction function,
                                                           const CUlaunchConfig* config) {
  return about(size, function, config, [&](std::uint32_t blocks) {
    *size = blocks != 0 ? 1 : 0;
    return CUDA_SUCCESS;
  });
}

} // extern "C"
