// A block under way: its warps, their groups of lanes, frames, shared and local memory. All of it is data, so
// a block can be left at any step budget and taken up again by another host thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "native/simgpu/exec/program.hpp"

namespace aliquot::simgpu::exec {

// One activation of a function, in front of its rows.
struct alignas(128) FrameHeader {
  FrameHeader* parent;
  const Op* return_op;
  const CallSite* site;
  const Function* function;
  FrameHeader* next_free;
  std::uint32_t depth;
  std::uint32_t local_base; // byte offset in each thread's local memory
  std::uint32_t live;       // lanes that have neither returned nor exited
};
inline FrameHeader* header_of(char* rows) {
  return reinterpret_cast<FrameHeader*>(rows) - 1;
}
inline char* rows_of(FrameHeader* frame) {
  return reinterpret_cast<char*>(frame + 1);
}

// Lanes of a warp that are at the same place.
struct Group {
  enum class State : std::uint8_t { Ready, AtBarrier, AtWarpSync, Asleep };
  const Op* pc;
  char* rows;
  std::uint32_t mask;
  State state;
  std::uint32_t which; // barrier number, or members of the warp-wide operation
  std::uint64_t wake_ns;
};

struct Warp {
  std::array<Group, 32> groups;
  std::uint32_t group_count;
  std::uint32_t index;
  std::uint32_t live; // lanes that have not exited
  std::uint32_t turn; // for taking turns between groups that spin
  bool spinning;
  bool fair;
  // Waiting for time to pass is seen by timers read and naps taken in quick succession.
  std::uint64_t ran, turn_start; // own PTX instructions before this turn; the thread's count at its start
  std::uint64_t last_poll;       // own instructions at the last such operation
  std::uint64_t waits_since;     // ns
  std::uint32_t polls;
};

struct BarrierState {
  std::uint32_t arrived, expected; // expected 0: all live threads
  std::uint32_t count, all, any;
  std::uint32_t result;
  std::uint8_t kind;
};
inline constexpr std::uint32_t kBarriers = 16;

struct AlignedDelete {
  void operator()(char* memory) const noexcept;
};
using AlignedBytes = std::unique_ptr<char, AlignedDelete>;
AlignedBytes aligned_bytes(std::size_t size) noexcept; // null where the host has none

struct BlockState {
  const Launch* launch = nullptr;
  const CompiledProgram* program = nullptr;
  const Kernel* kernel = nullptr;
  std::uint64_t number = 0;
  std::uint32_t block[3] = {};
  std::uint32_t threads = 0;
  std::uint32_t live_threads = 0;
  std::uint32_t cursor = 0; // the warp to run next
  std::uint32_t sm = 0;
  std::vector<Warp> warps;
  AlignedBytes frames;
  std::size_t frame_stride = 0;
  AlignedBytes shared;
  std::uint32_t shared_bytes = 0, static_shared = 0;
  std::unique_ptr<char, void (*)(void*)> local{nullptr, nullptr};
  std::uint32_t local_stride = 0;
  std::array<BarrierState, kBarriers> barriers{};
  std::vector<FrameHeader*> free_frames; // by function
  std::vector<AlignedBytes> call_frames;
  std::size_t call_frame_bytes = 0;
  std::uint64_t wake_ns = 0;                                   // while asleep: when its first warp wakes
  const std::atomic<std::uint32_t>* sleeping_blocks = nullptr; // of the grid
  Fault fault;

  // Memory and everything that holds for all blocks of the launch. False where the host lacks memory.
  bool set_up(const Launch& launch, const CompiledProgram& program);
  // Back to the first instruction, as block `number` of the grid.
  void start(std::uint64_t number, std::uint32_t sm);

  char* kernel_rows(std::uint32_t warp) { return frames.get() + warp * frame_stride + sizeof(FrameHeader); }
  FrameHeader* new_frame(const Function& function);
  void free_frame(FrameHeader* frame);
};

// --- groups.cpp ---

// Adds lanes that wait at `pc`, merging them with those already there.
void add_group(Warp& warp, const Op* pc, char* rows, std::uint32_t mask,
               Group::State state = Group::State::Ready, std::uint32_t which = 0, std::uint64_t wake_ns = 0);
// Takes the group to run next out of the warp and into the context; without one, leaves.
void pick_group(Context* context, Warp& warp);
bool has_ready(Warp& warp, std::uint64_t now_ns);
// When the first sleeping group of the block wakes; ~0 where none sleeps.
std::uint64_t first_wake(const BlockState& block);

// --- sync.cpp ---

void threads_left(BlockState& block); // after an exit: barriers may open

std::uint64_t monotonic_ns();
void write_row(char* rows, std::uint32_t offset, std::uint8_t width, const std::uint64_t* values);
void special_values(const BlockState& block, const Warp& warp, std::uint32_t local_base, Special which,
                    std::uint64_t* values);

// print.cpp: one device printf call of one lane.
std::string format_printf(Context* context, std::uint64_t format, std::uint64_t arguments);

namespace runtime { // device malloc and free
void malloc_lanes(Context* context, const CallSite& site, char* rows, std::uint32_t mask);
bool free_lanes(Context* context, const Op* op, const CallSite& site, char* rows, std::uint32_t mask);
} // namespace runtime
// Reads device memory, generic addresses included; false where it is not mapped.
bool read_device(Context* context, std::uint64_t address, void* to, std::size_t bytes);
std::string read_device_string(Context* context, std::uint64_t address, std::size_t most);

} // namespace aliquot::simgpu::exec
