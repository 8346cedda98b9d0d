#include "native/simgpu/driver/occupancy.hpp"

#include <algorithm>
#include <limits>

#include "native/simgpu/driver/device_attributes.hpp"
#include "native/simgpu/driver/resolve_function.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

constexpr std::uint32_t kWarp = 32, kPartitions = 4, kRegisterUnit = 256, kMostThreads = 1024;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

std::uint64_t shared_unit(const Device& device) noexcept {
  return device.capability() >= 80 ? 128 : 256;
}

// Warps that fit by registers; each partition has its own quarter of the file.
std::uint32_t warps_by_registers(const Device& device, const exec::KernelInfo& info) noexcept {
  if (info.registers == 0)
    return std::numeric_limits<std::uint32_t>::max();
  const std::uint64_t per_warp = round_up(std::uint64_t{info.registers} * kWarp, kRegisterUnit);
  return static_cast<std::uint32_t>(device.model.registers_per_sm / kPartitions / per_warp * kPartitions);
}

std::uint64_t shared_of_a_block(const Device& device, std::uint64_t bytes) noexcept {
  return round_up(bytes + reserved_shared_bytes(device.capability()), shared_unit(device));
}

struct Question {
  const Device& device;
  const exec::KernelInfo& info;
  const KernelSettings& settings;
};

template <class Body>
CUresult about(CUfunction handle, Body body) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    ResolvedFunction resolved;
    if (const CUresult found = resolve_function(driver, handle, context, resolved); found != CUDA_SUCCESS)
      return found;
    return body(Question{context->device(), resolved.function->info(), *resolved.settings});
  });
}

CUresult active_blocks(int* out, CUfunction handle, int threads, std::size_t shared, unsigned flags) {
  return about(handle, [&](const Question& about) {
    if (out == nullptr || threads <= 0 || flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
      return CUDA_ERROR_INVALID_VALUE;
    *out = static_cast<int>(
        blocks_per_multiprocessor(about.device, about.info, static_cast<std::uint32_t>(threads), shared));
    return CUDA_SUCCESS;
  });
}

// The block size with the most resident threads; of equal ones the largest, as the vendor's calculator
// chooses.
CUresult best_block(int* grid, int* block, CUfunction handle, CUoccupancyB2DSize shared_of,
                    std::size_t shared, int limit) {
  return about(handle, [&](const Question& about) {
    if (grid == nullptr || block == nullptr || limit < 0)
      return CUDA_ERROR_INVALID_VALUE;
    std::uint32_t most = largest_block(about.device, about.info);
    if (limit > 0)
      most = std::min(most, static_cast<std::uint32_t>(limit));
    std::uint32_t best_threads = 0, best_resident = 0;
    for (std::uint32_t threads = static_cast<std::uint32_t>(round_up(most, kWarp)); threads != 0;
         threads -= kWarp) {
      const std::uint32_t tried = std::min(threads, most);
      const std::size_t bytes = shared_of != nullptr ? shared_of(static_cast<int>(tried)) : shared;
      const std::uint32_t blocks = blocks_per_multiprocessor(about.device, about.info, tried, bytes);
      if (blocks * tried <= best_resident)
        continue;
      best_resident = blocks * tried;
      best_threads = tried;
      *grid = static_cast<int>(blocks * about.device.model.sm_count);
    }
    if (best_threads == 0)
      return CUDA_ERROR_INVALID_VALUE;
    *block = static_cast<int>(best_threads);
    return CUDA_SUCCESS;
  });
}

} // namespace

namespace aliquot::simgpu::driver {

std::uint32_t largest_block(const Device& device, const exec::KernelInfo& info) noexcept {
  const std::uint64_t by_registers = std::uint64_t{warps_by_registers(device, info)} * kWarp;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>({kMostThreads, info.max_threads, by_registers}));
}

std::uint32_t dynamic_shared_limit(const Device& device, const exec::KernelInfo& info,
                                   const KernelSettings& settings) noexcept {
  // Without opting in, static and dynamic shared memory together have 48 KiB.
  const auto asked = static_cast<std::uint32_t>(settings.max_dynamic_shared_bytes.load());
  const std::uint32_t standard = device.model.shared_per_block_bytes;
  const std::uint32_t unasked = standard > info.static_shared_bytes ? standard - info.static_shared_bytes : 0;
  return asked != 0 ? asked : unasked;
}

std::uint32_t blocks_per_multiprocessor(const Device& device, const exec::KernelInfo& info,
                                        std::uint32_t threads, std::uint64_t dynamic_shared_bytes) noexcept {
  if (threads == 0 || threads > largest_block(device, info))
    return 0;
  const std::uint64_t shared_bytes = info.static_shared_bytes + dynamic_shared_bytes;
  if (shared_bytes < dynamic_shared_bytes || shared_bytes > device.model.shared_per_block_optin_bytes)
    return 0;
  const auto warps = static_cast<std::uint32_t>((threads + kWarp - 1) / kWarp);
  const std::uint32_t by_threads = device.model.threads_per_sm / kWarp / warps;
  const std::uint32_t by_registers = warps_by_registers(device, info) / warps;
  const std::uint64_t shared = shared_of_a_block(device, shared_bytes);
  const auto by_shared = static_cast<std::uint32_t>(shared == 0 ? device.model.blocks_per_sm
                                                                : device.model.shared_per_sm_bytes / shared);
  return std::min({device.model.blocks_per_sm, by_threads, by_registers, by_shared});
}

} // namespace aliquot::simgpu::driver

extern "C" {

ALIQUOT_EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function,
                                                                    int threads, size_t shared) {
  return active_blocks(blocks, function, threads, shared, 0);
}

ALIQUOT_EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction function,
                                                                             int threads, size_t shared,
                                                                             unsigned int flags) {
  return active_blocks(blocks, function, threads, shared, flags);
}

ALIQUOT_EXPORT CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction function,
                                                         CUoccupancyB2DSize shared_of, size_t shared,
                                                         int limit) {
  return best_block(grid, block, function, shared_of, shared, limit);
}

ALIQUOT_EXPORT CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* grid, int* block, CUfunction function,
                                                                  CUoccupancyB2DSize shared_of, size_t shared,
                                                                  int limit, unsigned int flags) {
  if (flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
    return CUDA_ERROR_INVALID_VALUE;
  return best_block(grid, block, function, shared_of, shared, limit);
}

// What is left of a multiprocessor's shared memory for each of so many blocks.
ALIQUOT_EXPORT CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, CUfunction function,
                                                                int blocks, int threads) {
  return about(function, [&](const Question& about) {
    if (bytes == nullptr || blocks <= 0 || threads <= 0)
      return CUDA_ERROR_INVALID_VALUE;
    const auto wanted = static_cast<std::uint32_t>(blocks);
    if (blocks_per_multiprocessor(about.device, about.info, static_cast<std::uint32_t>(threads), 0) < wanted)
      return CUDA_ERROR_INVALID_VALUE;
    const machine::CardModel& model = about.device.model;
    const std::uint64_t unit = shared_unit(about.device);
    const std::uint64_t taken =
        reserved_shared_bytes(about.device.capability()) + about.info.static_shared_bytes;
    const std::uint64_t each = model.shared_per_sm_bytes / wanted / unit * unit;
    const std::uint64_t left = each > taken ? each - taken : 0;
    const std::uint64_t most = model.shared_per_block_optin_bytes - about.info.static_shared_bytes;
    *bytes = std::min(left, most);
    return CUDA_SUCCESS;
  });
}

} // extern "C"
