// Rows of 32 lanes as vectors, for the handler files only. Compiled once per instruction set: everything is
// in an unnamed namespace and always inlined, nothing comes from the standard library (see op.hpp for why).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "native/simgpu/exec/op.hpp"

#ifndef ALIQUOT_ISA
#error "ALIQUOT_ISA names the namespace of this build of the handlers"
#endif

#define ALIQUOT_INLINE [[gnu::always_inline]] inline

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using f32 = float;
using f64 = double;
__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 s128;
struct Pred {};  // a predicate: one bit a lane
struct Words {}; // a parameter's words: the handler gets the offset

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(32 * sizeof(T))));
};
template <class T>
using V = typename VectorOf<T>::type;

template <class T>
struct IntOf;
template <>
struct IntOf<u8> {
  using u = u8;
  using s = s8;
};
template <>
struct IntOf<u16> {
  using u = u16;
  using s = s16;
};
template <>
struct IntOf<s16> {
  using u = u16;
  using s = s16;
};
template <>
struct IntOf<u32> {
  using u = u32;
  using s = s32;
};
template <>
struct IntOf<s32> {
  using u = u32;
  using s = s32;
};
template <>
struct IntOf<f32> {
  using u = u32;
  using s = s32;
};
template <>
struct IntOf<u64> {
  using u = u64;
  using s = s64;
};
template <>
struct IntOf<s64> {
  using u = u64;
  using s = s64;
};
template <>
struct IntOf<f64> {
  using u = u64;
  using s = s64;
};
template <class T>
using Bits = typename IntOf<T>::u;
template <class T>
using VMask = V<typename IntOf<T>::s>; // all ones where true

template <class T>
ALIQUOT_INLINE V<T> splat(T value) {
  return value - V<T>{};
}

template <class T>
ALIQUOT_INLINE V<T> load(const char* rows, u32 at) {
  return *reinterpret_cast<const V<T>*>(rows + at);
}

ALIQUOT_INLINE u32 load_predicate(const char* rows, u32 at) {
  return *reinterpret_cast<const u32*>(rows + at);
}

template <class To, class From>
ALIQUOT_INLINE V<To> cast(V<From> value) {
  return (V<To>)value;
}

template <class To, class From>
ALIQUOT_INLINE V<To> convert(V<From> value) {
  return __builtin_convertvector(value, V<To>);
}

#define ALIQUOT_ROW32(f)                                                                                     \
  f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15),      \
      f(16), f(17), f(18), f(19), f(20), f(21), f(22), f(23), f(24), f(25), f(26), f(27), f(28), f(29),      \
      f(30), f(31)

template <class T>
ALIQUOT_INLINE V<T> iota() {
#define ALIQUOT_LANE(i) T(i)
  return V<T>{ALIQUOT_ROW32(ALIQUOT_LANE)};
#undef ALIQUOT_LANE
}

ALIQUOT_INLINE V<u32> lane_bits() {
#define ALIQUOT_BIT(i) (u32(1) << i)
  return V<u32>{ALIQUOT_ROW32(ALIQUOT_BIT)};
#undef ALIQUOT_BIT
}

// Bit i of `mask` to all ones in lane i.
template <class T>
ALIQUOT_INLINE VMask<T> expand(u32 mask) {
  if constexpr (sizeof(T) == 8) {
    return (VMask<T>)((convert<u64, u32>(lane_bits()) & u64(mask)) != 0);
  } else if constexpr (sizeof(T) == 4) {
    return (VMask<T>)((lane_bits() & mask) != 0);
  } else {
    V<s32> wide = (V<s32>)((lane_bits() & mask) != 0);
    return __builtin_convertvector(wide, VMask<T>);
  }
}

// The opposite: a comparison's result to one bit a lane.
template <class M>
ALIQUOT_INLINE u32 bits_of(M truth) {
#if defined(__clang__)
  typedef bool Bools __attribute__((ext_vector_type(32)));
  Bools bools = __builtin_convertvector(truth, Bools);
  u32 bits;
  __builtin_memcpy(&bits, &bools, 4);
  return bits;
#else
  u32 bits = 0;
  for (int lane = 0; lane < 32; ++lane)
    bits |= u32(truth[lane] != 0) << lane;
  return bits;
#endif
}

template <class T>
ALIQUOT_INLINE V<T> select(VMask<T> truth, V<T> yes, V<T> no) {
  return truth ? yes : no;
}

template <class T, bool Full>
ALIQUOT_INLINE void store(char* rows, u32 at, V<T> value, u32 mask) {
  V<T>* row = reinterpret_cast<V<T>*>(rows + at);
  if constexpr (Full)
    *row = value;
  else
    *row = select<T>(expand<T>(mask), value, *row);
}

template <bool Full>
ALIQUOT_INLINE void store_predicate(char* rows, u32 at, u32 value, u32 mask) {
  u32* row = reinterpret_cast<u32*>(rows + at);
  *row = Full ? value : (*row & ~mask) | (value & mask);
}

// A row in memory: indexing a vector by a variable would spill it anew for every lane.
template <class T>
struct Lanes {
  alignas(64) T at[32];
};
template <class Row>
ALIQUOT_INLINE auto lanes_of(Row row) {
  Lanes<std::remove_cvref_t<decltype(row[0])>> lanes;
  __builtin_memcpy(lanes.at, &row, sizeof row);
  return lanes;
}

// Lane by lane, for what has no vector form here; compilers vectorise what they can.
template <class D, class F, class... In>
ALIQUOT_INLINE V<D> map_lanes(F f, const In&... in) {
  Lanes<D> out;
  for (int i = 0; i < 32; ++i)
    out.at[i] = f(in.at[i]...);
  V<D> result;
  __builtin_memcpy(&result, out.at, sizeof result);
  return result;
}
template <class D, class F, class... Rows>
ALIQUOT_INLINE V<D> each_lane(F f, const Rows&... rows) {
  return map_lanes<D>(f, lanes_of(rows)...);
}

// --- Handlers ---

#define ALIQUOT_ARGS const Op *op, char *rows, Context *context, u32 mask

#if ALIQUOT_TAIL_CALLS
#define ALIQUOT_GO(next, new_rows, new_mask, full)                                                           \
  [[clang::musttail]] return (next)->run[(full) ? 0 : 1](next, new_rows, context, new_mask)
#define ALIQUOT_LEAVE() return
#else
#define ALIQUOT_GO(next, new_rows, new_mask, full)                                                           \
  do {                                                                                                       \
    context->op = (next);                                                                                    \
    context->rows = (new_rows);                                                                              \
    context->mask = (new_mask);                                                                              \
    return;                                                                                                  \
  } while (0)
#define ALIQUOT_LEAVE()                                                                                      \
  do {                                                                                                       \
    context->op = nullptr;                                                                                   \
    return;                                                                                                  \
  } while (0)
#endif

// On to the next operation in line.
#define ALIQUOT_NEXT() ALIQUOT_GO(op + 1, rows, mask, Full)
// To where a runtime function decided.
#define ALIQUOT_RESUME()                                                                                     \
  do {                                                                                                       \
    op = context->op;                                                                                        \
    if (op == nullptr)                                                                                       \
      ALIQUOT_LEAVE();                                                                                       \
    rows = context->rows;                                                                                    \
    mask = context->mask;                                                                                    \
    ALIQUOT_GO(op, rows, mask, mask == kFullMask);                                                           \
  } while (0)

template <class T>
constexpr char letter() {
  if constexpr (sizeof(T) == 8)
    return 'x';
  else if constexpr (sizeof(T) == 4)
    return 'w';
  else
    return 'h';
}
template <>
constexpr char letter<Pred>() {
  return 'p';
}
template <>
constexpr char letter<Words>() {
  return 'W';
}

template <class D, class... S>
struct Shape {
  static constexpr char text[] = {letter<D>(), '=', letter<S>()..., 0};
};

template <class T>
inline constexpr bool is_predicate = false;
template <>
inline constexpr bool is_predicate<Pred> = true;

template <class T>
ALIQUOT_INLINE auto source(const char* rows, u32 at) {
  if constexpr (is_predicate<T>)
    return load_predicate(rows, at);
  else
    return load<T>(rows, at);
}

template <class T, bool Full, class Value>
ALIQUOT_INLINE void result(char* rows, u32 at, Value value, u32 mask) {
  if constexpr (is_predicate<T>)
    store_predicate<Full>(rows, at, value, mask);
  else
    store<T, Full>(rows, at, (V<T>)value, mask);
}

// d = F(s...), lane by lane: the shape of most instructions. F works on whole rows (or predicate words).
template <class F, class D, class... S>
struct Map {
  static constexpr const char* shape = Shape<D, S...>::text;

  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    apply<Full>(op, rows, mask, std::index_sequence_for<S...>{});
    ALIQUOT_NEXT();
  }

  template <bool Full, std::size_t... I>
  ALIQUOT_INLINE static void apply(const Op* op, char* rows, u32 mask, std::index_sequence<I...>) {
    result<D, Full>(rows, op->r[0], F{}(source<S>(rows, op->r[I + 1])...), mask);
  }
};

template <class Operation>
constexpr Entry entry(const char* name) {
  return {name, Operation::shape, {&Operation::template run<true>, &Operation::template run<false>}};
}
#define ALIQUOT_ENTRY(name, ...) entry<__VA_ARGS__>(name)

// Table lines. ROWn: the expression works on rows a, b, c; LANEn: on the scalars of one lane.
#define ROW1(name, D, A, ...)                                                                                \
  ALIQUOT_ENTRY(name, Map<decltype([](V<A> a) __attribute__((always_inline)) { return __VA_ARGS__; }), D, A>)
#define ROW2(name, D, A, B, ...)                                                                             \
  ALIQUOT_ENTRY(                                                                                             \
      name,                                                                                                  \
      Map<decltype([](V<A> a, V<B> b) __attribute__((always_inline)) { return __VA_ARGS__; }), D, A, B>)
#define ROW3(name, D, A, B, C, ...)                                                                          \
  ALIQUOT_ENTRY(                                                                                             \
      name, Map<decltype([](V<A> a, V<B> b, V<C> c) __attribute__((always_inline)) { return __VA_ARGS__; }), \
                D, A, B, C>)
#define LANE1(name, D, A, ...)                                                                               \
  ROW1(name, D, A, each_lane<D>([](A a) __attribute__((always_inline)) -> D { return D(__VA_ARGS__); }, a))
#define LANE2(name, D, A, B, ...)                                                                            \
  ROW2(name, D, A, B,                                                                                        \
       each_lane<D>([](A a, B b) __attribute__((always_inline)) -> D { return D(__VA_ARGS__); }, a, b))
#define LANE3(name, D, A, B, C, ...)                                                                         \
  ROW3(name, D, A, B, C,                                                                                     \
       each_lane<D>([](A a, B b, C c) __attribute__((always_inline)) -> D { return D(__VA_ARGS__); }, a, b,  \
                    c))
// a comparison's outcome into a predicate
#define TEST2(name, A, ...)                                                                                  \
  ALIQUOT_ENTRY(                                                                                             \
      name,                                                                                                  \
      Map<decltype([](V<A> a, V<A> b) __attribute__((always_inline)) { return bits_of(__VA_ARGS__); }),      \
          Pred, A, A>)
#define LIST(table)                                                                                          \
  EntryList {                                                                                                \
    table, sizeof table / sizeof table[0]                                                                    \
  }

} // namespace
} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
