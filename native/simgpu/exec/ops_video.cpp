// Video instructions, scalar and SIMD. Compiled once.
#include "native/simgpu/exec/lanes.hpp"
#include "native/simgpu/exec/video.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

ALIQUOT_INLINE s64 extended(u32 value, u32 bits, bool is_signed) {
  u32 kept = bits == 32 ? value : value & ((1u << bits) - 1);
  return is_signed ? s64(s32(kept << (32 - bits)) >> (32 - bits)) : s64(kept);
}
ALIQUOT_INLINE u32 part_bits(u32 part) {
  return part < 4 ? 8 : part < 6 ? 16 : 32;
}
ALIQUOT_INLINE u32 part_shift(u32 part) {
  return part < 4 ? part * 8 : part < 6 ? (part - 4) * 16 : 0;
}

ALIQUOT_INLINE s64 clamped(s64 value, u32 bits, bool is_signed) {
  s64 most = is_signed ? (s64(1) << (bits - 1)) - 1 : (s64(1) << bits) - 1;
  s64 least = is_signed ? -(s64(1) << (bits - 1)) : 0;
  return value > most ? most : value < least ? least : value;
}

ALIQUOT_INLINE bool compared(u32 how, s64 a, s64 b) {
  switch (how) {
  case 0:
    return a == b;
  case 1:
    return a != b;
  case 2:
    return a < b;
  case 3:
    return a <= b;
  case 4:
    return a > b;
  default:
    return a >= b;
  }
}

// a * 2^amount, for amounts up to 32. What has more bits than the result goes far beyond it, its lowest 32
// bits being zeros: saturation sees that it does not fit (PTX ISA 9.7.18.1.2 drops no bits before it clamps).
s64 shifted_left(s64 a, u64 amount) {
  constexpr s64 far = s64(1) << 62;
  if (amount < 32)
    return s64(u64(a) << amount);
  return a == 0 ? 0 : a > 0 ? far : -far;
}

s64 operate(const VideoForm& form, s64 a, s64 b, u32 bits) {
  switch (Video(form.what)) {
  case Video::Add:
    return a + b;
  case Video::Sub:
    return a - b;
  case Video::AbsDiff:
    return a < b ? b - a : a - b;
  case Video::Min:
    return a < b ? a : b;
  case Video::Max:
    return a > b ? a : b;
  case Video::Average: // rounds away from zero if the operands are signed, else up (PTX ISA, vavrg)
    return a + b >= 0 ? (a + b + 1) >> 1 : (a + b) >> 1;
  case Video::Set:
    return compared(u32(form.comparison), a, b);
  case Video::ShiftLeft:
  case Video::ShiftRight: {
    u64 amount = form.wrap ? u64(b) & (bits - 1) : u64(b) > bits ? bits : u64(b);
    if (Video(form.what) == Video::ShiftLeft)
      return shifted_left(a, amount);
    return a >> amount;
  }
  case Video::MultiplyAdd:
    break;
  }
  return 0;
}

ALIQUOT_INLINE u32 combined(const VideoForm& form, u32 value, u32 c) {
  switch (Second(form.second)) {
  case Second::Add:
    return value + c;
  case Second::Min:
    return form.d_signed ? u32(s32(value) < s32(c) ? s32(value) : s32(c)) : value < c ? value : c;
  case Second::Max:
    return form.d_signed ? u32(s32(value) > s32(c) ? s32(value) : s32(c)) : value > c ? value : c;
  case Second::Merge: {
    u32 bits = part_bits(u32(form.target)), shift = part_shift(u32(form.target));
    u32 keep = bits == 32 ? ~0u : ((1u << bits) - 1) << shift;
    return (c & ~keep) | (value << shift & keep);
  }
  case Second::None:
    break;
  }
  return value;
}

u32 multiply_add(const VideoForm& form, s64 a, s64 b, u32 c) {
  bool is_signed = form.a_signed || form.b_signed || (form.a_negated != form.b_negated) || form.c_negated;
  s128 product = s128(a) * b;
  if (form.a_negated != form.b_negated)
    product = -product;
  s64 addend = is_signed ? s64(s32(c)) : s64(c);
  s128 sum = product + (form.c_negated ? -addend : addend) + s64(form.plus_one);
  sum >>= u32(form.scale);
  if (form.saturate) {
    s128 most = is_signed ? 0x7FFFFFFF : s128(0xFFFFFFFF), least = is_signed ? -s128(0x80000000ll) : s128(0);
    sum = sum > most ? most : sum < least ? least : sum;
  }
  return u32(sum);
}

u32 scalar_video(const VideoForm& form, u32 a, u32 b, u32 c) {
  u32 a_part = u32(form.a_select), b_part = u32(form.b_select);
  s64 x = extended(a >> part_shift(a_part), part_bits(a_part), form.a_signed);
  s64 y = extended(b >> part_shift(b_part), part_bits(b_part), form.b_signed);
  if (Video(form.what) == Video::MultiplyAdd)
    return multiply_add(form, x, y, c);
  s64 value = operate(form, x, y, 32);
  if (form.saturate)
    value = clamped(value, Second(form.second) == Second::Merge ? part_bits(u32(form.target)) : 32,
                    form.d_signed);
  return combined(form, u32(value), c);
}

u32 packed_video(const VideoForm& form, u32 a, u32 b, u32 c) {
  u32 lanes = u32(form.lanes), bits = 32 / lanes, result = 0, sum = c;
  u64 both = u64(b) << 32 | a;
  for (u32 lane = 0; lane < lanes; ++lane) {
    u32 shift = lane * bits, keep = ((1u << bits) - 1) << shift;
    if (!(form.target >> lane & 1)) {
      result |= c & keep;
      continue;
    }
    s64 x = extended(u32(both >> (form.a_select >> 4 * lane & 15) * bits), bits, form.a_signed);
    s64 y = extended(u32(both >> (form.b_select >> 4 * lane & 15) * bits), bits, form.b_signed);
    s64 value = operate(form, x, y, bits);
    if (form.saturate)
      value = clamped(value, bits, form.d_signed);
    sum += u32(value);
    result |= u32(value) << shift & keep;
  }
  return Second(form.second) == Second::Add ? sum : result;
}

ALIQUOT_INLINE u32 video(u64 imm, u32 a, u32 b, u32 c) {
  VideoForm form = __builtin_bit_cast(VideoForm, imm);
  return form.lanes == 1 ? scalar_video(form, a, b, c) : packed_video(form, a, b, c);
}

const Entry kVideo[] = {
    EACH3("video", u32, u32, u32, u32, video(imm, a, b, c)),
};

const EntryList kVideoLists[] = {LIST(kVideo)};

} // namespace

extern const EntryLists kVideoEntries;
const EntryLists kVideoEntries = {kVideoLists, sizeof kVideoLists / sizeof kVideoLists[0]};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
