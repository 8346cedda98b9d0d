// Addresses to host memory, off the handlers' fast path, and the faults that come of it.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "native/simgpu/exec/block_state.hpp"

namespace aliquot::simgpu::exec {
namespace {

// The stretch of memory around a generic address: device memory, or one of the block's windows.
Range find_range(Context* context, std::uint64_t address) {
  auto window = [](std::uint64_t begin, const char* host, std::uint64_t bytes, bool writable) {
    return Range{begin, begin + bytes,
                 static_cast<std::int64_t>(reinterpret_cast<std::uint64_t>(host) - begin), writable};
  };
  switch (address >> 48) {
  case 0:
    return context->memory->find(address);
  case kSharedWindow >> 48:
    return window(kSharedWindow, context->shared, context->shared_bytes, true);
  case kLocalWindow >> 48:
    return window(kLocalWindow, context->local, context->local_bytes, true);
  case kParameterWindow >> 48:
    return window(kParameterWindow, context->parameters, context->parameter_bytes, false);
  case kGridWindow >> 48: {
    const Launch& launch = *context->block->launch;
    const char* host = reinterpret_cast<const char*>(launch.grid_workspace.data());
    return launch.cooperative ? window(kGridWindow, host, launch.grid_workspace.size(), true) : Range{};
  }
  default:
    return {};
  }
}

bool covers(const Site& site, std::uint64_t address, std::uint64_t bytes) {
  return site.bytes >= bytes && address - site.begin <= site.bytes - bytes;
}

char* host_of(std::uint64_t address, std::int64_t delta) {
  return reinterpret_cast<char*>(address + static_cast<std::uint64_t>(delta));
}

FaultKind kind_of(runtime::Why why) {
  switch (why) {
  case runtime::Why::Illegal:
    return FaultKind::IllegalAddress;
  case runtime::Why::Misaligned:
    return FaultKind::MisalignedAddress;
  case runtime::Why::Trap:
    return FaultKind::Trap;
  case runtime::Why::InvalidPc:
    return FaultKind::InvalidPc;
  case runtime::Why::StackOverflow:
    return FaultKind::StackOverflow;
  case runtime::Why::Space:
    return FaultKind::InvalidAddressSpace;
  case runtime::Why::Assert:
    return FaultKind::Assert;
  }
  return FaultKind::IllegalInstruction;
}

const char* text_of(runtime::Why why) {
  switch (why) {
  case runtime::Why::Illegal:
    return "illegal address ";
  case runtime::Why::Misaligned:
    return "misaligned address ";
  case runtime::Why::Trap:
    return "trap";
  case runtime::Why::InvalidPc:
    return "jump to what is no code ";
  case runtime::Why::StackOverflow:
    return "stack overflow";
  case runtime::Why::Space:
    return "address of the wrong space ";
  case runtime::Why::Assert:
    return "assertion failed";
  }
  return "";
}

std::string hexadecimal(std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

} // namespace

namespace runtime {

bool refill(Context* context, Site* site, std::uint64_t address, bool write) {
  Range range = find_range(context, address);
  if (range.end <= range.begin || address < range.begin || address >= range.end || (write && !range.writable))
    return false;
  *site = {range.begin, range.end - range.begin, range.delta};
  return true;
}

bool resolve(Context* context, const Op* op, const std::uint64_t* addresses, std::uint32_t mask,
             std::uint32_t bytes, bool write, char** pointers) {
  Site site{}; // lanes may take turns between ranges: the shared cache is left to the common case
  for (std::uint32_t left = mask; left; left &= left - 1) {
    std::uint32_t lane = static_cast<std::uint32_t>(__builtin_ctz(left));
    std::uint64_t address = addresses[lane];
    if (!covers(site, address, bytes) &&
        !(refill(context, &site, address, write) && covers(site, address, bytes))) {
      raise(context, op, Why::Illegal, std::uint32_t{1} << lane, address);
      return false;
    }
    if (address & (bytes - 1)) {
      raise(context, op, Why::Misaligned, std::uint32_t{1} << lane, address);
      return false;
    }
    pointers[lane] = host_of(address, site.delta);
  }
  return true;
}

char* stretch(Context* context, std::uint64_t address, bool write, std::uint64_t most, std::uint64_t* bytes) {
  Site site{};
  if (!refill(context, &site, address, write))
    return nullptr;
  *bytes = std::min(most, site.begin + site.bytes - address);
  return host_of(address, site.delta);
}

void raise(Context* context, const Op* op, Why why, std::uint32_t lanes, std::uint64_t address) {
  BlockState& block = *context->block;
  context->leave = Leave::Fault;
  Fault& fault = block.fault;
  fault.kind = kind_of(why);
  fault.address = address;
  std::uint32_t thread = context->warp->index * 32 + static_cast<std::uint32_t>(__builtin_ctz(lanes));
  const Dim3& size = block.launch->block;
  fault.thread[0] = thread % size.x;
  fault.thread[1] = thread / size.x % size.y;
  fault.thread[2] = thread / size.x / size.y;
  std::memcpy(fault.block, block.block, sizeof fault.block);
  fault.message = "kernel " + block.kernel->function->name + ", PTX line " + std::to_string(op->line) +
                  ", block (" + std::to_string(fault.block[0]) + "," + std::to_string(fault.block[1]) + "," +
                  std::to_string(fault.block[2]) + "), thread (" + std::to_string(fault.thread[0]) + "," +
                  std::to_string(fault.thread[1]) + "," + std::to_string(fault.thread[2]) +
                  "): " + text_of(why);
  if (why == Why::Illegal || why == Why::Misaligned || why == Why::InvalidPc || why == Why::Space)
    fault.message += hexadecimal(address);
}

} // namespace runtime

bool read_device(Context* context, std::uint64_t address, void* to, std::size_t bytes) {
  char* out = static_cast<char*>(to);
  while (bytes) {
    Range range = find_range(context, address);
    if (address < range.begin || address >= range.end)
      return false;
    std::size_t part = std::min<std::size_t>(bytes, range.end - address);
    std::memcpy(out, host_of(address, range.delta), part);
    out += part;
    address += part;
    bytes -= part;
  }
  return true;
}

std::string read_device_string(Context* context, std::uint64_t address, std::size_t most) {
  std::string text;
  while (text.size() < most) {
    Range range = find_range(context, address);
    if (address < range.begin || address >= range.end)
      break;
    std::size_t part = std::min<std::size_t>(most - text.size(), range.end - address);
    const char* host = host_of(address, range.delta);
    const void* end = std::memchr(host, 0, part);
    std::size_t length = end ? static_cast<std::size_t>(static_cast<const char*>(end) - host) : part;
    text.append(host, length);
    if (end)
      break;
    address += part;
  }
  return text;
}

} // namespace aliquot::simgpu::exec
