// For handlers of rarer instructions: compiled once, for the baseline, and used whatever the instruction set.
// They work lane by lane; what programs spend their time in belongs into the ops_*.cpp files, which have
// rows.
#pragma once

#include "native/simgpu/exec/float_rows.hpp"
#include "native/simgpu/exec/numbers.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

template <class T>
ALIQUOT_INLINE T read_lane(const char* rows, u32 at, u32 lane) {
  if constexpr (std::is_same_v<T, bool>)
    return *reinterpret_cast<const u32*>(rows + at) >> lane & 1;
  else
    return reinterpret_cast<const T*>(rows + at)[lane];
}

template <class T>
ALIQUOT_INLINE void write_lane(char* rows, u32 at, u32 lane, T value) {
  if constexpr (std::is_same_v<T, bool>) {
    u32* word = reinterpret_cast<u32*>(rows + at);
    *word = (*word & ~(1u << lane)) | u32(value) << lane;
  } else {
    reinterpret_cast<T*>(rows + at)[lane] = value;
  }
}

template <>
constexpr char letter<bool>() {
  return 'p';
}

#define ALIQUOT_EACH_LANE(lane, mask)                                                                        \
  for (u32 lane##_left = (mask), lane = 0; lane##_left && (lane = u32(__builtin_ctz(lane##_left)), true);    \
       lane##_left &= lane##_left - 1)

// d = F(imm, s...) for each active lane.
template <class F, class D, class... S>
struct PerLane {
  static constexpr const char* shape = Shape<D, S...>::text;
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    lanes(op, rows, mask, std::index_sequence_for<S...>{});
    ALIQUOT_NEXT();
  }
  template <std::size_t... I>
  [[gnu::noinline]] static void lanes(const Op* op, char* rows, u32 mask, std::index_sequence<I...>) {
    ALIQUOT_EACH_LANE(lane, mask)
    write_lane<D>(rows, op->r[0], lane, F{}(op->imm, read_lane<S>(rows, op->r[I + 1], lane)...));
  }
};

// F(op, rows, context, mask) does all lanes; false: it raised a fault. The shape is given.
template <const char* Text, class F>
struct PerWarp {
  static constexpr const char* shape = Text;
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    if (!F{}(op, rows, context, mask))
      ALIQUOT_LEAVE();
    ALIQUOT_NEXT();
  }
};

// The same for operations of a whole warp: its lanes come together first.
template <const char* Text, class F>
struct Converged {
  static constexpr const char* shape = Text;
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    if (!Full && !runtime::warp_sync(context, op, rows, mask, kFullMask))
      ALIQUOT_RESUME();
    if (!F{}(op, rows, context, mask))
      ALIQUOT_LEAVE();
    ALIQUOT_NEXT();
  }
};

// Table lines: the expression sees imm and the lane's a, b, c.
#define EACH1(name, D, A, ...)                                                                               \
  ALIQUOT_ENTRY(name,                                                                                        \
                PerLane<decltype([]([[maybe_unused]] u64 imm, A a) -> D { return D(__VA_ARGS__); }), D, A>)
#define EACH2(name, D, A, B, ...)                                                                            \
  ALIQUOT_ENTRY(                                                                                             \
      name,                                                                                                  \
      PerLane<decltype([]([[maybe_unused]] u64 imm, A a, B b) -> D { return D(__VA_ARGS__); }), D, A, B>)
#define EACH3(name, D, A, B, C, ...)                                                                         \
  ALIQUOT_ENTRY(                                                                                             \
      name, PerLane<decltype([]([[maybe_unused]] u64 imm, A a, B b, C c) -> D { return D(__VA_ARGS__); }),   \
                    D, A, B, C>)

} // namespace
} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
