// Atomics on 128 bits and on short floats, memory barriers that count (mbarrier), and copies that finish on
// them (PTX ISA 9.7.13.15, 9.7.9.25). Compiled once.
//
// Copies and arrivals happen where they are issued: what a program may only see after a wait is there
// earlier. A block runs on one host thread, so that a barrier in shared memory needs no atomic access.
#include "native/simgpu/exec/lanes.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

// --- Atomics ---

struct Bits128 {
  u64 low, high;
};

// Compares and swaps 16 bytes; gives what was there.
ALIQUOT_INLINE Bits128 swap128(char* at, Bits128 expected, Bits128 wanted, bool& swapped) {
#if defined(__x86_64__)
  __asm__ __volatile__("lock cmpxchg16b %1"
                       : "=@ccz"(swapped), "+m"(*reinterpret_cast<u128*>(at)), "+a"(expected.low),
                         "+d"(expected.high)
                       : "b"(wanted.low), "c"(wanted.high)
                       : "memory");
  return expected;
#else
  u128 old = u128(expected.high) << 64 | expected.low, next = u128(wanted.high) << 64 | wanted.low;
  swapped = __atomic_compare_exchange_n(reinterpret_cast<u128*>(at), &old, next, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED);
  return {u64(old), u64(old >> 64)};
#endif
}

ALIQUOT_INLINE Bits128 read128(const char* rows, u32 at, u32 lane) {
  return {reinterpret_cast<const u64*>(rows + at)[lane], reinterpret_cast<const u64*>(rows + at)[32 + lane]};
}

template <bool Compare>
bool atomic128(const Op* op, char* rows, Context* context, u32 mask) {
  char* pointers[32];
  context->spins = true;
  if (!runtime::resolve(context, op, reinterpret_cast<const u64*>(rows + op->r[1]), mask, 16, true, pointers))
    return false;
  ALIQUOT_EACH_LANE(lane, mask) {
    bool swapped = false;
    Bits128 old = read128(rows, op->r[2], lane);
    Bits128 wanted = read128(rows, op->r[Compare ? 3 : 2], lane);
    do {
      old = swap128(pointers[lane], old, wanted, swapped);
    } while (!Compare && !swapped);
    reinterpret_cast<u64*>(rows + op->r[0])[lane] = old.low;
    reinterpret_cast<u64*>(rows + op->r[0])[32 + lane] = old.high;
  }
  return true;
}

// min and max of short floats as PTX orders them (a NaN loses); imm: 1 largest.
ALIQUOT_INLINE f32 extreme_of(f32 a, f32 b, bool largest) {
  if (a != a)
    return b;
  if (b != b)
    return a;
  if (a == b)
    return from_pattern(largest ? to_pattern(a) & to_pattern(b) : to_pattern(a) | to_pattern(b));
  return (a > b) == largest ? a : b;
}
template <bool Brain>
ALIQUOT_INLINE u16 short_extreme(u16 a, u16 b, bool largest) {
  f32 x = Brain ? from_pattern(u32(a) << 16) : half_to_float(a);
  f32 y = Brain ? from_pattern(u32(b) << 16) : half_to_float(b);
  f32 value = extreme_of(x, y, largest);
  if (value != value)
    return 0x7FFF;
  return Brain ? u16(to_pattern(value) >> 16) : float_to_half(value);
}

template <class T, bool Brain>
bool atomic_extreme(const Op* op, char* rows, Context* context, u32 mask) {
  char* pointers[32];
  context->spins = true;
  if (!runtime::resolve(context, op, reinterpret_cast<const u64*>(rows + op->r[1]), mask, sizeof(T), true,
                        pointers))
    return false;
  bool largest = op->imm & 1;
  ALIQUOT_EACH_LANE(lane, mask) {
    T b = read_lane<T>(rows, op->r[2], lane);
    T* at = reinterpret_cast<T*>(pointers[lane]);
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    for (;;) {
      T next;
      if constexpr (sizeof(T) == 4)
        next = short_extreme<Brain>(u16(old), u16(b), largest) |
               T(short_extreme<Brain>(u16(old >> 16), u16(b >> 16), largest)) << 16;
      else
        next = short_extreme<Brain>(old, b, largest);
      if (__atomic_compare_exchange_n(at, &old, next, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        break;
    }
    write_lane<T>(rows, op->r[0], lane, old);
  }
  return true;
}

// --- mbarrier: one 64-bit object in shared memory ---

// Arrivals still missing in this phase, arrivals of a phase, bytes still missing, and the parity of the
// phase.
struct Barrier {
  u64 bits;
  static constexpr u64 kCount = 0xFFFFF, kBytes = 0x1FFFFF;
  ALIQUOT_INLINE u32 pending() const { return u32(bits & kCount); }
  ALIQUOT_INLINE u32 expected() const { return u32(bits >> 20 & kCount); }
  ALIQUOT_INLINE u64 bytes() const { return bits >> 40 & kBytes; }
  ALIQUOT_INLINE u32 phase() const { return u32(bits >> 63); }
  ALIQUOT_INLINE static Barrier of(u64 pending, u64 expected, u64 bytes, u64 phase) {
    return {(pending & kCount) | (expected & kCount) << 20 | (bytes & kBytes) << 40 | phase << 63};
  }
  // The next phase begins when nothing is missing any more.
  ALIQUOT_INLINE Barrier settled() const {
    return pending() == 0 && bytes() == 0 ? of(expected(), expected(), 0, phase() ^ 1) : *this;
  }
  ALIQUOT_INLINE Barrier arrived(u32 count) const {
    return of(pending() - count, expected(), bytes(), phase()).settled();
  }
  ALIQUOT_INLINE Barrier dropped(u32 count) const {
    return of(pending() - count, expected() - count, bytes(), phase()).settled();
  }
  ALIQUOT_INLINE Barrier expecting(u64 more) const {
    return of(pending(), expected(), bytes() + more, phase());
  }
  ALIQUOT_INLINE Barrier completed(u64 fewer) const { return expecting(0 - fewer).settled(); }
};

ALIQUOT_INLINE Barrier barrier_at(const char* at) {
  Barrier barrier;
  __builtin_memcpy(&barrier, at, 8);
  return barrier;
}
ALIQUOT_INLINE void put_barrier(char* at, Barrier barrier) {
  __builtin_memcpy(at, &barrier, 8);
}

// What an operation does to the barrier, in its immediate.
enum class Change : u8 { Init, Invalidate, Arrive, Drop, Expect, Complete, ExpectArrive, ExpectDrop };

// state = change(address, count)
bool change_barrier(const Op* op, char* rows, Context* context, u32 mask) {
  char* pointers[32];
  context->spins = true;
  if (!runtime::resolve(context, op, reinterpret_cast<const u64*>(rows + op->r[1]), mask, 8, true, pointers))
    return false;
  ALIQUOT_EACH_LANE(lane, mask) {
    Barrier old = barrier_at(pointers[lane]), next = old;
    u32 count = read_lane<u32>(rows, op->r[2], lane);
    switch (Change(op->imm)) {
    case Change::Init:
      next = Barrier::of(count, count, 0, 0);
      break;
    case Change::Invalidate:
      next = Barrier{0};
      break;
    case Change::Arrive:
      next = old.arrived(count);
      break;
    case Change::Drop:
      next = old.dropped(count);
      break;
    case Change::Expect:
      next = old.expecting(count);
      break;
    case Change::Complete:
      next = old.completed(count);
      break;
    case Change::ExpectArrive:
      next = old.expecting(count).arrived(1);
      break;
    case Change::ExpectDrop:
      next = old.expecting(count).dropped(1);
      break;
    }
    put_barrier(pointers[lane], next);
    write_lane<u64>(rows, op->r[0], lane, old.bits);
  }
  return true;
}

// p = whether the phase of a state (or of a parity, imm 1) is over. Lanes for which it is not let others go
// on before they look again.
struct TestBarrier {
  static constexpr const char* shape = "p=xx";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    context->steps += op->extra;
    char* pointers[32];
    if (!runtime::resolve(context, op, reinterpret_cast<const u64*>(rows + op->r[1]), mask, 8, false,
                          pointers))
      ALIQUOT_LEAVE();
    bool all = true;
    ALIQUOT_EACH_LANE(lane, mask) {
      u64 given = read_lane<u64>(rows, op->r[2], lane);
      u32 phase = op->imm ? u32(given & 1) : u32(given >> 63);
      bool over = barrier_at(pointers[lane]).phase() != phase;
      all &= over;
      write_lane<bool>(rows, op->r[0], lane, over);
    }
    if (!all) {
      runtime::yield(context, op + 1, rows, mask);
      ALIQUOT_RESUME();
    }
    ALIQUOT_NEXT();
  }
};

// --- Bulk copies: bytes of r[2] from r[1] to r[0], then as many complete on the barrier at r[3] (imm 1) ---

bool copy_bytes(const Op* op, Context* context, u32 lane, u64 to, u64 from, u64 bytes) {
  if ((to | from | bytes) & 15) {
    runtime::raise(context, op, runtime::Why::Misaligned, 1u << lane, (to & 15) ? to : from);
    return false;
  }
  while (bytes) {
    u64 source_bytes = 0, target_bytes = 0;
    char* source = runtime::stretch(context, from, false, bytes, &source_bytes);
    char* target = runtime::stretch(context, to, true, bytes, &target_bytes);
    if (!source || !target) {
      runtime::raise(context, op, runtime::Why::Illegal, 1u << lane, source ? to : from);
      return false;
    }
    u64 part = source_bytes < target_bytes ? source_bytes : target_bytes;
    __builtin_memmove(target, source, part);
    to += part;
    from += part;
    bytes -= part;
  }
  return true;
}

bool copy_bulk(const Op* op, char* rows, Context* context, u32 mask) {
  ALIQUOT_EACH_LANE(lane, mask) {
    u32 bytes = read_lane<u32>(rows, op->r[2], lane);
    if (!copy_bytes(op, context, lane, read_lane<u64>(rows, op->r[0], lane),
                    read_lane<u64>(rows, op->r[1], lane), bytes))
      return false;
    if (op->imm == 0)
      continue;
    char* pointers[32];
    if (!runtime::resolve(context, op, reinterpret_cast<const u64*>(rows + op->r[3]), 1u << lane, 8, true,
                          pointers))
      return false;
    put_barrier(pointers[lane], barrier_at(pointers[lane]).completed(bytes));
  }
  return true;
}

// alloca: space above what this activation has, at addresses of local memory. r[1] bytes, r[2] the stack's
// top so far, r[3] where it ends; imm: alignment.
bool allocate_stack(const Op* op, char* rows, Context* context, u32 mask) {
  ALIQUOT_EACH_LANE(lane, mask) {
    u64 bytes = read_lane<u64>(rows, op->r[2], lane), top = read_lane<u64>(rows, op->r[3], lane);
    u64 end = read_lane<u64>(rows, op->r[4], lane), at = (top + op->imm - 1) / op->imm * op->imm;
    if (at > end || bytes > end - at) {
      runtime::raise(context, op, runtime::Why::StackOverflow, 1u << lane, at);
      return false;
    }
    write_lane<u64>(rows, op->r[0], lane, at);
    write_lane<u64>(rows, op->r[1], lane, (at + bytes + 15) & ~u64(15));
  }
  return true;
}

#define LANES(name, text, ...)                                                                               \
  ALIQUOT_ENTRY(name, PerWarp<text, decltype([](const Op* op, char* rows, Context* context, u32 mask) {      \
                                return __VA_ARGS__(op, rows, context, mask);                                 \
                              })>)
constexpr char kSwap[] = "q=xq", kCompare[] = "q=xqq", kHalf[] = "h=xh", kPair[] = "w=xw", kChange[] = "x=xw",
               kBulk[] = "=xxwx", kStack[] = "xx=xxx";

const Entry kWideAtomics[] = {
    LANES("atom.exch.b128", kSwap, atomic128<false>),
    LANES("atom.cas.b128", kCompare, atomic128<true>),
    LANES("atom.extreme.f16", kHalf, atomic_extreme<u16, false>),
    LANES("atom.extreme.bf16", kHalf, atomic_extreme<u16, true>),
    LANES("atom.extreme.f16x2", kPair, atomic_extreme<u32, false>),
    LANES("atom.extreme.bf16x2", kPair, atomic_extreme<u32, true>),
};

const Entry kBarriersAndCopies[] = {
    LANES("mbarrier.change", kChange, change_barrier),
    ALIQUOT_ENTRY("mbarrier.test", TestBarrier),
    EACH1("mbarrier.pending", u32, u64, Barrier{a}.pending()),
    LANES("copy.bulk", kBulk, copy_bulk),
    LANES("alloca", kStack, allocate_stack),
};

const EntryList kAsyncLists[] = {LIST(kWideAtomics), LIST(kBarriersAndCopies)};

} // namespace

extern const EntryLists kAsyncEntries;
const EntryLists kAsyncEntries = {kAsyncLists, sizeof kAsyncLists / sizeof kAsyncLists[0]};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
