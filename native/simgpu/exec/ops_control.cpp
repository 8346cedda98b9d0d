// Branches, calls, barriers and what lanes of a warp say to each other (PTX ISA 9.7.9 shfl, 9.7.12, 9.7.13).
//
// `extra` of every operation here is the number of PTX instructions since the last such operation: that is
// how instructions and the step budget are counted, once a basic block instead of once an instruction.
#include "native/simgpu/exec/rows.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

template <bool Full>
ALIQUOT_INLINE void count(const Op* op, Context* context, u32 mask) {
  context->steps += op->extra;
  if constexpr (!Full)
    context->idle_lanes += u64(op->extra) * u32(32 - __builtin_popcount(mask));
}

// Goes to `to`; with other groups waiting, only if none waits before it.
#define ALIQUOT_JUMP(to)                                                                                     \
  do {                                                                                                       \
    const Op* next = (to);                                                                                   \
    if (!Full && reinterpret_cast<std::uintptr_t>(next) >= context->reconverge) {                            \
      runtime::transfer(context, next, rows, mask);                                                          \
      ALIQUOT_RESUME();                                                                                      \
    }                                                                                                        \
    ALIQUOT_GO(next, rows, mask, Full);                                                                      \
  } while (0)

#define ALIQUOT_CHECK_BUDGET(to)                                                                             \
  if (__builtin_expect(context->steps >= context->step_limit, 0)) {                                          \
    runtime::budget(context, to, rows, mask);                                                                \
    ALIQUOT_RESUME();                                                                                        \
  }

// Between two blocks that follow each other in the code.
struct Fall {
  static constexpr const char* shape = "=";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    count<Full>(op, context, mask);
    ALIQUOT_JUMP(op + 1);
  }
};

template <bool Back>
struct Branch {
  static constexpr const char* shape = "=";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    count<Full>(op, context, mask);
    if constexpr (Back)
      ALIQUOT_CHECK_BUDGET(op->target);
    ALIQUOT_JUMP(op->target);
  }
};

template <bool Back, bool Negated>
struct BranchIf {
  static constexpr const char* shape = "=p";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    count<Full>(op, context, mask);
    u32 taken = load_predicate(rows, op->r[0]);
    if constexpr (Negated)
      taken = ~taken;
    if constexpr (!Full)
      taken &= mask;
    if (taken == (Full ? kFullMask : mask)) {
      if constexpr (Back)
        ALIQUOT_CHECK_BUDGET(op->target);
      ALIQUOT_JUMP(op->target);
    }
    if (taken == 0)
      ALIQUOT_JUMP(op + 1);
    runtime::diverge(context, op->target, op + 1, rows, mask, taken);
    if constexpr (Back) {
      if (__builtin_expect(context->steps >= context->step_limit, 0) && context->op)
        runtime::budget(context, context->op, context->rows, context->mask);
    }
    ALIQUOT_RESUME();
  }
};

// brx.idx: pointer to a table of targets, their number in r[1]; lanes go group by group.
struct BranchTable {
  static constexpr const char* shape = "=w";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    count<Full>(op, context, mask);
    const Op* const* targets = reinterpret_cast<const Op* const*>(op->pointer);
    u32 size = op->r[1];
    const u32* index = reinterpret_cast<const u32*>(rows + op->r[0]);
    u32 first = index[__builtin_ctz(mask)];
    u32 same = 0;
    for (u32 lane = 0; lane < 32; ++lane)
      same |= u32(index[lane] == first) << lane;
    same &= mask;
    if (first >= size) {
      runtime::raise(context, op, runtime::Why::InvalidPc, same, first);
      ALIQUOT_LEAVE();
    }
    // The rest comes back to this operation on its own.
    if (same != mask) {
      context->steps -= op->extra;
      runtime::diverge(context, targets[first], op, rows, mask, same);
    } else {
      runtime::transfer(context, targets[first], rows, mask);
    }
    if (__builtin_expect(context->steps >= context->step_limit, 0) && context->op)
      runtime::budget(context, context->op, context->rows, context->mask);
    ALIQUOT_RESUME();
  }
};

#define TRANSFER(name, signature, ...)                                                                       \
  struct name {                                                                                              \
    static constexpr const char* shape = signature;                                                          \
    template <bool Full>                                                                                     \
    ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {                                                      \
      count<Full>(op, context, mask);                                                                        \
      __VA_ARGS__;                                                                                           \
      ALIQUOT_RESUME();                                                                                      \
    }                                                                                                        \
  }

TRANSFER(Call, "=", runtime::call(context, op, rows, mask));
TRANSFER(CallIndirect, "=x", runtime::call_indirect(context, op, rows, mask));
TRANSFER(SystemCall, "=", runtime::system_call(context, op, rows, mask));
TRANSFER(Return, "=", runtime::ret(context, rows, mask));
TRANSFER(Exit, "=", runtime::exit_lanes(context, rows, mask));
TRANSFER(Trap, "=", runtime::raise(context, op, runtime::Why::Trap, mask, 0); context->op = nullptr);
TRANSFER(Nanosleep, "=w",
         runtime::sleep(context, op + 1, rows, mask,
                        reinterpret_cast<const u32*>(rows + op->r[0])[__builtin_ctz(mask)]));
TRANSFER(Rest, "=", runtime::rest(context, op + 1, rows, mask));
// bar.sync id, threads: kind in imm
TRANSFER(Barrier, "=wwp", u32 lane = u32(__builtin_ctz(mask));
         runtime::barrier(context, op, rows, mask, reinterpret_cast<const u32*>(rows + op->r[0])[lane],
                          reinterpret_cast<const u32*>(rows + op->r[1])[lane], unsigned(op->imm),
                          load_predicate(rows, op->r[2])));

// The outcome of bar.red, for the operation after the barrier.
struct BarrierCount {
  static constexpr const char* shape = "w=w";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 id = reinterpret_cast<const u32*>(rows + op->r[1])[__builtin_ctz(mask)];
    store<u32, Full>(rows, op->r[0], splat<u32>(runtime::barrier_result(context, id)), mask);
    ALIQUOT_NEXT();
  }
};
struct BarrierTruth {
  static constexpr const char* shape = "p=w";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 id = reinterpret_cast<const u32*>(rows + op->r[1])[__builtin_ctz(mask)];
    store_predicate<Full>(rows, op->r[0], runtime::barrier_result(context, id) ? kFullMask : 0, mask);
    ALIQUOT_NEXT();
  }
};

// A guarded stretch: the operations up to `imm` (the number to skip) run for the lanes of the predicate only.
template <bool Negated>
struct Guard {
  static constexpr const char* shape = "p=p";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 chosen = load_predicate(rows, op->r[1]);
    chosen = (Negated ? ~chosen : chosen) & mask;
    if (chosen == 0)
      ALIQUOT_GO(op + op->imm, rows, mask, Full);
    *reinterpret_cast<u32*>(rows + op->r[0]) = mask; // read back by EndGuard
    ALIQUOT_GO(op + 1, rows, chosen, chosen == kFullMask);
  }
};
struct EndGuard {
  static constexpr const char* shape = "=p";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 outer = load_predicate(rows, op->r[0]);
    if constexpr (!Full)
      context->idle_lanes += u64(op->extra) * u32(__builtin_popcount(outer & ~mask));
    ALIQUOT_GO(op + 1, rows, outer, outer == kFullMask);
  }
};

// --- Warp-wide ---

ALIQUOT_INLINE u32 uniform(const char* rows, u32 at, u32 mask) {
  return reinterpret_cast<const u32*>(rows + at)[__builtin_ctz(mask)];
}

// Every .sync operation first brings the lanes of its member mask together. False: this group must wait.
template <bool Full>
ALIQUOT_INLINE bool converged(ALIQUOT_ARGS, u32 members) {
  return Full || (members & ~mask) == 0 || runtime::warp_sync(context, op, rows, mask, members);
}
#define ALIQUOT_CONVERGE(members)                                                                            \
  if (!converged<Full>(op, rows, context, mask, members))                                                    \
    ALIQUOT_RESUME();

struct WarpBarrier {
  static constexpr const char* shape = "=w";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    ALIQUOT_CONVERGE(uniform(rows, op->r[0], mask));
    ALIQUOT_NEXT();
  }
};

// vote.sync: kind in imm 0 all, 1 any, 2 uni, 3 ballot
template <bool Ballot>
struct Vote {
  static constexpr const char* shape = Ballot ? "w=pw" : "p=pw";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 members = uniform(rows, op->r[2], mask);
    ALIQUOT_CONVERGE(members);
    u32 present = mask & members, ayes = load_predicate(rows, op->r[1]) & present;
    if constexpr (Ballot) {
      store<u32, Full>(rows, op->r[0], splat<u32>(ayes), mask);
    } else {
      bool truth = op->imm == 0 ? ayes == present : op->imm == 1 ? ayes != 0 : ayes == 0 || ayes == present;
      store_predicate<Full>(rows, op->r[0], truth ? kFullMask : 0, mask);
    }
    ALIQUOT_NEXT();
  }
};

// shfl.sync: mode in imm 0 up, 1 down, 2 bfly, 3 idx; c holds the segment mask and the clamp (PTX ISA, shfl).
struct Shuffle {
  static constexpr const char* shape = "wp=wwww";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 members = uniform(rows, op->r[5], mask);
    ALIQUOT_CONVERGE(members);
    const u32* a = reinterpret_cast<const u32*>(rows + op->r[2]);
    V<u32> lanes = iota<u32>(), b = load<u32>(rows, op->r[3]) & 31u, c = load<u32>(rows, op->r[4]);
    V<u32> segment = (c >> 8) & 31u, clamp = c & 31u;
    V<u32> last = (lanes & segment) | (clamp & ~segment), first = lanes & segment;
    V<s32> from, valid;
    switch (op->imm) {
    case 0:
      from = (V<s32>)(lanes - b);
      valid = (V<s32>)(from >= (V<s32>)last);
      break;
    case 1:
      from = (V<s32>)(lanes + b);
      valid = (V<s32>)(from <= (V<s32>)last);
      break;
    case 2:
      from = (V<s32>)(lanes ^ b);
      valid = (V<s32>)(from <= (V<s32>)last);
      break;
    default:
      from = (V<s32>)(first | (b & ~segment));
      valid = (V<s32>)(from <= (V<s32>)last);
    }
    V<u32> picked = select<u32>(valid, (V<u32>)from, lanes) & 31u;
    V<u32> out = each_lane<u32>([a](u32 lane) { return a[lane]; }, picked);
    store<u32, Full>(rows, op->r[0], out, mask);
    store_predicate<Full>(rows, op->r[1], bits_of(valid), mask);
    ALIQUOT_NEXT();
  }
};

template <class T>
struct MatchAny {
  static constexpr const char* shape = sizeof(T) == 4 ? "w=ww" : "w=xw";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 members = uniform(rows, op->r[2], mask);
    ALIQUOT_CONVERGE(members);
    V<T> a = load<T>(rows, op->r[1]);
    alignas(64) u32 out[32] = {};
    for (u32 left = mask & members; left;) {
      u32 lane = u32(__builtin_ctz(left));
      u32 same = bits_of(a == splat<T>(a[lane])) & mask & members;
      for (u32 rest = same; rest; rest &= rest - 1)
        out[__builtin_ctz(rest)] = same;
      left &= ~same;
    }
    V<u32> value;
    __builtin_memcpy(&value, out, sizeof out);
    store<u32, Full>(rows, op->r[0], value, mask);
    ALIQUOT_NEXT();
  }
};
template <class T>
struct MatchAll {
  static constexpr const char* shape = sizeof(T) == 4 ? "wp=ww" : "wp=xw";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 members = uniform(rows, op->r[3], mask);
    ALIQUOT_CONVERGE(members);
    V<T> a = load<T>(rows, op->r[2]);
    u32 present = mask & members;
    u32 same = bits_of(a == splat<T>(a[__builtin_ctz(mask)])) & present;
    store<u32, Full>(rows, op->r[0], splat<u32>(same == present ? present : 0), mask);
    store_predicate<Full>(rows, op->r[1], same == present ? kFullMask : 0, mask);
    ALIQUOT_NEXT();
  }
};

template <class F, class T>
struct Reduce {
  static constexpr const char* shape = "w=ww";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 members = uniform(rows, op->r[2], mask);
    ALIQUOT_CONVERGE(members);
    const T* a = reinterpret_cast<const T*>(rows + op->r[1]);
    u32 left = mask & members;
    T sum = a[__builtin_ctz(left ? left : mask)];
    for (left &= left - 1; left; left &= left - 1)
      sum = F{}(sum, a[__builtin_ctz(left)]);
    store<T, Full>(rows, op->r[0], splat<T>(sum), mask);
    ALIQUOT_NEXT();
  }
};
#define REDUCE(name, T, expression)                                                                          \
  ALIQUOT_ENTRY(name, Reduce<decltype([](T a, T b) -> T { return expression; }), T>)

struct ActiveMask {
  static constexpr const char* shape = "w=";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    store<u32, Full>(rows, op->r[0], splat<u32>(mask), mask);
    ALIQUOT_NEXT();
  }
};

// elect.sync: the lowest member leads.
struct Elect {
  static constexpr const char* shape = "wp=w";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 members = uniform(rows, op->r[2], mask);
    ALIQUOT_CONVERGE(members);
    u32 leader = u32(__builtin_ctz((members & mask) ? members & mask : mask));
    store<u32, Full>(rows, op->r[0], splat<u32>(leader), mask);
    store_predicate<Full>(rows, op->r[1], 1u << leader, mask);
    ALIQUOT_NEXT();
  }
};

// A special register that is no constant of the launch: which one is in imm.
template <class T>
struct Special {
  static constexpr const char* shape = sizeof(T) == 4 ? "w=" : "x=";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    alignas(64) u64 values[32];
    runtime::special(context, rows, u32(op->imm), values);
    V<u64> value;
    __builtin_memcpy(&value, values, sizeof values);
    store<T, Full>(rows, op->r[0], convert<T, u64>(value), mask);
    ALIQUOT_NEXT();
  }
};

const Entry kControl[] = {
    ALIQUOT_ENTRY("fall", Fall),
    ALIQUOT_ENTRY("bra", Branch<false>),
    ALIQUOT_ENTRY("bra.back", Branch<true>),
    ALIQUOT_ENTRY("bra.if", BranchIf<false, false>),
    ALIQUOT_ENTRY("bra.if.back", BranchIf<true, false>),
    ALIQUOT_ENTRY("bra.not", BranchIf<false, true>),
    ALIQUOT_ENTRY("bra.not.back", BranchIf<true, true>),
    ALIQUOT_ENTRY("brx", BranchTable),
    ALIQUOT_ENTRY("call", Call),
    ALIQUOT_ENTRY("call.indirect", CallIndirect),
    ALIQUOT_ENTRY("call.system", SystemCall),
    ALIQUOT_ENTRY("ret", Return),
    ALIQUOT_ENTRY("exit", Exit),
    ALIQUOT_ENTRY("trap", Trap),
    ALIQUOT_ENTRY("nanosleep", Nanosleep),
    ALIQUOT_ENTRY("rest", Rest),
    ALIQUOT_ENTRY("guard", Guard<false>),
    ALIQUOT_ENTRY("guard.not", Guard<true>),
    ALIQUOT_ENTRY("guard.end", EndGuard),
};

const Entry kWarp[] = {
    ALIQUOT_ENTRY("barrier", Barrier),
    ALIQUOT_ENTRY("barrier.count", BarrierCount),
    ALIQUOT_ENTRY("barrier.truth", BarrierTruth),
    ALIQUOT_ENTRY("bar.warp", WarpBarrier),
    ALIQUOT_ENTRY("vote", Vote<false>),
    ALIQUOT_ENTRY("vote.ballot", Vote<true>),
    ALIQUOT_ENTRY("shfl", Shuffle),
    ALIQUOT_ENTRY("match.any.b32", MatchAny<u32>),
    ALIQUOT_ENTRY("match.any.b64", MatchAny<u64>),
    ALIQUOT_ENTRY("match.all.b32", MatchAll<u32>),
    ALIQUOT_ENTRY("match.all.b64", MatchAll<u64>),
    REDUCE("redux.add.b32", u32, a + b),
    REDUCE("redux.min.u32", u32, a < b ? a : b),
    REDUCE("redux.max.u32", u32, a > b ? a : b),
    REDUCE("redux.min.s32", s32, a < b ? a : b),
    REDUCE("redux.max.s32", s32, a > b ? a : b),
    REDUCE("redux.and.b32", u32, a& b),
    REDUCE("redux.or.b32", u32, a | b),
    REDUCE("redux.xor.b32", u32, a ^ b),
    ALIQUOT_ENTRY("activemask", ActiveMask),
    ALIQUOT_ENTRY("elect", Elect),
    ALIQUOT_ENTRY("special.w", Special<u32>),
    ALIQUOT_ENTRY("special.x", Special<u64>),
};

const EntryList kControlLists[] = {LIST(kControl), LIST(kWarp)};

} // namespace

extern const EntryLists kControlEntries;
const EntryLists kControlEntries = {kControlLists, sizeof kControlLists / sizeof kControlLists[0]};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
