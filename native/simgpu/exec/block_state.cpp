#include "native/simgpu/exec/block_state.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace aliquot::simgpu::exec {

void AlignedDelete::operator()(char* memory) const noexcept {
  std::free(memory);
}

AlignedBytes aligned_bytes(std::size_t size) noexcept {
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, std::max<std::size_t>(size, 128)) != 0)
    return nullptr;
  return AlignedBytes(static_cast<char*>(memory));
}

// One row: 32 lanes of `width` bytes, cut from 64-bit values; width 0 is a predicate's mask word.
void write_row(char* rows, std::uint32_t offset, std::uint8_t width, const std::uint64_t* values) {
  char* to = rows + offset;
  if (width == 0) {
    std::uint32_t bits = 0;
    for (unsigned lane = 0; lane < 32; ++lane)
      bits |= std::uint32_t{values[lane] != 0} << lane;
    std::memcpy(to, &bits, 4);
    return;
  }
  std::uint32_t part = std::min<std::uint32_t>(width, 8);
  for (unsigned lane = 0; lane < 32; ++lane)
    std::memcpy(to + lane * part, &values[lane], part);
  if (width == 16)
    std::memset(to + 256, 0, 256); // the high halves of 128-bit constants
}

namespace {

void write_constants(const Function& function, char* rows) {
  std::uint64_t values[32];
  for (const ConstantRow& row : function.constants) {
    std::fill_n(values, 32, row.bits);
    write_row(rows, row.offset, row.width, values);
  }
}

void write_launch_row(const BlockState& block, const Warp& warp, const LaunchRow& row, char* rows) {
  std::uint64_t values[32];
  if (row.parameter) {
    std::uint64_t value = 0;
    std::uint32_t at = row.which & ~kByteParameter;
    std::uint32_t bytes = row.which & kByteParameter ? 1 : std::min<std::uint32_t>(row.width, 8);
    const std::vector<std::uint8_t>& parameters = block.launch->parameters;
    if (at < parameters.size())
      std::memcpy(&value, parameters.data() + at, std::min<std::size_t>(bytes, parameters.size() - at));
    std::fill_n(values, 32, value);
  } else {
    special_values(block, warp, 0, static_cast<Special>(row.which), values);
    for (std::uint64_t& value : values)
      value += row.addend;
  }
  write_row(rows, row.offset, row.width, values);
}

bool changes_by_block(const LaunchRow& row) {
  Special which = static_cast<Special>(row.which);
  return !row.parameter && which >= Special::CtaidX && which <= Special::CtaidZ;
}

} // namespace

bool BlockState::set_up(const Launch& new_launch, const CompiledProgram& new_program) {
  launch = &new_launch;
  program = &new_program;
  kernel = &program->kernels_[launch->kernel];
  const KernelInfo& info = program->kernel_infos[launch->kernel];
  const Function& function = *kernel->function;
  threads = launch->block.x * launch->block.y * launch->block.z;
  std::uint32_t warp_count = (threads + 31) / 32;
  static_shared = (info.static_shared_bytes + 15) & ~15u;
  shared_bytes = (launch->dynamic_shared_bytes ? static_shared : info.static_shared_bytes) +
                 launch->dynamic_shared_bytes;
  local_stride = kernel->local_bytes;
  frame_stride = sizeof(FrameHeader) + function.frame_bytes;
  frame_stride = (frame_stride + 127) & ~std::size_t{127};
  constexpr std::size_t slack = 128; // that loads may read, never use, behind the last byte (ops_memory.cpp)
  frames = aligned_bytes(frame_stride * warp_count);
  shared = aligned_bytes(shared_bytes + slack);
  local = {static_cast<char*>(std::calloc(std::size_t{local_stride} * warp_count * 32 + slack, 1)),
           std::free};
  if (!frames || !shared || !local)
    return false;
  std::memset(shared.get(), 0, shared_bytes + slack);
  warps.assign(warp_count, Warp{});
  free_frames.assign(program->functions.size(), nullptr);
  std::memset(frames.get(), 0, frame_stride * warp_count);
  for (std::uint32_t i = 0; i < warp_count; ++i) {
    warps[i].index = i;
    FrameHeader* frame = header_of(kernel_rows(i));
    *frame = FrameHeader{};
    frame->function = &function;
    write_constants(function, kernel_rows(i));
    for (const LaunchRow& row : function.launch_rows)
      if (!changes_by_block(row))
        write_launch_row(*this, warps[i], row, kernel_rows(i));
  }
  return true;
}

void BlockState::start(std::uint64_t new_number, std::uint32_t new_sm) {
  number = new_number;
  sm = new_sm;
  cursor = 0;
  block[0] = static_cast<std::uint32_t>(number % launch->grid.x);
  block[1] = static_cast<std::uint32_t>(number / launch->grid.x % launch->grid.y);
  block[2] = static_cast<std::uint32_t>(number / launch->grid.x / launch->grid.y);
  live_threads = threads;
  barriers = {};
  const Function& function = *kernel->function;
  for (Warp& warp : warps) {
    std::uint32_t lanes = std::min(threads - warp.index * 32, 32u);
    warp.live = lanes == 32 ? kFullMask : (1u << lanes) - 1;
    warp.group_count = 0;
    warp.spinning = warp.fair = false;
    warp.ran = warp.turn_start = warp.last_poll = warp.polls = 0;
    for (const LaunchRow& row : function.launch_rows)
      if (changes_by_block(row))
        write_launch_row(*this, warp, row, kernel_rows(warp.index));
    header_of(kernel_rows(warp.index))->live = warp.live;
    add_group(warp, function.ops.data(), kernel_rows(warp.index), warp.live);
  }
}

FrameHeader* BlockState::new_frame(const Function& function) {
  FrameHeader*& free = free_frames[function.index];
  if (free) {
    FrameHeader* frame = free;
    free = frame->next_free;
    return frame;
  }
  std::size_t size = sizeof(FrameHeader) + function.frame_bytes;
  AlignedBytes memory = aligned_bytes(size);
  if (!memory)
    return nullptr;
  std::memset(memory.get(), 0, size);
  FrameHeader* frame = new (memory.get()) FrameHeader{};
  frame->function = &function;
  write_constants(function, rows_of(frame));
  call_frame_bytes += size;
  call_frames.push_back(std::move(memory));
  return frame;
}

void BlockState::free_frame(FrameHeader* frame) {
  FrameHeader*& free = free_frames[frame->function->index];
  frame->next_free = free;
  free = frame;
}

} // namespace aliquot::simgpu::exec
