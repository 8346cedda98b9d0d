// Block barriers, sleeping, special registers.
#include <time.h>

#include <algorithm>

#include "native/simgpu/exec/block_state.hpp"

namespace aliquot::simgpu::exec {

std::uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000000000u + static_cast<std::uint64_t>(now.tv_nsec);
}

namespace {

std::uint64_t wall_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000000000u + static_cast<std::uint64_t>(now.tv_nsec);
}

bool opens(const BlockState& block, const BarrierState& barrier) {
  std::uint32_t expected =
      barrier.expected ? std::min(barrier.expected, block.live_threads) : block.live_threads;
  return barrier.arrived != 0 && barrier.arrived >= expected;
}

void open(BlockState& block, std::uint32_t id) {
  BarrierState& barrier = block.barriers[id];
  barrier.result = barrier.kind == 2 ? barrier.count : barrier.kind == 3 ? barrier.all : barrier.any;
  barrier.arrived = barrier.count = barrier.any = 0;
  barrier.all = 1;
  for (Warp& warp : block.warps)
    for (std::uint32_t i = 0; i < warp.group_count; ++i)
      if (warp.groups[i].state == Group::State::AtBarrier && warp.groups[i].which == id) {
        warp.groups[i].state = Group::State::Ready;
        warp.groups[i].which = 0;
      }
}

// How long the warp should sleep for before it looks again, 0 where it does not seem to wait at all. The
// longer it has waited and the more warps do, the longer the nap: together they take a fraction of a core,
// and a wait ends late by a small part of its length.
std::uint64_t nap_ns(Context* context) {
  constexpr std::uint64_t kNear = 256; // own PTX instructions between two polls of one loop
  constexpr std::uint32_t kPatience = 32;
  constexpr std::uint64_t kShortest = 20000, kLongest = 500000, kEachWarp = 4000;
  Warp& warp = *context->warp;
  std::uint64_t own = warp.ran + context->steps - warp.turn_start;
  warp.polls = own - warp.last_poll < kNear ? warp.polls + 1 : 0;
  warp.last_poll = own;
  if (warp.polls < kPatience)
    return 0;
  std::uint64_t now = monotonic_ns();
  if (warp.polls == kPatience)
    warp.waits_since = now;
  const BlockState& block = *context->block;
  std::uint64_t warps = block.warps.size();
  if (block.sleeping_blocks)
    warps *= 1 + block.sleeping_blocks->load(std::memory_order_relaxed);
  return std::max(std::clamp((now - warp.waits_since) / 32, kShortest, kLongest), warps * kEachWarp);
}

void go_on(Context* context, const Op* to, char* rows, std::uint32_t mask) {
  context->op = to;
  context->rows = rows;
  context->mask = mask;
}

void sleep_for(Context* context, const Op* to, char* rows, std::uint32_t mask, std::uint64_t nanoseconds) {
  Warp& warp = *context->warp;
  add_group(warp, to, rows, mask, Group::State::Asleep, 0, monotonic_ns() + nanoseconds);
  pick_group(context, warp);
}

} // namespace

void threads_left(BlockState& block) {
  for (std::uint32_t id = 0; id < kBarriers; ++id)
    if (opens(block, block.barriers[id]))
      open(block, id);
}

void special_values(const BlockState& block, const Warp& warp, std::uint32_t local_base, Special which,
                    std::uint64_t* values) {
  const Launch& launch = *block.launch;
  auto all = [&](std::uint64_t value) { std::fill_n(values, 32, value); };
  auto each = [&](auto f) {
    for (std::uint32_t lane = 0; lane < 32; ++lane)
      values[lane] = f(lane, warp.index * 32 + lane);
  };
  switch (which) {
  case Special::NtidX:
    return all(launch.block.x);
  case Special::NtidY:
    return all(launch.block.y);
  case Special::NtidZ:
    return all(launch.block.z);
  case Special::NctaidX:
    return all(launch.grid.x);
  case Special::NctaidY:
    return all(launch.grid.y);
  case Special::NctaidZ:
    return all(launch.grid.z);
  case Special::CtaidX:
    return all(block.block[0]);
  case Special::CtaidY:
    return all(block.block[1]);
  case Special::CtaidZ:
    return all(block.block[2]);
  case Special::NwarpId:
    return all((block.threads + 31) / 32);
  case Special::NsmId:
    return all(launch.sm_count);
  case Special::GridId:
    return all(1);
  case Special::DynamicShared:
    return all(launch.dynamic_shared_bytes);
  case Special::TotalShared:
    return all(block.shared_bytes);
  case Special::DynamicSharedBase:
    return all(block.static_shared);
  case Special::GridWorkspaceHigh:
    return all(launch.cooperative ? kGridWindow >> 32 : 0);
  case Special::GridWorkspaceLow:
    return all(launch.cooperative ? kGridWindow & 0xFFFFFFFF : 0);
  case Special::Zero:
    return all(0);
  case Special::One:
    return all(1);
  case Special::TidX:
    return each([&](std::uint32_t, std::uint32_t t) { return t % launch.block.x; });
  case Special::TidY:
    return each([&](std::uint32_t, std::uint32_t t) { return t / launch.block.x % launch.block.y; });
  case Special::TidZ:
    return each([&](std::uint32_t, std::uint32_t t) { return t / launch.block.x / launch.block.y; });
  case Special::LaneId:
    return each([](std::uint32_t lane, std::uint32_t) { return lane; });
  case Special::WarpId:
    return all(warp.index);
  case Special::LaneMaskEq:
    return each([](std::uint32_t lane, std::uint32_t) { return 1u << lane; });
  case Special::LaneMaskLe:
    return each([](std::uint32_t lane, std::uint32_t) { return ~0u >> (31 - lane); });
  case Special::LaneMaskLt:
    return each([](std::uint32_t lane, std::uint32_t) { return (1u << lane) - 1; });
  case Special::LaneMaskGe:
    return each([](std::uint32_t lane, std::uint32_t) { return ~0u << lane; });
  case Special::LaneMaskGt:
    return each([](std::uint32_t lane, std::uint32_t) { return ~1u << lane; });
  case Special::LocalBase:
    return each(
        [&](std::uint32_t, std::uint32_t t) { return std::uint64_t{t} * block.local_stride + local_base; });
  case Special::SmId:
    return all(block.sm);
  case Special::Clock:
  case Special::ClockHigh:
  case Special::Clock64: {
    std::uint64_t ns = monotonic_ns();
    std::uint64_t cycles = ns / 1000000 * launch.clock_khz + ns % 1000000 * launch.clock_khz / 1000000;
    return all(which == Special::ClockHigh ? cycles >> 32 : cycles);
  }
  case Special::GlobalTimer:
  case Special::GlobalTimerLow:
    return all(wall_ns());
  case Special::GlobalTimerHigh:
    return all(wall_ns() >> 32);
  }
  all(0);
}

namespace runtime {

void special(Context* context, char* rows, std::uint32_t which, std::uint64_t* values) {
  Special what = static_cast<Special>(which);
  special_values(*context->block, *context->warp, header_of(rows)->local_base, what, values);
}

void sleep(Context* context, const Op* to, char* rows, std::uint32_t mask, std::uint64_t nanoseconds) {
  constexpr std::uint64_t kLongest = 1000000; // PTX ISA, nanosleep: at most a millisecond
  sleep_for(context, to, rows, mask, std::max(std::min(nanoseconds, kLongest), nap_ns(context)));
}

void rest(Context* context, const Op* to, char* rows, std::uint32_t mask) {
  if (std::uint64_t nap = nap_ns(context))
    sleep_for(context, to, rows, mask, nap);
  else
    go_on(context, to, rows, mask);
}

void yield(Context* context, const Op* to, char* rows, std::uint32_t mask) {
  sleep_for(context, to, rows, mask, 0);
}

void barrier(Context* context, const Op* op, char* rows, std::uint32_t mask, std::uint32_t id,
             std::uint32_t threads, unsigned kind, std::uint32_t predicate) {
  constexpr unsigned kArrive = 1;
  BlockState& block = *context->block;
  if (id >= kBarriers) {
    raise(context, op, Why::InvalidPc, mask, id);
    context->op = nullptr;
    return;
  }
  BarrierState& state = block.barriers[id];
  if (state.arrived == 0) {
    state.count = state.any = 0;
    state.all = 1;
  }
  std::uint32_t ayes = static_cast<std::uint32_t>(__builtin_popcount(predicate & mask));
  state.kind = static_cast<std::uint8_t>(kind);
  state.expected = threads;
  state.count += ayes;
  state.any |= ayes != 0;
  state.all &= (predicate & mask) == mask;
  state.arrived += static_cast<std::uint32_t>(__builtin_popcount(mask));
  Warp& warp = *context->warp;
  bool waits = kind != kArrive;
  add_group(warp, op + 1, rows, mask, waits ? Group::State::AtBarrier : Group::State::Ready, waits ? id : 0);
  if (opens(block, state))
    open(block, id);
  pick_group(context, warp);
}

std::uint32_t barrier_result(Context* context, std::uint32_t id) {
  return context->block->barriers[id % kBarriers].result;
}

} // namespace runtime
} // namespace aliquot::simgpu::exec
