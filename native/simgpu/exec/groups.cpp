// Divergence: groups of lanes of one warp at different places, who runs next, and where they meet again.
//
// The group with the deepest call, then the smallest pc, runs first; code is laid out (cfg.cpp) so that the
// others then wait at or after the point where they join. Groups that spin on each other take turns instead.
#include <algorithm>
#include <cstring>

#include "native/simgpu/exec/block_state.hpp"

namespace aliquot::simgpu::exec {
namespace {

constexpr std::uint32_t kDeepest = 1024;                        // activations of one thread
constexpr std::size_t kMostCallFrames = std::size_t{256} << 20; // bytes a block

std::uint32_t depth_of(const Group& group) {
  return header_of(group.rows)->depth;
}

bool before(const Group& a, const Group& b) {
  std::uint32_t da = depth_of(a), db = depth_of(b);
  return da != db ? da > db : a.pc < b.pc;
}

void remove_group(Warp& warp, std::uint32_t at) {
  warp.groups[at] = warp.groups[--warp.group_count];
}

std::uintptr_t next_in_frame(const Warp& warp, const char* rows) {
  std::uintptr_t first = UINTPTR_MAX;
  for (std::uint32_t i = 0; i < warp.group_count; ++i)
    if (warp.groups[i].state == Group::State::Ready && warp.groups[i].rows == rows)
      first = std::min(first, reinterpret_cast<std::uintptr_t>(warp.groups[i].pc));
  return first;
}

void leave(Context* context, Leave why) {
  context->op = nullptr;
  context->leave = why;
}

// Nothing else can run: lanes that a warp-wide operation waits for will not come. It runs with those present.
bool release_warp_sync(Warp& warp) {
  std::uint32_t chosen = ~0u;
  for (std::uint32_t i = 0; i < warp.group_count; ++i) {
    if (warp.groups[i].state != Group::State::AtWarpSync)
      return false;
    if (chosen == ~0u || before(warp.groups[i], warp.groups[chosen]))
      chosen = i;
  }
  if (chosen == ~0u)
    return false;
  warp.groups[chosen].state = Group::State::Ready;
  warp.groups[chosen].which = 1; // do not wait again
  return true;
}

std::uint32_t choose(Warp& warp) {
  std::uint32_t best = ~0u, ready = 0;
  for (std::uint32_t i = 0; i < warp.group_count; ++i) {
    if (warp.groups[i].state != Group::State::Ready)
      continue;
    ++ready;
    if (best == ~0u || before(warp.groups[i], warp.groups[best]))
      best = i;
  }
  if (!warp.fair || ready < 2)
    return best;
  std::uint32_t skip = warp.turn++ % ready;
  for (std::uint32_t i = 0; i < warp.group_count; ++i)
    if (warp.groups[i].state == Group::State::Ready && skip-- == 0)
      return i;
  return best;
}

} // namespace

void add_group(Warp& warp, const Op* pc, char* rows, std::uint32_t mask, Group::State state,
               std::uint32_t which, std::uint64_t wake_ns) {
  for (std::uint32_t i = 0; i < warp.group_count; ++i) {
    Group& group = warp.groups[i];
    if (group.pc == pc && group.rows == rows && group.state == state && group.which == which &&
        state != Group::State::Asleep) {
      group.mask |= mask;
      return;
    }
  }
  warp.groups[warp.group_count++] = Group{pc, rows, mask, state, which, wake_ns};
}

void pick_group(Context* context, Warp& warp) {
  std::uint32_t best = choose(warp);
  if (best == ~0u && release_warp_sync(warp))
    best = choose(warp);
  if (best == ~0u) {
    leave(context, warp.group_count ? Leave::Blocked : Leave::Finished);
    return;
  }
  Group group = warp.groups[best];
  remove_group(warp, best);
  for (std::uint32_t i = warp.group_count; i-- > 0;) {
    const Group& other = warp.groups[i];
    if (other.state == Group::State::Ready && other.pc == group.pc && other.rows == group.rows) {
      group.mask |= other.mask;
      remove_group(warp, i);
    }
  }
  context->op = group.pc;
  context->rows = group.rows;
  context->mask = group.mask;
  context->forced_sync = group.which == 1;
  context->reconverge = warp.fair ? UINTPTR_MAX : next_in_frame(warp, group.rows);
}

std::uint64_t first_wake(const BlockState& block) {
  std::uint64_t first = ~std::uint64_t{0};
  for (const Warp& warp : block.warps)
    for (std::uint32_t i = 0; i < warp.group_count; ++i)
      if (warp.groups[i].state == Group::State::Asleep)
        first = std::min(first, warp.groups[i].wake_ns);
  return first;
}

bool has_ready(Warp& warp, std::uint64_t now_ns) {
  bool only_sync = warp.group_count != 0, ready = false;
  for (std::uint32_t i = 0; i < warp.group_count; ++i) {
    Group& group = warp.groups[i];
    if (group.state == Group::State::Asleep && group.wake_ns <= now_ns)
      group.state = Group::State::Ready;
    ready |= group.state == Group::State::Ready;
    only_sync &= group.state == Group::State::AtWarpSync;
  }
  return ready || only_sync;
}

namespace runtime {

void diverge(Context* context, const Op* taken, const Op* fallen, char* rows, std::uint32_t mask,
             std::uint32_t taken_mask) {
  Warp& warp = *context->warp;
  add_group(warp, taken, rows, taken_mask);
  add_group(warp, fallen, rows, mask & ~taken_mask);
  pick_group(context, warp);
}

void transfer(Context* context, const Op* to, char* rows, std::uint32_t mask) {
  Warp& warp = *context->warp;
  if (warp.group_count == 0) {
    context->op = to;
    context->rows = rows;
    context->mask = mask;
    context->reconverge = UINTPTR_MAX;
    return;
  }
  add_group(warp, to, rows, mask);
  pick_group(context, warp);
}

void budget(Context* context, const Op* to, char* rows, std::uint32_t mask) {
  add_group(*context->warp, to, rows, mask);
  leave(context, Leave::Budget);
}

// --- Calls ---

namespace {

void copy_words(char* to, const FrameSlot& to_slot, const char* from, const FrameSlot& from_slot) {
  std::memcpy(to + to_slot.offset, from + from_slot.offset, std::min(to_slot.bytes, from_slot.bytes));
}

// Only the lanes of `mask`: the others' results belong to them.
void copy_words_masked(char* to, const FrameSlot& to_slot, const char* from, const FrameSlot& from_slot,
                       std::uint32_t mask) {
  std::uint32_t words = std::min(to_slot.bytes, from_slot.bytes) / 128;
  for (std::uint32_t w = 0; w < words; ++w)
    for (std::uint32_t left = mask; left; left &= left - 1) {
      std::uint32_t at = w * 128 + static_cast<std::uint32_t>(__builtin_ctz(left)) * 4;
      std::memcpy(to + to_slot.offset + at, from + from_slot.offset + at, 4);
    }
}

void enter_callee(Context* context, const Op* op, char* rows, std::uint32_t mask, const CallSite& site,
                  const Function& callee) {
  BlockState& block = *context->block;
  FrameHeader* caller = header_of(rows);
  std::uint32_t local = caller->local_base + caller->function->local_bytes;
  FrameHeader* frame = nullptr;
  if (caller->depth + 1 < kDeepest && local + callee.local_bytes <= block.local_stride &&
      block.call_frame_bytes < kMostCallFrames)
    frame = block.new_frame(callee);
  if (!frame) {
    raise(context, op, Why::StackOverflow, mask, 0);
    context->op = nullptr;
    return;
  }
  frame->parent = caller;
  frame->return_op = op + 1;
  frame->site = &site;
  frame->depth = caller->depth + 1;
  frame->local_base = local;
  frame->live = mask;
  for (std::size_t i = 0; i < callee.parameters.size() && i < site.arguments.size(); ++i)
    copy_words(rows_of(frame), callee.parameters[i], rows, site.arguments[i]);
  context->op = callee.ops.data();
  context->rows = rows_of(frame);
  context->mask = mask;
  context->reconverge = UINTPTR_MAX;
  if (context->steps >= context->step_limit)
    budget(context, context->op, context->rows, mask);
}

} // namespace

void call(Context* context, const Op* op, char* rows, std::uint32_t mask) {
  const CallSite& site = *static_cast<const CallSite*>(op->pointer);
  enter_callee(context, op, rows, mask, site, *site.callee);
}

// Lanes may call different functions: those of the first lane's go now, the rest come back here.
void call_indirect(Context* context, const Op* op, char* rows, std::uint32_t mask) {
  const CallSite& site = *static_cast<const CallSite*>(op->pointer);
  const std::uint64_t* tokens = reinterpret_cast<const std::uint64_t*>(rows + op->r[0]);
  std::uint64_t token = tokens[__builtin_ctz(mask)];
  std::uint32_t same = 0;
  for (std::uint32_t lane = 0; lane < 32; ++lane)
    same |= std::uint32_t{tokens[lane] == token} << lane;
  same &= mask;
  const Function* callee = context->block->program->function_of_token(token);
  if (!callee || callee->is_kernel || callee->parameters.size() != site.arguments.size()) {
    raise(context, op, Why::InvalidPc, same, token);
    context->op = nullptr;
    return;
  }
  if (same != mask)
    add_group(*context->warp, op, rows, mask & ~same);
  enter_callee(context, op, rows, same, site, *callee);
}

void ret(Context* context, char* rows, std::uint32_t mask) {
  FrameHeader* frame = header_of(rows);
  char* caller = rows_of(frame->parent);
  const Op* to = frame->return_op;
  for (std::size_t i = 0; i < frame->site->results.size() && i < frame->function->returns.size(); ++i)
    copy_words_masked(caller, frame->site->results[i], rows, frame->function->returns[i], mask);
  frame->live &= ~mask;
  if (frame->live == 0)
    context->block->free_frame(frame);
  transfer(context, to, caller, mask);
  if (context->op)
    context->reconverge = context->warp->fair ? UINTPTR_MAX : next_in_frame(*context->warp, context->rows);
}

void exit_lanes(Context* context, char* rows, std::uint32_t mask) {
  for (FrameHeader* frame = header_of(rows); frame->parent;) {
    FrameHeader* parent = frame->parent;
    frame->live &= ~mask;
    if (frame->live == 0)
      context->block->free_frame(frame);
    frame = parent;
  }
  Warp& warp = *context->warp;
  warp.live &= ~mask;
  context->block->live_threads -= static_cast<std::uint32_t>(__builtin_popcount(mask));
  threads_left(*context->block);
  // warp-wide operations no longer wait for the lanes that are gone
  for (std::uint32_t i = 0; i < warp.group_count; ++i)
    if (warp.groups[i].state == Group::State::AtWarpSync) {
      warp.groups[i].state = Group::State::Ready;
      warp.groups[i].which = 0;
    }
  pick_group(context, warp);
}

bool warp_sync(Context* context, const Op* op, char* rows, std::uint32_t mask, std::uint32_t members) {
  Warp& warp = *context->warp;
  std::uint32_t missing = members & warp.live & ~mask;
  if (missing == 0 || context->forced_sync) {
    context->forced_sync = false;
    return true;
  }
  // Those who wait at this operation already join now.
  std::uint32_t together = mask;
  for (std::uint32_t i = warp.group_count; i-- > 0;) {
    const Group& other = warp.groups[i];
    bool here = other.pc == op && other.rows == rows;
    if (here && (other.state == Group::State::AtWarpSync || other.state == Group::State::Ready)) {
      together |= other.mask;
      remove_group(warp, i);
    }
  }
  if ((members & warp.live & ~together) == 0) {
    add_group(warp, op, rows, together);
    pick_group(context, warp);
    return false;
  }
  add_group(warp, op, rows, together, Group::State::AtWarpSync);
  pick_group(context, warp);
  return false;
}

} // namespace runtime
} // namespace aliquot::simgpu::exec
