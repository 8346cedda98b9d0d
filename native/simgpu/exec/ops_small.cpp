// Conversions to and from small floating-point formats, in every rounding; rarer arithmetic of 16-bit formats
// and minima; predicates of lop3. Compiled once (lanes.hpp).
#include "native/simgpu/exec/lanes.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

// Immediate of "encode": format, rounding << 8, .satfinite << 16, .relu << 17.
ALIQUOT_INLINE u32 encode_as(u64 imm, f64 value) {
  Small format = Small(imm & 0xFF);
  Rounding how = Rounding(imm >> 8 & 0xFF);
  bool finite = imm >> 16 & 1, relu = imm >> 17 & 1;
  if (relu && !(value > 0) && value == value)
    value = 0;
  if (format == Small::UE8M0)
    return encode_power(value, how, finite);
  u32 code = encode(value, kSmallFormats[imm & 0xFF], how, finite);
  return format == Small::TF32 ? code << 13 : code;
}

ALIQUOT_INLINE u32 decode_to_float(u64 imm, u32 code) {
  if (Small(imm & 0xFF) == Small::UE8M0)
    return code == 0xFF ? 0x7FFFFFFFu : code == 0 ? 0x00400000u : code << 23;
  f32 value = f32(decode(code, kSmallFormats[imm & 0xFF]));
  return value != value ? 0x7FFFFFFFu : to_pattern(value);
}

// An integer as a double with a sticky last bit, so that one more rounding to a shorter format is right.
ALIQUOT_INLINE f64 odd_double(u64 size) {
  if (size >> 53)
    return f64(s64(size >> 11 | u64((size & 0x7FF) != 0))) * 2048;
  return f64(s64(size));
}

// min and max of numbers with .NaN and .xorsign.abs together: the magnitudes decide, the signs multiply.
ALIQUOT_INLINE f32 extreme_of_magnitudes(f32 a, f32 b, bool largest, bool nan) {
  u32 sign = (to_pattern(a) ^ to_pattern(b)) & 0x80000000u;
  f32 x = from_pattern(to_pattern(a) & 0x7FFFFFFFu), y = from_pattern(to_pattern(b) & 0x7FFFFFFFu);
  if (x != x || y != y) {
    if (nan || (x != x && y != y))
      return from_pattern(0x7FFFFFFF);
    return from_pattern(to_pattern(x != x ? y : x) | sign);
  }
  return from_pattern(to_pattern((x > y) == largest ? x : y) | sign);
}

ALIQUOT_INLINE f32 widen(u16 a, bool brain) {
  return brain ? from_pattern(u32(a) << 16) : half_to_float(a);
}
ALIQUOT_INLINE u16 extreme_short(u16 a, u16 b, u64 imm, bool brain) {
  f32 value = extreme_of_magnitudes(widen(a, brain), widen(b, brain), imm & 1, imm & 2);
  if (value != value)
    return 0x7FFF;
  return brain ? u16(to_pattern(value) >> 16) : float_to_half(value);
}

// {rcp,rsqrt}.approx.ftz.f64 work on upper words, 20 bits of fraction (PTX ISA 9.7.3.14 and 9.7.3.17); a NaN
// has one pattern.
ALIQUOT_INLINE f64 gross_double(u64 bits) {
  bits &= 0xFFFFFFFF00000000u;
  return __builtin_bit_cast(f64, (bits & kInfinity<f64>) == 0 ? bits & kSign<f64> : bits);
}
ALIQUOT_INLINE f64 gross_reciprocal(f64 a, bool root) {
  f64 x = gross_double(__builtin_bit_cast(u64, a));
  f64 value = 1.0 / (root ? __builtin_sqrt(x) : x);
  if (value != value)
    return __builtin_bit_cast(f64, u64(0x7FFFFFFF00000000u));
  return gross_double(__builtin_bit_cast(u64, value) + 0x80000000u);
}

const Entry kFormats[] = {
    EACH1("gross.f64", f64, f64, gross_reciprocal(a, imm != 0)),
    EACH1("encode.f64", u32, f64, encode_as(imm, a)),
    EACH1("encode.f32", u32, f32, encode_as(imm, f64(a))),
    EACH1("encode.h.f64", u16, f64, encode_as(imm, a)),
    EACH1("encode.h.f32", u16, f32, encode_as(imm, f64(a))),
    EACH1("decode", u32, u16, decode_to_float(imm, a)),
    EACH1("cvt.odd.f64.u64", f64, u64, odd_double(a)),
    EACH1("cvt.odd.f64.s64", f64, s64, a < 0 ? -odd_double(0 - u64(a)) : odd_double(u64(a))),
    EACH2("pack.nibbles", u16, u16, u16, (a & 15) | (b & 15) << 4),
    EACH1("flush.bf16", u16, u16, (a & 0x7F80) == 0 ? a & 0x8000 : a),
    EACH1("flush.bf16x2", u32, u32,
          (a & ((a & 0x7F80) == 0 ? ~0x7Fu : ~0u)) & ((a & 0x7F800000u) == 0 ? ~0x7F0000u : ~0u)),
};

// imm: 1 largest, 2 NaN wins
const Entry kExtremes[] = {
    EACH2("xorsign.f32", f32, f32, f32, extreme_of_magnitudes(a, b, imm & 1, imm & 2)),
    EACH2("xorsign.f16", u16, u16, u16, extreme_short(a, b, imm, false)),
    EACH2("xorsign.bf16", u16, u16, u16, extreme_short(a, b, imm, true)),
};

const Entry kPredicates[] = {
    EACH1("nonzero.b32", bool, u32, a != 0),
};

// redux.f32 over the members of r[2]; imm: a NaN wins.
template <bool Largest>
struct ReduceFloats {
  static constexpr const char* shape = "w=ww";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    u32 members = read_lane<u32>(rows, op->r[2], u32(__builtin_ctz(mask)));
    if ((members & ~mask) != 0 && !runtime::warp_sync(context, op, rows, mask, members))
      ALIQUOT_RESUME();
    f32 best = from_pattern(0x7FFFFFFF);
    bool wrong = false;
    ALIQUOT_EACH_LANE(lane, mask & members) {
      f32 value = read_lane<f32>(rows, op->r[1], lane);
      wrong |= value != value;
      if (value != value)
        continue;
      bool tie = best == value && Largest == !(to_pattern(value) >> 31); // -0 is below +0
      if (best != best || (Largest ? value > best : value < best) || tie)
        best = value;
    }
    u32 out = wrong && op->imm ? 0x7FFFFFFFu : to_pattern(best);
    ALIQUOT_EACH_LANE(lane, mask)
    write_lane<u32>(rows, op->r[0], lane, out);
    ALIQUOT_NEXT();
  }
};

const Entry kReductions[] = {
    ALIQUOT_ENTRY("redux.min.f32", ReduceFloats<false>),
    ALIQUOT_ENTRY("redux.max.f32", ReduceFloats<true>),
};

const EntryList kSmallLists[] = {LIST(kFormats), LIST(kExtremes), LIST(kPredicates), LIST(kReductions)};

} // namespace

extern const EntryLists kSmallEntries;
const EntryLists kSmallEntries = {kSmallLists, sizeof kSmallLists / sizeof kSmallLists[0]};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
