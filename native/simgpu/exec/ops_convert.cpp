// Conversions between registers of all widths and types (PTX ISA 9.7.9, cvt and mov of vectors).
//
// lower_convert.cpp composes cvt from these: widen or narrow the container, clamp, convert.
#include <fenv.h>

#include "native/simgpu/exec/float_rows.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

// Float to integer as PTX defines it: rounded, clamped to the target's range. A NaN becomes 0, or where 64
// bits are involved the target's highest bit alone (PTX ISA, cvt, Integer Notes).
template <class I, Round R, class T>
ALIQUOT_INLINE V<I> to_integer(V<T> a) {
  constexpr bool is_signed = I(-1) < I(0);
  constexpr int bits = sizeof(I) * 8;
  // 2^bits or 2^(bits-1): the first value above the range, exact in T.
  constexpr T over = T(is_signed ? u64(1) << (bits - 1) : u64(1) << (bits - 1)) * (is_signed ? T(1) : T(2));
  constexpr T under = is_signed ? -over : T(0);
  constexpr I most = is_signed ? I(~Bits<I>(0) >> 1) : I(~Bits<I>(0));
  constexpr I top = I(Bits<I>(1) << (bits - 1)), least = is_signed ? top : I(0);
  constexpr I of_nan = sizeof(T) == 8 || sizeof(I) == 8 ? top : I(0);
  V<T> rounded = to_integral<R, T>(a);
  return each_lane<I>(
      [](T x) -> I {
        bool high = x >= over, low = x < under, wrong = x != x;
        I inside = I(high || low || wrong ? T(0) : x);
        return wrong ? of_nan : high ? most : low ? least : inside;
      },
      rounded);
}

// One lane at a time under another rounding mode; see Directed in ops_float.cpp for the barriers.
template <class D, class S>
struct DirectedConvert {
  static constexpr const char* shape = Shape<D, S>::text;
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    alignas(64) D out[32];
    compute(op, reinterpret_cast<const S*>(rows + op->r[1]), out);
    V<D> value;
    __builtin_memcpy(&value, out, sizeof out);
    store<D, Full>(rows, op->r[0], value, mask);
    ALIQUOT_NEXT();
  }

  [[gnu::noinline]] static void compute(const Op* op, const S* in, D* out) {
    int before = fegetround();
    constexpr int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    fesetround(modes[op->imm & 3]);
    asm volatile("" : "+r"(in), "+r"(out) : : "memory");
    for (int lane = 0; lane < 32; ++lane)
      out[lane] = D(in[lane]);
    asm volatile("" : "+r"(out) : : "memory");
    fesetround(before);
    // Compilers convert unsigned integers by a subtraction, which makes -0 of 0 when rounding down.
    if constexpr (std::is_unsigned_v<S>)
      for (int lane = 0; lane < 32; ++lane)
        out[lane] = __builtin_bit_cast(D, Bits<D>(__builtin_bit_cast(Bits<D>, out[lane]) & ~kSign<D>));
  }
};

// f32 to a 16-bit format toward zero: truncation of the pattern, once tiny values are aligned.
ALIQUOT_INLINE u16 half_toward_zero(f32 value) {
  u16 nearest = float_to_half(value);
  f32 back = half_to_float(nearest);
  if (value != value)
    return nearest;
  f32 size = value < 0 ? -value : value, got = back < 0 ? -back : back;
  return got > size ? u16(nearest - 1) : nearest;
}
ALIQUOT_INLINE u16 bfloat_toward_zero(f32 value) {
  return value != value ? u16(0x7FFF) : u16(to_pattern(value) >> 16);
}

#define TO_INTEGER(mode, round, t, T)                                                                        \
  ROW1("cvt." mode ".s32." t, s32, T, to_integer<s32, round, T>(a)),                                         \
      ROW1("cvt." mode ".u32." t, u32, T, to_integer<u32, round, T>(a)),                                     \
      ROW1("cvt." mode ".s64." t, s64, T, to_integer<s64, round, T>(a)),                                     \
      ROW1("cvt." mode ".u64." t, u64, T, to_integer<u64, round, T>(a)),                                     \
      ROW1("cvt." mode "." t "." t, T, T, to_integral<round, T>(a))

#define FROM_INTEGER(t, T)                                                                                   \
  ROW1("cvt.f32." t, f32, T, convert<f32, T>(a)), ROW1("cvt.f64." t, f64, T, convert<f64, T>(a)),            \
      ALIQUOT_ENTRY("cvt.rnd.f32." t, DirectedConvert<f32, T>),                                              \
      ALIQUOT_ENTRY("cvt.rnd.f64." t, DirectedConvert<f64, T>)

const Entry kNumbers[] = {
    TO_INTEGER("rni", Round::Nearest, "f32", f32),
    TO_INTEGER("rzi", Round::Zero, "f32", f32),
    TO_INTEGER("rmi", Round::Down, "f32", f32),
    TO_INTEGER("rpi", Round::Up, "f32", f32),
    TO_INTEGER("rni", Round::Nearest, "f64", f64),
    TO_INTEGER("rzi", Round::Zero, "f64", f64),
    TO_INTEGER("rmi", Round::Down, "f64", f64),
    TO_INTEGER("rpi", Round::Up, "f64", f64),
    FROM_INTEGER("s32", s32),
    FROM_INTEGER("u32", u32),
    FROM_INTEGER("s64", s64),
    FROM_INTEGER("u64", u64),
    ROW1("cvt.f32.f64", f32, f64, convert<f32, f64>(a)),
    ROW1("cvt.f64.f32", f64, f32, convert<f64, f32>(a)),
    ALIQUOT_ENTRY("cvt.rnd.f32.f64", DirectedConvert<f32, f64>),
    ROW1("cvt.f32.f16", f32, u16, widen_half(a)),
    ROW1("cvt.f16.f32", u16, f32, narrow_half(a)),
    LANE1("cvt.rz.f16.f32", u16, f32, half_toward_zero(a)),
    ROW1("cvt.f32.bf16", f32, u16, widen_bfloat(a)),
    ROW1("cvt.bf16.f32", u16, f32, narrow_bfloat(a)),
    LANE1("cvt.rz.bf16.f32", u16, f32, bfloat_toward_zero(a)),
    // f64 to f32 with the last bit sticky, for one more rounding to 16 bits
    LANE1("cvt.odd.f32.f64", f32, f64, odd_narrow(a)),
    LANE1("cvt.rna.tf32.f32", u32, f32,
          (to_pattern(a) & 0x7F800000u) == 0x7F800000u ? to_pattern(a)
                                                       : (to_pattern(a) + 0x1000u) & ~0x1FFFu),
};

#define WIDEN(t, From, w, To) ROW1("widen." t "." w, To, From, convert<To, From>(a))
const Entry kContainers[] = {
    // 8-bit values live in the low half of 16-bit rows
    ROW1("widen.u8.h", u16, u16, a& u16(0xFF)),
    ROW1("widen.s8.h", s16, s16, (a << 8) >> 8),
    WIDEN("u16", u16, "w", u32),
    WIDEN("s16", s16, "w", s32),
    WIDEN("u16", u16, "x", u64),
    WIDEN("s16", s16, "x", s64),
    WIDEN("u32", u32, "x", u64),
    WIDEN("s32", s32, "x", s64),
    ROW1("narrow.w.h", u16, u32, convert<u16, u32>(a)),
    ROW1("narrow.x.h", u16, u64, convert<u16, u64>(a)),
    ROW1("narrow.x.w", u32, u64, convert<u32, u64>(a)),
    ROW2("pack.hh", u32, u16, u16, convert<u32, u16>(a) | convert<u32, u16>(b) << 16),
    ROW2("pack.ww", u64, u32, u32, convert<u64, u32>(a) | convert<u64, u32>(b) << 32),
    ROW1("high.w.h", u16, u32, convert<u16, u32>(a >> 16)),
    ROW1("high.x.w", u32, u64, convert<u32, u64>(a >> 32)),
    ROW2("pack.bb", u16, u16, u16, (a & u16(0xFF)) | (b << 8)),
    ROW1("high.h.b", u16, u16, a >> 8),
};

// 128-bit registers are two 64-bit rows, low half first.
struct Pack128 {
  static constexpr const char* shape = "q=xx";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    V<u64> low = load<u64>(rows, op->r[1]), high = load<u64>(rows, op->r[2]);
    store<u64, Full>(rows, op->r[0], low, mask);
    store<u64, Full>(rows, op->r[0] + sizeof low, high, mask);
    ALIQUOT_NEXT();
  }
};
struct Unpack128 {
  static constexpr const char* shape = "xx=q";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    V<u64> low = load<u64>(rows, op->r[2]), high = load<u64>(rows, op->r[2] + sizeof(V<u64>));
    store<u64, Full>(rows, op->r[0], low, mask);
    store<u64, Full>(rows, op->r[1], high, mask);
    ALIQUOT_NEXT();
  }
};
struct Move128 {
  static constexpr const char* shape = "q=q";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    V<u64> low = load<u64>(rows, op->r[1]), high = load<u64>(rows, op->r[1] + sizeof(V<u64>));
    store<u64, Full>(rows, op->r[0], low, mask);
    store<u64, Full>(rows, op->r[0] + sizeof low, high, mask);
    ALIQUOT_NEXT();
  }
};
const Entry kWide[] = {
    ALIQUOT_ENTRY("pack.xx", Pack128),
    ALIQUOT_ENTRY("unpack.q", Unpack128),
    ALIQUOT_ENTRY("mov.b128", Move128),
};

// Parameters of device functions: words of 32 lanes, so that any mix of access widths meets the same bytes.
// r[] of the Words operand is where the parameter starts; `imm` is the byte offset.
template <class T>
struct ParameterLoad {
  static constexpr const char* shape = sizeof(T) == 2 ? "h=W" : sizeof(T) == 4 ? "w=W" : "x=W";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 word = op->r[1] + u32(op->imm / 4) * 128;
    V<u32> low = load<u32>(rows, word);
    if constexpr (sizeof(T) == 8)
      store<u64, Full>(rows, op->r[0],
                       convert<u64, u32>(low) | convert<u64, u32>(load<u32>(rows, word + 128)) << 32, mask);
    else if constexpr (sizeof(T) == 4)
      store<u32, Full>(rows, op->r[0], low, mask);
    else
      store<u16, Full>(rows, op->r[0], convert<u16, u32>(low >> ((u32(op->imm) & 3) * 8)), mask);
    ALIQUOT_NEXT();
  }
};
template <class T, u32 Bytes>
struct ParameterStore {
  static constexpr const char* shape = sizeof(T) == 2 ? "W=h" : sizeof(T) == 4 ? "W=w" : "W=x";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 word = op->r[0] + u32(op->imm / 4) * 128;
    V<T> value = load<T>(rows, op->r[1]);
    if constexpr (sizeof(T) == 8) {
      store<u32, Full>(rows, word, convert<u32, u64>(value), mask);
      store<u32, Full>(rows, word + 128, convert<u32, u64>(value >> 32), mask);
    } else if constexpr (sizeof(T) == 4) {
      store<u32, Full>(rows, word, value, mask);
    } else {
      u32 shift = (u32(op->imm) & 3) * 8, keep = (Bytes == 1 ? 0xFFu : 0xFFFFu) << shift;
      V<u32> merged = (load<u32>(rows, word) & ~keep) | ((convert<u32, u16>(value) << shift) & keep);
      store<u32, Full>(rows, word, merged, mask);
    }
    ALIQUOT_NEXT();
  }
};
const Entry kParameters[] = {
    ALIQUOT_ENTRY("param.ld.h", ParameterLoad<u16>),     ALIQUOT_ENTRY("param.ld.w", ParameterLoad<u32>),
    ALIQUOT_ENTRY("param.ld.x", ParameterLoad<u64>),     ALIQUOT_ENTRY("param.st.b", ParameterStore<u16, 1>),
    ALIQUOT_ENTRY("param.st.h", ParameterStore<u16, 2>), ALIQUOT_ENTRY("param.st.w", ParameterStore<u32, 4>),
    ALIQUOT_ENTRY("param.st.x", ParameterStore<u64, 8>),
};

const EntryList kConvertLists[] = {LIST(kNumbers), LIST(kContainers), LIST(kWide), LIST(kParameters)};

} // namespace

extern const EntryLists kConvertEntries;
const EntryLists kConvertEntries = {kConvertLists, sizeof kConvertLists / sizeof kConvertLists[0]};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
