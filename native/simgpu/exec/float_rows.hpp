// Floating point on rows: what PTX asks for beyond the plain operators. For the handler files only (see
// rows.hpp).
#pragma once

#include "native/simgpu/exec/rows.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

template <class T>
inline constexpr Bits<T> kSign = Bits<T>(1) << (sizeof(T) * 8 - 1);
template <class T>
inline constexpr Bits<T> kInfinity = sizeof(T) == 4 ? Bits<T>(0x7F800000) : Bits<T>(0x7FF0000000000000);
// The NaN that PTX calls canonical.
template <class T>
inline constexpr Bits<T> kNan = sizeof(T) == 4 ? Bits<T>(0x7FFFFFFF) : Bits<T>(0x7FFFFFFFFFFFFFFF);

template <class T>
ALIQUOT_INLINE V<Bits<T>> pattern(V<T> a) {
  return (V<Bits<T>>)a;
}
template <class T>
ALIQUOT_INLINE V<T> magnitude(V<T> a) {
  return (V<T>)(pattern<T>(a) & Bits<T>(~kSign<T>));
}
template <class T>
ALIQUOT_INLINE V<T> negate(V<T> a) {
  return (V<T>)(pattern<T>(a) ^ kSign<T>);
}
template <class T>
ALIQUOT_INLINE VMask<T> is_nan(V<T> a) {
  return (VMask<T>)(a != a);
}

// .ftz: denormals become zeros of the same sign.
ALIQUOT_INLINE V<f32> flush(V<f32> a) {
  V<u32> bits = pattern<f32>(a);
  return (V<f32>)select<u32>((V<s32>)((bits & 0x7F800000u) == 0), bits & 0x80000000u, bits);
}
template <bool Ftz>
ALIQUOT_INLINE V<f32> flushed(V<f32> a) {
  if constexpr (Ftz)
    return flush(a);
  else
    return a;
}

// .sat: to [0, 1], NaN to +0.
template <class T>
ALIQUOT_INLINE V<T> saturate(V<T> a) {
  V<T> low = select<T>((VMask<T>)(a > T(0)), a, V<T>{});
  return select<T>((VMask<T>)(low < T(1)), low, splat<T>(1));
}

template <class T>
ALIQUOT_INLINE V<T> fused(V<T> a, V<T> b, V<T> c) {
#if defined(__clang__)
  return __builtin_elementwise_fma(a, b, c);
#else
  if constexpr (sizeof(T) == 4)
    return each_lane<T>([](f32 x, f32 y, f32 z) { return __builtin_fmaf(x, y, z); }, a, b, c);
  else
    return each_lane<T>([](f64 x, f64 y, f64 z) { return __builtin_fma(x, y, z); }, a, b, c);
#endif
}

template <class T>
ALIQUOT_INLINE V<T> square_root(V<T> a) {
#if defined(__clang__)
  return __builtin_elementwise_sqrt(a);
#else
  if constexpr (sizeof(T) == 4)
    return each_lane<T>([](f32 x) { return __builtin_sqrtf(x); }, a);
  else
    return each_lane<T>([](f64 x) { return __builtin_sqrt(x); }, a);
#endif
}

// min and max as PTX orders them: -0 below +0, a NaN loses against a number.
template <class T, bool Largest>
ALIQUOT_INLINE V<T> extreme(V<T> a, V<T> b) {
  V<Bits<T>> ties = Largest ? pattern<T>(a) & pattern<T>(b) : pattern<T>(a) | pattern<T>(b);
  V<T> chosen = select<T>((VMask<T>)(Largest ? a > b : a < b), a, b);
  chosen = select<T>((VMask<T>)(a == b), (V<T>)ties, chosen);
  chosen = select<T>(is_nan<T>(b), a, chosen);
  return select<T>((VMask<T>)(is_nan<T>(a) & is_nan<T>(b)), (V<T>)splat<Bits<T>>(kNan<T>), chosen);
}
template <class T, bool Largest>
ALIQUOT_INLINE V<T> extreme_nan(V<T> a, V<T> b) {
  return select<T>((VMask<T>)(is_nan<T>(a) | is_nan<T>(b)), (V<T>)splat<Bits<T>>(kNan<T>),
                   extreme<T, Largest>(a, b));
}
template <class T, bool Largest>
ALIQUOT_INLINE V<T> extreme_xorsign(V<T> a, V<T> b) {
  V<Bits<T>> sign = (pattern<T>(a) ^ pattern<T>(b)) & kSign<T>;
  V<T> chosen = extreme<T, Largest>(magnitude<T>(a), magnitude<T>(b));
  return (V<T>)(pattern<T>(chosen) | sign);
}

// --- Rounding to an integer in floating point ---

enum class Round { Nearest, Zero, Down, Up };

template <Round R, class T>
ALIQUOT_INLINE V<T> to_integral(V<T> a) {
#if defined(__clang__)
  if constexpr (R == Round::Nearest)
    return __builtin_elementwise_rint(a);
  else if constexpr (R == Round::Zero)
    return __builtin_elementwise_trunc(a);
  else if constexpr (R == Round::Down)
    return __builtin_elementwise_floor(a);
  else
    return __builtin_elementwise_ceil(a);
#else
  return each_lane<T>(
      [](T x) -> T {
        if constexpr (R == Round::Nearest)
          return T(__builtin_rint(x));
        else if constexpr (R == Round::Zero)
          return T(__builtin_trunc(x));
        else if constexpr (R == Round::Down)
          return T(__builtin_floor(x));
        else
          return T(__builtin_ceil(x));
      },
      a);
#endif
}

// --- 16-bit formats ---

ALIQUOT_INLINE f32 from_pattern(u32 bits) {
  return __builtin_bit_cast(f32, bits);
}
ALIQUOT_INLINE u32 to_pattern(f32 value) {
  return __builtin_bit_cast(u32, value);
}

ALIQUOT_INLINE f32 half_to_float(u16 half) {
  u32 rest = half & 0x7FFFu, sign = u32(half & 0x8000u) << 16;
  u32 normal = (rest << 13) + (112u << 23);
  u32 special = 0x7F800000u | (rest << 13);
  u32 tiny = to_pattern(f32(s32(rest)) * 0x1p-24f);
  return from_pattern(sign | (rest >= 0x7C00u ? special : rest >= 0x400u ? normal : tiny));
}

ALIQUOT_INLINE u16 float_to_half(f32 value) {
  u32 bits = to_pattern(value), sign = (bits >> 16) & 0x8000u, rest = bits & 0x7FFFFFFFu;
  u32 tiny = to_pattern(from_pattern(rest) + 0.5f) - to_pattern(0.5f);
  u32 normal = (rest + 0xFFFu + ((rest >> 13) & 1) - (112u << 23)) >> 13;
  u32 half = rest >= 0x47800000u ? 0x7C00u : rest < 0x38800000u ? tiny : normal;
  return rest > 0x7F800000u ? u16(0x7FFF) : u16(sign | half);
}

ALIQUOT_INLINE V<f32> widen_half(V<u16> a) {
#if defined(__AVX512F__)
  __m512i both = *reinterpret_cast<__m512i*>(&a);
  V<f32> out;
  __m512* halves = reinterpret_cast<__m512*>(&out);
  halves[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(both));
  halves[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(both, 1));
  return out;
#elif defined(__F16C__)
  V<f32> out;
  for (int i = 0; i < 4; ++i)
    reinterpret_cast<__m256*>(&out)[i] = _mm256_cvtph_ps(reinterpret_cast<__m128i*>(&a)[i]);
  return out;
#else
  return each_lane<f32>([](u16 x) { return half_to_float(x); }, a);
#endif
}

ALIQUOT_INLINE V<u16> narrow_half(V<f32> a) {
#if defined(__F16C__)
  V<u16> out;
  for (int i = 0; i < 4; ++i)
    reinterpret_cast<__m128i*>(&out)[i] =
        _mm256_cvtps_ph(reinterpret_cast<__m256*>(&a)[i], _MM_FROUND_TO_NEAREST_INT);
  return select<u16>(__builtin_convertvector(is_nan<f32>(a), V<s16>), splat<u16>(0x7FFF), out);
#else
  return each_lane<u16>([](f32 x) { return float_to_half(x); }, a);
#endif
}

ALIQUOT_INLINE V<f32> widen_bfloat(V<u16> a) {
  return (V<f32>)(convert<u32, u16>(a) << 16);
}

ALIQUOT_INLINE V<u16> narrow_bfloat(V<f32> a) {
  V<u32> bits = pattern<f32>(a);
  V<u32> rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return convert<u16, u32>(select<u32>(is_nan<f32>(a), splat<u32>(0x7FFF), rounded));
}

// Sum and narrowing that round to odd where inexact, so that one more rounding to a shorter format is right.
ALIQUOT_INLINE f64 odd_sum(f64 a, f64 b) {
  f64 sum = a + b, part = sum - a;
  f64 error = (a - (sum - part)) + (b - part);
  u64 bits = __builtin_bit_cast(u64, sum);
  if (error != 0 && !(bits & 1) && error - error == 0 && (bits & kInfinity<f64>) != kInfinity<f64>)
    bits += (error > 0) == (sum > 0) ? 1 : u64(-1);
  return __builtin_bit_cast(f64, bits);
}
ALIQUOT_INLINE f32 odd_narrow(f64 value) {
  f32 near = f32(value);
  u32 bits = to_pattern(near);
  if (f64(near) != value && value == value && (bits & 0x7FFFFFFFu) != 0x7F800000u) {
    f64 wide = near < 0 ? -f64(near) : f64(near), exact = value < 0 ? -value : value;
    bits = (wide > exact ? bits - 1 : bits) | 1;
  }
  return from_pattern(bits);
}

struct Half {
  ALIQUOT_INLINE static V<f32> widen(V<u16> a) { return widen_half(a); }
  ALIQUOT_INLINE static V<u16> narrow(V<f32> a) { return narrow_half(a); }
};
struct Bfloat {
  ALIQUOT_INLINE static V<f32> widen(V<u16> a) { return widen_bfloat(a); }
  ALIQUOT_INLINE static V<u16> narrow(V<f32> a) { return narrow_bfloat(a); }
};

template <class Format>
ALIQUOT_INLINE V<u16> fused_short(V<u16> a, V<u16> b, V<u16> c) {
  V<f32> x = Format::widen(a), y = Format::widen(b), z = Format::widen(c);
  return Format::narrow(each_lane<f32>(
      [](f32 p, f32 q, f32 r) { return odd_narrow(odd_sum(f64(p) * f64(q), f64(r))); }, x, y, z));
}

// --- Approximations (bounds: PTX ISA 9.7.3 and 9.7.4) ---

// 2^x, relative error below 2^-22: a polynomial on [-1/2, 1/2], scaled in two steps so that denormals come
// out.
ALIQUOT_INLINE V<f32> exp2_approx(V<f32> x) {
  V<f32> low = splat<f32>(-160.f), high = splat<f32>(160.f);
  V<f32> bounded = select<f32>((V<s32>)(x < low), low, select<f32>((V<s32>)(x > high), high, x));
  V<f32> shifted = bounded + 0x1.8p23f; // the integer nearest to x in the low bits
  V<s32> whole = (V<s32>)shifted - s32(0x4B400000);
  V<f32> r = bounded - (shifted - 0x1.8p23f);
  constexpr f32 taylor[] = {1.52527338e-5f, 1.54035304e-4f, 1.33335581e-3f, 9.61812911e-3f,
                            5.55041087e-2f, 2.40226507e-1f, 6.93147181e-1f, 1.0f};
  V<f32> sum = splat<f32>(taylor[0]);
  for (int i = 1; i < 8; ++i)
    sum = fused<f32>(sum, r, splat<f32>(taylor[i]));
  V<s32> half = whole >> 1;
  V<f32> scale1 = (V<f32>)((half + 127) << 23), scale2 = (V<f32>)((whole - half + 127) << 23);
  return sum * scale1 * scale2;
}

// log2(x), absolute error below 2^-22 near 1 and relative elsewhere: the series of atanh((m-1)/(m+1)).
ALIQUOT_INLINE V<f32> log2_approx(V<f32> x) {
  VMask<f32> tiny = (VMask<f32>)(x < 0x1p-126f);
  V<f32> scaled = select<f32>(tiny, x * 0x1p24f, x);
  V<u32> bits = pattern<f32>(scaled);
  V<s32> exponent = (V<s32>)(bits - 0x3F3504F3u) >> 23; // mantissa in [sqrt(1/2), sqrt(2))
  V<f32> m = (V<f32>)(bits - (V<u32>)(exponent << 23));
  V<f32> s = (m - 1.f) / (m + 1.f), square = s * s;
  V<f32> sum = splat<f32>(2.88539008f / 9);
  sum = fused<f32>(sum, square, splat<f32>(2.88539008f / 7));
  sum = fused<f32>(sum, square, splat<f32>(2.88539008f / 5));
  sum = fused<f32>(sum, square, splat<f32>(2.88539008f / 3));
  sum = fused<f32>(sum, square, splat<f32>(2.88539008f));
  V<f32> offset = select<f32>(tiny, splat<f32>(-24.f), V<f32>{});
  V<f32> result = fused<f32>(sum, s, convert<f32, s32>(exponent) + offset);
  result = select<f32>((VMask<f32>)(x == from_pattern(0x7F800000u)), x, result);
  result = select<f32>((VMask<f32>)(x == 0.f), (V<f32>)splat<u32>(0xFF800000u), result);
  VMask<f32> wrong = (VMask<f32>)((x < 0.f) | (x != x));
  return select<f32>(wrong, (V<f32>)splat<u32>(kNan<f32>), result);
}

// sin (quadrant 0) or cos (quadrant 1), in doubles: absolute error far below the 2^-20.5 asked for.
ALIQUOT_INLINE V<f32> sine_approx(V<f32> angle, s64 quadrant) {
  V<f64> x = convert<f64, f32>(angle);
  V<f64> shifted = x * 0.63661977236758134 + 0x1.8p52;
  V<f64> turns = shifted - 0x1.8p52;
  V<s64> quarter = (V<s64>)shifted + quadrant;
  V<f64> r = x - turns * 1.5707963267948966, square = r * r;
  V<f64> sine = ((square * (1.0 / 362880) - 1.0 / 5040) * square + 1.0 / 120) * square - 1.0 / 6;
  sine = (sine * square + 1.0) * r; // keeps the sign of -0
  V<f64> cosine = ((square * (1.0 / 40320) - 1.0 / 720) * square + 1.0 / 24) * square - 0.5;
  cosine = cosine * square + 1.0;
  V<f64> value = select<f64>((VMask<f64>)((quarter & 1) != 0), cosine, sine);
  value = select<f64>((VMask<f64>)((quarter & 2) != 0), -value, value);
  V<f64> one = splat<f64>(1);
  value = select<f64>((VMask<f64>)(value > one), one, select<f64>((VMask<f64>)(value < -one), -one, value));
  return convert<f32, f64>(value);
}

// a / b as a * (1 / b): of divisors above 2^126 the reciprocal is taken for a zero (PTX ISA 9.7.3.8).
ALIQUOT_INLINE V<f32> divide_approx(V<f32> a, V<f32> b) {
  V<f32> size = magnitude<f32>(b), zero = (V<f32>)(pattern<f32>(b) & 0x80000000u);
  VMask<f32> far = (VMask<f32>)((size > 0x1p126f) & (size < from_pattern(0x7F800000u)));
  return select<f32>(far, a * zero, a / b);
}

// tanh within the relative 2^-11 asked for.
ALIQUOT_INLINE V<f32> tanh_approx(V<f32> x) {
  V<f32> size = magnitude<f32>(x);
  V<f32> power = exp2_approx(size * 2.88539008f);
  V<f32> far = 1.f - 2.f / (power + 1.f);
  V<f32> near = size * (1.f - size * size * (1.f / 3));
  V<f32> value = select<f32>((VMask<f32>)(size < 0.02f), near, far);
  return (V<f32>)(pattern<f32>(value) | (pattern<f32>(x) & 0x80000000u));
}

} // namespace
} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
