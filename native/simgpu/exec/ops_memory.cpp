// Loads, stores and atomics (PTX ISA 9.7.9 ld, st, cvta, isspacep; 9.7.13 atom, red).
//
// Three shapes of access are fast: lanes next to each other, all lanes at one address, and anything else
// inside the range that this instruction met last (`Site`) or inside the block's shared or local memory. What
// misses goes through runtime::resolve, lane by lane.
#include "native/simgpu/exec/float_rows.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

template <class T>
struct RowOf {
  using type = T;
};
template <>
struct RowOf<u8> {
  using type = u16;
};
template <class T>
using Row = typename RowOf<T>::type;

// Where an instruction's addresses are looked up.
struct Range {
  u64 begin; // address of the first byte
  u64 bytes;
  char* host; // of `begin`
};

enum class Where { Global, Shared, Local };

template <Where W>
ALIQUOT_INLINE Range range_of(const Op* op, Context* context) {
  if constexpr (W == Where::Shared) {
    return {0, context->shared_bytes, context->shared};
  } else if constexpr (W == Where::Local) {
    return {0, context->local_bytes, context->local};
  } else {
    const Site& site = context->sites[op->extra];
    return {site.begin, site.bytes, reinterpret_cast<char*>(site.begin + u64(site.delta))};
  }
}

template <class A, bool Full>
ALIQUOT_INLINE bool all(VMask<A> truth, u32 mask) {
  u32 bits = bits_of(truth);
  return Full ? bits == kFullMask : (~bits & mask) == 0;
}

// What the fast paths found out about one access.
template <class A>
struct Pattern {
  enum Kind { Contiguous, Uniform, Scattered, Miss } kind;
  V<A> relative; // to the range; inactive lanes repeat an active one
  A first;       // of lane 0 (Contiguous) or of all (Uniform)
};

// `Bytes` a lane, a power of two, all to be inside the range and aligned.
template <class A, u32 Bytes, bool Full>
ALIQUOT_INLINE Pattern<A> classify(const Op* op, const char* rows, u32 address_row, const Range& range,
                                   u32 mask) {
  Pattern<A> p;
  p.kind = Pattern<A>::Miss;
  u32 lane = Full ? 0 : u32(__builtin_ctz(mask));
  A base = A(u64(op->offset) - range.begin);
  V<A> relative = load<A>(rows, address_row) + base;
  A first = A(reinterpret_cast<const A*>(rows + address_row)[lane] + base);
  if (__builtin_expect(range.bytes < Bytes, 0))
    return p;
  A limit = A(range.bytes - Bytes);
  bool aligned = ((range.begin + first) & (Bytes - 1)) == 0;
  A start = A(first - lane * Bytes);
  if (all<A, Full>((VMask<A>)(relative == iota<A>() * A(Bytes) + start), mask)) {
    A last = A(start + (Full ? 31 : 31 - u32(__builtin_clz(mask))) * Bytes);
    if (first <= limit && last <= limit && first <= last && aligned)
      p.kind = Pattern<A>::Contiguous;
    p.first = start;
  } else if (all<A, Full>((VMask<A>)(relative == first), mask)) {
    if (first <= limit && aligned)
      p.kind = Pattern<A>::Uniform;
    p.first = first;
  } else {
    if constexpr (!Full)
      relative = select<A>(expand<A>(mask), relative, splat<A>(first));
    V<A> wrong = (V<A>)(relative > limit) | ((relative + A(range.begin)) & A(Bytes - 1));
    if (bits_of((VMask<A>)(wrong != 0)) == 0)
      p.kind = Pattern<A>::Scattered;
    p.first = first;
  }
  p.relative = relative;
  return p;
}

template <class T, u32 N>
ALIQUOT_INLINE T element(const char* at, u32 k) {
  T value;
  __builtin_memcpy(&value, at + k * sizeof(T), sizeof(T));
  return value;
}

template <class A>
[[gnu::noinline]] void lane_addresses(const Op* op, const char* rows, u32 address_row, u64* addresses) {
  const A* row = reinterpret_cast<const A*>(rows + address_row);
  for (u32 lane = 0; lane < 32; ++lane)
    addresses[lane] = u64(A(row[lane] + A(op->offset)));
}

template <Where W>
ALIQUOT_INLINE u64 window() {
  return W == Where::Shared ? u64(1) << 48 : W == Where::Local ? u64(2) << 48 : 0;
}

// Host pointers of the active lanes, the slow way. A 64-bit address in shared or local space may not reach
// beyond its window.
template <Where W, class A>
[[gnu::noinline]] bool slow_pointers(const Op* op, char* rows, Context* context, u32 mask, u32 address_row,
                                     u32 bytes, bool write, char** pointers) {
  u64 addresses[32];
  lane_addresses<A>(op, rows, address_row, addresses);
  for (u32 lane = 0; W != Where::Global && lane < 32; ++lane) {
    if (addresses[lane] >> 40 && (mask >> lane & 1)) {
      runtime::raise(context, op, runtime::Why::Illegal, u32(1) << lane, addresses[lane]);
      return false;
    }
    addresses[lane] += window<W>();
  }
  return runtime::resolve(context, op, addresses, mask, bytes, write, pointers);
}

template <class T, u32 N>
[[gnu::noinline]] void load_lanes(const Op* op, char* rows, u32 mask, char* const* pointers) {
  for (u32 left = mask; left; left &= left - 1) {
    u32 lane = u32(__builtin_ctz(left));
    for (u32 k = 0; k < N; ++k)
      reinterpret_cast<Row<T>*>(rows + op->r[k])[lane] = element<T, N>(pointers[lane], k);
  }
}

template <class T, u32 N>
[[gnu::noinline]] void store_lanes(const Op* op, const char* rows, u32 mask, char* const* pointers) {
  for (u32 left = mask; left; left &= left - 1) {
    u32 lane = u32(__builtin_ctz(left));
    for (u32 k = 0; k < N; ++k) {
      T value = T(reinterpret_cast<const Row<T>*>(rows + op->r[k + 1])[lane]);
      __builtin_memcpy(pointers[lane] + k * sizeof(T), &value, sizeof(T));
    }
  }
}

template <class T, u32 N, class A>
constexpr const char* load_shape() {
  constexpr bool near = sizeof(A) == 4;
  switch (sizeof(T)) {
  case 8:
    return N == 1 ? (near ? "x=w" : "x=x") : N == 2 ? (near ? "xx=w" : "xx=x") : near ? "xxxx=w" : "xxxx=x";
  case 4:
    return N == 1 ? (near ? "w=w" : "w=x") : N == 2 ? (near ? "ww=w" : "ww=x") : near ? "wwww=w" : "wwww=x";
  default:
    return N == 1 ? (near ? "h=w" : "h=x") : N == 2 ? (near ? "hh=w" : "hh=x") : near ? "hhhh=w" : "hhhh=x";
  }
}
template <class T, u32 N, class A>
constexpr const char* store_shape() {
  constexpr bool near = sizeof(A) == 4;
  switch (sizeof(T)) {
  case 8:
    return N == 1 ? (near ? "=wx" : "=xx") : N == 2 ? (near ? "=wxx" : "=xxx") : near ? "=wxxxx" : "=xxxxx";
  case 4:
    return N == 1 ? (near ? "=ww" : "=xw") : N == 2 ? (near ? "=www" : "=xww") : near ? "=wwwww" : "=xwwww";
  default:
    return N == 1 ? (near ? "=wh" : "=xh") : N == 2 ? (near ? "=whh" : "=xhh") : near ? "=whhhh" : "=xhhhh";
  }
}

// Tries the cached range, and once more after it was refilled for the first lane.
template <Where W, class A, u32 Bytes, bool Full>
ALIQUOT_INLINE Pattern<A> locate(const Op* op, char* rows, Context* context, u32 mask, u32 address_row,
                                 bool write, Range& range) {
  range = range_of<W>(op, context);
  Pattern<A> p = classify<A, Bytes, Full>(op, rows, address_row, range, mask);
  if constexpr (W == Where::Global) {
    if (__builtin_expect(p.kind == Pattern<A>::Miss, 0)) {
      u32 lane = u32(__builtin_ctz(mask));
      u64 address = reinterpret_cast<const A*>(rows + address_row)[lane] + u64(op->offset);
      if (runtime::refill(context, &context->sites[op->extra], address, write)) {
        range = range_of<W>(op, context);
        p = classify<A, Bytes, Full>(op, rows, address_row, range, mask);
      }
    }
  }
  return p;
}

template <class T, u32 N, Where W, class A>
struct Load {
  static constexpr const char* shape = load_shape<T, N, A>();
  static constexpr u32 bytes = sizeof(T) * N;

  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    if (__builtin_expect(!fast<Full>(op, rows, context, mask), 0) && !slow(op, rows, context, mask))
      ALIQUOT_LEAVE();
    ALIQUOT_NEXT();
  }

  template <bool Full>
  ALIQUOT_INLINE static bool fast(ALIQUOT_ARGS) {
    Range range;
    Pattern<A> p = locate<W, A, bytes, Full>(op, rows, context, mask, op->r[N], false, range);
    if (p.kind == Pattern<A>::Contiguous) {
      // Lanes that are not active may lie outside: then only what is inside is read.
      if (!Full && (p.first > range.bytes || range.bytes - p.first < 32 * bytes))
        return false;
      contiguous<Full>(op, rows, mask, range.host + p.first);
      return true;
    }
    if (p.kind == Pattern<A>::Uniform) {
      for (u32 k = 0; k < N; ++k)
        store<Row<T>, Full>(rows, op->r[k], splat<Row<T>>(element<T, N>(range.host + p.first, k)), mask);
      return true;
    }
    if (p.kind == Pattern<A>::Miss)
      return false;
    if (!near<Full>(op, rows, mask, range, p))
      gather<Full>(op, rows, mask, range.host, p.relative);
    return true;
  }

  // All lanes within 128 bytes from the first one: two loads and a permutation. Shared and local memory have
  // that much slack behind them (block_state.cpp).
  template <bool Full>
  ALIQUOT_INLINE static bool near([[maybe_unused]] const Op* op, [[maybe_unused]] char* rows,
                                  [[maybe_unused]] u32 mask, [[maybe_unused]] const Range& range,
                                  [[maybe_unused]] const Pattern<A>& p) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4 && N == 1) {
      V<A> distance = p.relative - p.first;
      if (bits_of((VMask<A>)(distance >= A(128))) != 0 || (W == Where::Global && range.bytes - p.first < 128))
        return false;
      V<u32> index = convert<u32, A>(distance) >> 2;
      const __m512i* at = reinterpret_cast<const __m512i*>(&index);
      __m512i low = _mm512_loadu_si512(range.host + p.first),
              high = _mm512_loadu_si512(range.host + p.first + 64);
      V<u32> value;
      reinterpret_cast<__m512i*>(&value)[0] = _mm512_permutex2var_epi32(low, at[0], high);
      reinterpret_cast<__m512i*>(&value)[1] = _mm512_permutex2var_epi32(low, at[1], high);
      store<u32, Full>(rows, op->r[0], value, mask);
      return true;
    }
#endif
    return false;
  }

  template <bool Full>
  ALIQUOT_INLINE static void contiguous(const Op* op, char* rows, u32 mask, const char* from) {
    if constexpr (N == 1) {
      V<T> value;
      __builtin_memcpy(&value, from, sizeof value);
      store<Row<T>, Full>(rows, op->r[0], convert<Row<T>, T>(value), mask);
    } else {
      for (u32 k = 0; k < N; ++k) {
        alignas(64) Row<T> out[32];
        for (u32 lane = 0; lane < 32; ++lane)
          out[lane] = element<T, N>(from + lane * bytes, k);
        V<Row<T>> value;
        __builtin_memcpy(&value, out, sizeof value);
        store<Row<T>, Full>(rows, op->r[k], value, mask);
      }
    }
  }

  template <bool Full>
  ALIQUOT_INLINE static void gather(const Op* op, char* rows, u32 mask, const char* host, V<A> relative) {
    for (u32 k = 0; k < N; ++k) {
      V<Row<T>> value = each_lane<Row<T>>([=](A at) { return element<T, N>(host + at, k); }, relative);
      store<Row<T>, Full>(rows, op->r[k], value, mask);
    }
  }

  [[gnu::noinline]] static bool slow(const Op* op, char* rows, Context* context, u32 mask) {
    char* pointers[32];
    if (!slow_pointers<W, A>(op, rows, context, mask, op->r[N], bytes, false, pointers))
      return false;
    load_lanes<T, N>(op, rows, mask, pointers);
    return true;
  }
};

template <class T, u32 N, Where W, class A>
struct Store {
  static constexpr const char* shape = store_shape<T, N, A>();
  static constexpr u32 bytes = sizeof(T) * N;

  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    if (__builtin_expect(!fast<Full>(op, rows, context, mask), 0) && !slow(op, rows, context, mask))
      ALIQUOT_LEAVE();
    ALIQUOT_NEXT();
  }

  template <bool Full>
  ALIQUOT_INLINE static bool fast(ALIQUOT_ARGS) {
    Range range;
    Pattern<A> p = locate<W, A, bytes, Full>(op, rows, context, mask, op->r[0], true, range);
    if (p.kind == Pattern<A>::Miss)
      return false;
    if (N == 1 && Full && p.kind == Pattern<A>::Contiguous) {
      V<T> value = convert<T, Row<T>>(load<Row<T>>(rows, op->r[1]));
      __builtin_memcpy(range.host + p.first, &value, sizeof value);
      return true;
    }
    if (p.kind == Pattern<A>::Uniform) { // the highest lane wins
      u32 lane = 31 - u32(__builtin_clz(mask));
      put(op, rows, lane, range.host + p.first);
      return true;
    }
    scatter<Full>(op, rows, mask, range.host, p.relative);
    return true;
  }

  ALIQUOT_INLINE static void put(const Op* op, const char* rows, u32 lane, char* to) {
    for (u32 k = 0; k < N; ++k) {
      T value = T(reinterpret_cast<const Row<T>*>(rows + op->r[k + 1])[lane]);
      __builtin_memcpy(to + k * sizeof(T), &value, sizeof(T));
    }
  }

  template <bool Full>
  ALIQUOT_INLINE static void scatter(const Op* op, const char* rows, u32 mask, char* host, V<A> relative) {
    alignas(64) A at[32];
    __builtin_memcpy(at, &relative, sizeof at);
    if constexpr (Full) {
      for (u32 lane = 0; lane < 32; ++lane)
        put(op, rows, lane, host + at[lane]);
    } else {
      for (u32 left = mask; left; left &= left - 1)
        put(op, rows, u32(__builtin_ctz(left)), host + at[__builtin_ctz(left)]);
    }
  }

  [[gnu::noinline]] static bool slow(const Op* op, char* rows, Context* context, u32 mask) {
    char* pointers[32];
    if (!slow_pointers<W, A>(op, rows, context, mask, op->r[0], bytes, true, pointers))
      return false;
    store_lanes<T, N>(op, rows, mask, pointers);
    return true;
  }
};

#define ACCESSES(space, suffix, W, A)                                                                        \
  ACCESS1(space, "b8", u8, suffix, W, A), ACCESS1(space, "b16", u16, suffix, W, A),                          \
      ACCESS1(space, "b32", u32, suffix, W, A), ACCESS1(space, "b64", u64, suffix, W, A)
#define ACCESS1(space, t, T, suffix, W, A)                                                                   \
  ALIQUOT_ENTRY("ld." space "." t suffix, Load<T, 1, W, A>),                                                 \
      ALIQUOT_ENTRY("st." space "." t suffix, Store<T, 1, W, A>),                                            \
      ALIQUOT_ENTRY("ld." space ".v2." t suffix, Load<T, 2, W, A>),                                          \
      ALIQUOT_ENTRY("st." space ".v2." t suffix, Store<T, 2, W, A>),                                         \
      ALIQUOT_ENTRY("ld." space ".v4." t suffix, Load<T, 4, W, A>),                                          \
      ALIQUOT_ENTRY("st." space ".v4." t suffix, Store<T, 4, W, A>)

const Entry kAccesses[] = {
    ACCESSES("global", "", Where::Global, u64),    ACCESSES("shared", "", Where::Shared, u64),
    ACCESSES("local", "", Where::Local, u64),      ACCESSES("shared", ".near", Where::Shared, u32),
    ACCESSES("local", ".near", Where::Local, u32),
};

// --- Atomics: host atomics, since blocks run on several threads. Shared memory goes through its window. ---

template <class T, class F>
ALIQUOT_INLINE T exchange_with(char* at, F change) {
  T* place = reinterpret_cast<T*>(at);
  T old = __atomic_load_n(place, __ATOMIC_RELAXED);
  for (;;) {
    T next = change(old);
    if (__atomic_compare_exchange_n(place, &old, next, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
      return old;
  }
}

template <class T, u32 Sources>
constexpr const char* atomic_shape() {
  if constexpr (sizeof(T) == 8)
    return Sources == 1 ? "x=xx" : "x=xxx";
  else if constexpr (sizeof(T) == 4)
    return Sources == 1 ? "w=xw" : "w=xww";
  else
    return Sources == 1 ? "h=xh" : "h=xhh";
}

// F(pointer, b, c), or with the address behind them, does the access of one lane and gives the old value.
template <class T, class F, u32 Sources>
struct Atomic {
  static constexpr const char* shape = atomic_shape<T, Sources>();
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    if (!lanes(op, rows, context, mask))
      ALIQUOT_LEAVE();
    ALIQUOT_NEXT();
  }
  [[gnu::noinline]] static bool lanes(const Op* op, char* rows, Context* context, u32 mask) {
    u64 addresses[32];
    char* pointers[32];
    context->spins = true;
    lane_addresses<u64>(op, rows, op->r[1], addresses);
    if (!runtime::resolve(context, op, addresses, mask, sizeof(T), true, pointers))
      return false;
    const T* b = reinterpret_cast<const T*>(rows + op->r[2]);
    const T* c = reinterpret_cast<const T*>(rows + op->r[Sources > 1 ? 3 : 2]);
    T* d = reinterpret_cast<T*>(rows + op->r[0]);
    for (u32 left = mask; left; left &= left - 1) {
      u32 lane = u32(__builtin_ctz(left));
      if constexpr (std::is_invocable_v<F, char*, T, T, u64>)
        d[lane] = F{}(pointers[lane], b[lane], c[lane], addresses[lane]);
      else
        d[lane] = F{}(pointers[lane], b[lane], c[lane]);
    }
    return true;
  }
};

#define ATOMIC(name, T, sources, ...)                                                                        \
  ALIQUOT_ENTRY("atom." name,                                                                                \
                Atomic<T, decltype([](char* at, [[maybe_unused]] T b, [[maybe_unused]] T c) -> T {           \
                         return __VA_ARGS__;                                                                 \
                       }),                                                                                   \
                       sources>)
#define DIRECT(function) function(reinterpret_cast<decltype(b)*>(at), b, __ATOMIC_SEQ_CST)
#define CHANGE(T, expression) exchange_with<T>(at, [=](T old) -> T { return expression; })

#define ATOMIC_BITS(t, T)                                                                                    \
  ATOMIC("add." t, T, 1, DIRECT(__atomic_fetch_add)), ATOMIC("and." t, T, 1, DIRECT(__atomic_fetch_and)),    \
      ATOMIC("or." t, T, 1, DIRECT(__atomic_fetch_or)), ATOMIC("xor." t, T, 1, DIRECT(__atomic_fetch_xor)),  \
      ATOMIC("exch." t, T, 1, DIRECT(__atomic_exchange_n))
#define ATOMIC_ORDER(t, T)                                                                                   \
  ATOMIC("min." t, Bits<T>, 1, Bits<T>(CHANGE(T, old < T(b) ? old : T(b)))),                                 \
      ATOMIC("max." t, Bits<T>, 1, Bits<T>(CHANGE(T, old > T(b) ? old : T(b))))

template <class T>
ALIQUOT_INLINE T compare_and_swap(char* at, T expected, T wanted) {
  __atomic_compare_exchange_n(reinterpret_cast<T*>(at), &expected, wanted, false, __ATOMIC_SEQ_CST,
                              __ATOMIC_RELAXED);
  return expected;
}

ALIQUOT_INLINE u32 add_floats(u32 a, u32 b) {
  return to_pattern(from_pattern(a) + from_pattern(b));
}
// atom.add.f32: subnormals are flushed in global memory and kept in shared memory (PTX ISA, atom).
ALIQUOT_INLINE u32 flushed_pattern(u32 bits) {
  return (bits & 0x7F800000u) == 0 ? bits & 0x80000000u : bits;
}
ALIQUOT_INLINE u32 add_at(char* at, u32 b, u64 address) {
  if (address >> 48 == window<Where::Shared>() >> 48)
    return exchange_with<u32>(at, [=](u32 old) { return add_floats(old, b); });
  return exchange_with<u32>(
      at, [=](u32 old) { return flushed_pattern(add_floats(flushed_pattern(old), flushed_pattern(b))); });
}
ALIQUOT_INLINE u64 add_doubles(u64 a, u64 b) {
  return __builtin_bit_cast(u64, __builtin_bit_cast(f64, a) + __builtin_bit_cast(f64, b));
}
ALIQUOT_INLINE u16 add_halves(u16 a, u16 b) {
  return float_to_half(half_to_float(a) + half_to_float(b));
}
ALIQUOT_INLINE u16 add_bfloats(u16 a, u16 b) {
  u32 bits = to_pattern(from_pattern(u32(a) << 16) + from_pattern(u32(b) << 16));
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? u16(0x7FFF) : u16((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16);
}
#define PAIRED(f) (u32(f(u16(old), u16(b))) | u32(f(u16(old >> 16), u16(b >> 16))) << 16)

const Entry kAtomics[] = {
    ATOMIC_BITS("b32", u32),
    ATOMIC_BITS("b64", u64),
    ATOMIC_ORDER("u32", u32),
    ATOMIC_ORDER("s32", s32),
    ATOMIC_ORDER("u64", u64),
    ATOMIC_ORDER("s64", s64),
    ATOMIC("inc.u32", u32, 1, CHANGE(u32, old >= b ? 0 : old + 1)),
    ATOMIC("dec.u32", u32, 1, CHANGE(u32, old == 0 || old > b ? b : old - 1)),
    ATOMIC("cas.b16", u16, 2, compare_and_swap<u16>(at, b, c)),
    ATOMIC("cas.b32", u32, 2, compare_and_swap<u32>(at, b, c)),
    ATOMIC("cas.b64", u64, 2, compare_and_swap<u64>(at, b, c)),
    ALIQUOT_ENTRY(
        "atom.add.f32",
        Atomic<u32, decltype([](char* at, u32 b, u32, u64 where) { return add_at(at, b, where); }), 1>),
    ATOMIC("add.f64", u64, 1, CHANGE(u64, add_doubles(old, b))),
    ATOMIC("add.f16", u16, 1, CHANGE(u16, add_halves(old, b))),
    ATOMIC("add.bf16", u16, 1, CHANGE(u16, add_bfloats(old, b))),
    ATOMIC("add.f16x2", u32, 1, CHANGE(u32, PAIRED(add_halves))),
    ATOMIC("add.bf16x2", u32, 1, CHANGE(u32, PAIRED(add_bfloats))),
};

// cp.async and friends: imm bytes from r[1] (global) to r[0] (shared offset), of which r[2] are read and the
// rest is zeros. Done at once; commit and wait have nothing left to do.
struct CopyToShared {
  static constexpr const char* shape = "=xxw";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    if (!lanes(op, rows, context, mask))
      ALIQUOT_LEAVE();
    ALIQUOT_NEXT();
  }
  [[gnu::noinline]] static bool lanes(const Op* op, char* rows, Context* context, u32 mask) {
    u32 bytes = u32(op->imm);
    const u32* wanted = reinterpret_cast<const u32*>(rows + op->r[2]);
    char *to[32], *from[32] = {};
    u32 reading = 0;
    for (u32 lane = 0; lane < 32; ++lane)
      reading |= u32(wanted[lane] != 0) << lane;
    reading &= mask;
    if (!runtime::resolve(context, op, reinterpret_cast<const u64*>(rows + op->r[0]), mask, bytes, true,
                          to) ||
        (reading && !runtime::resolve(context, op, reinterpret_cast<const u64*>(rows + op->r[1]), reading,
                                      bytes, false, from)))
      return false;
    for (u32 left = mask; left; left &= left - 1) {
      u32 lane = u32(__builtin_ctz(left)), size = wanted[lane] < bytes ? wanted[lane] : bytes;
      for (u32 i = 0; i < bytes; ++i)
        to[lane][i] = i < size ? from[lane][i] : 0;
    }
    return true;
  }
};

struct MarkSpin {
  static constexpr const char* shape = "=";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    context->spins = true;
    ALIQUOT_NEXT();
  }
};
struct Fence {
  static constexpr const char* shape = "=";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    ALIQUOT_NEXT();
  }
};
// isspacep: whether the address lies in window imm (0: device memory)
struct InWindow {
  static constexpr const char* shape = "p=x";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    V<u64> a = load<u64>(rows, op->r[1]);
    store_predicate<Full>(rows, op->r[0], bits_of((V<s64>)((a >> 48) == op->imm)), mask);
    ALIQUOT_NEXT();
  }
};

const Entry kOther[] = {
    ALIQUOT_ENTRY("cp.async", CopyToShared),
    ALIQUOT_ENTRY("mark.spin", MarkSpin),
    ALIQUOT_ENTRY("fence", Fence),
    ALIQUOT_ENTRY("isspacep", InWindow),
};

const EntryList kMemoryLists[] = {LIST(kAccesses), LIST(kAtomics), LIST(kOther)};

} // namespace

extern const EntryLists kMemoryEntries;
const EntryLists kMemoryEntries = {kMemoryLists, sizeof kMemoryLists / sizeof kMemoryLists[0]};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
