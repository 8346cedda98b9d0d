// Device malloc and free: the calls into the device runtime, lane by lane. The heap itself is the driver's.
#include <cstring>

#include "native/simgpu/exec/block_state.hpp"
#include "native/simgpu/exec/device_heap.hpp"

namespace aliquot::simgpu::exec {

bool uses_device_heap(const ptx::Module& module) {
  for (const ptx::Function& function : module.functions)
    if (!function.has_body && (function.name == "malloc" || function.name == "free"))
      return true;
  return false;
}

namespace runtime {
namespace {

constexpr std::uint32_t kTwoWords = 256; // bytes of a 64-bit value's two rows

// What is passed may be declared narrower than the function says.
std::uint64_t read_value(const char* rows, const FrameSlot& slot, std::uint32_t lane) {
  std::uint32_t low = 0, high = 0;
  std::memcpy(&low, rows + slot.offset + lane * 4, 4);
  if (slot.bytes >= kTwoWords)
    std::memcpy(&high, rows + slot.offset + 128 + lane * 4, 4);
  return std::uint64_t{high} << 32 | low;
}

void write_value(char* rows, const FrameSlot& slot, std::uint32_t lane, std::uint64_t value) {
  const std::uint32_t low = static_cast<std::uint32_t>(value), high = static_cast<std::uint32_t>(value >> 32);
  std::memcpy(rows + slot.offset + lane * 4, &low, 4);
  if (slot.bytes >= kTwoWords)
    std::memcpy(rows + slot.offset + 128 + lane * 4, &high, 4);
}

} // namespace

// With other parameters than its own it does nothing.
void malloc_lanes(Context* context, const CallSite& site, char* rows, std::uint32_t mask) {
  DeviceHeap* heap = context->block->launch->heap;
  if (site.arguments.empty() || site.results.empty())
    return;
  for (std::uint32_t left = mask; left; left &= left - 1) {
    const std::uint32_t lane = static_cast<std::uint32_t>(__builtin_ctz(left));
    const std::uint64_t bytes = read_value(rows, site.arguments[0], lane);
    write_value(rows, site.results[0], lane, heap ? heap->allocate(bytes) : 0);
  }
}

// False where a lane frees what is not allocated.
bool free_lanes(Context* context, const Op* op, const CallSite& site, char* rows, std::uint32_t mask) {
  DeviceHeap* heap = context->block->launch->heap;
  if (site.arguments.empty())
    return true;
  for (std::uint32_t left = mask; left; left &= left - 1) {
    const std::uint32_t lane = static_cast<std::uint32_t>(__builtin_ctz(left));
    const std::uint64_t address = read_value(rows, site.arguments[0], lane);
    if (address == 0 || (heap && heap->release(address)))
      continue;
    raise(context, op, Why::Illegal, 1u << lane, address);
    return false;
  }
  return true;
}

} // namespace runtime
} // namespace aliquot::simgpu::exec
