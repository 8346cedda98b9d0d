// Integer arithmetic, logic, shifts, bit fields, comparisons and moves (PTX ISA 9.7.1, 9.7.2, 9.7.5
// to 9.7.9).
#include "native/simgpu/exec/rows.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

// --- Scalar forms of what PTX defines by cases ---

// Division by zero yields all ones, as on the vendor's hardware; the one overflow wraps.
template <class T>
ALIQUOT_INLINE T divide(T a, T b) {
  if (b == 0)
    return T(~T(0));
  if (T(-1) < T(0) && b == T(-1))
    return T(0 - Bits<T>(a));
  return T(a / b);
}

template <class T>
ALIQUOT_INLINE T remainder(T a, T b) {
  if (b == 0)
    return a;
  if (T(-1) < T(0) && b == T(-1))
    return 0;
  return T(a % b);
}

// 32-bit division through doubles, which vectorises: 53 bits hold any quotient of 32-bit numbers apart from
// its neighbours.
template <class T>
ALIQUOT_INLINE T divide32(T a, T b) {
  T quotient = T(s64(f64(a) / f64(b == 0 ? T(1) : b)));
  return b == 0 ? T(~T(0)) : quotient;
}

template <class T>
ALIQUOT_INLINE T remainder32(T a, T b) {
  return b == 0 ? a : T(Bits<T>(a) - Bits<T>(divide32(a, b)) * Bits<T>(b));
}

template <class T>
ALIQUOT_INLINE T extract_field(T a, u32 position, u32 length) {
  constexpr u32 width = sizeof(T) * 8;
  position &= 0xff;
  length &= 0xff;
  bool is_signed = T(-1) < T(0);
  u32 top = position + length - 1 > width - 1 ? width - 1 : position + length - 1;
  bool sign = is_signed && length != 0 && ((Bits<T>(a) >> top) & 1);
  Bits<T> shifted = position < width ? Bits<T>(a) >> position : 0;
  Bits<T> keep = length >= width ? ~Bits<T>(0) : (Bits<T>(1) << length) - 1;
  u32 left = position < width ? width - position : 0; // bits of `a` at and above the position
  if (left < length && left < width)
    keep = left == 0 ? 0 : (Bits<T>(1) << left) - 1;
  return T((shifted & keep) | (sign ? ~keep : 0));
}

template <class T>
ALIQUOT_INLINE T insert_field(T field, T base, u32 position, u32 length) {
  constexpr u32 width = sizeof(T) * 8;
  position &= 0xff;
  length &= 0xff;
  if (length == 0 || position >= width)
    return base;
  T keep = length >= width ? ~T(0) : (T(1) << length) - 1;
  return (base & ~(keep << position)) | ((field & keep) << position);
}

template <class T>
ALIQUOT_INLINE u32 find_leading(T a, bool shift_amount) {
  Bits<T> bits = Bits<T>(a < T(0) ? ~a : a);
  if (bits == 0)
    return 0xFFFFFFFFu;
  u32 width = sizeof(T) * 8;
  u32 zeros = width == 64 ? u32(__builtin_clzll(bits)) : u32(__builtin_clz(u32(bits)));
  return shift_amount ? zeros : width - 1 - zeros;
}

ALIQUOT_INLINE u32 reverse(u32 a) {
  a = ((a >> 1) & 0x55555555u) | ((a & 0x55555555u) << 1);
  a = ((a >> 2) & 0x33333333u) | ((a & 0x33333333u) << 2);
  a = ((a >> 4) & 0x0F0F0F0Fu) | ((a & 0x0F0F0F0Fu) << 4);
  return __builtin_bswap32(a);
}

// The Nth set bit from a base (PTX ISA, fns).
ALIQUOT_INLINE u32 find_nth_set(u32 bits, u32 base, s32 nth) {
  if (base > 31)
    return 0xFFFFFFFFu;
  if (nth == 0)
    return (bits >> base) & 1 ? base : 0xFFFFFFFFu;
  s32 step = nth > 0 ? 1 : -1, left = nth > 0 ? nth : -nth;
  for (s32 at = s32(base); at >= 0 && at < 32; at += step)
    if ((bits >> at) & 1 && --left == 0)
      return u32(at);
  return 0xFFFFFFFFu;
}

ALIQUOT_INLINE u32 permute_bytes(u64 bytes, u32 selector) {
  u32 result = 0;
  for (u32 i = 0; i < 4; ++i) {
    u32 pick = (selector >> (4 * i)) & 15;
    u32 byte = u32(bytes >> (8 * (pick & 7))) & 0xff;
    if (pick & 8)
      byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}

// The named modes of prmt as selectors (PTX ISA, table of prmt modes), by the two low bits of c.
ALIQUOT_INLINE u32 permute_mode(u64 bytes, u32 c, u32 mode) {
  constexpr u16 selectors[6][4] = {{0x3210, 0x4321, 0x5432, 0x6543}, {0x5670, 0x6701, 0x7012, 0x0123},
                                   {0x0000, 0x1111, 0x2222, 0x3333}, {0x3210, 0x3211, 0x3222, 0x3333},
                                   {0x0000, 0x1110, 0x2210, 0x3210}, {0x1010, 0x3232, 0x1010, 0x3232}};
  return permute_bytes(bytes, selectors[mode][c & 3]);
}

ALIQUOT_INLINE u64 join(u32 low, u32 high) {
  return u64(high) << 32 | low;
}

template <class A, class B>
ALIQUOT_INLINE u32 dot4(u32 a, u32 b, u32 c) {
  for (u32 i = 0; i < 4; ++i)
    c += u32(s32(A(a >> (8 * i))) * s32(B(b >> (8 * i))));
  return c;
}

template <class A, class B>
ALIQUOT_INLINE u32 dot2(u32 a, u32 b, u32 c, u32 high) {
  for (u32 i = 0; i < 2; ++i)
    c += u32(s32(A(a >> (16 * i))) * s32(B(b >> (8 * i + 16 * high))));
  return c;
}

template <class T>
ALIQUOT_INLINE T saturating(s64 value) {
  return value > 0x7FFFFFFF ? 0x7FFFFFFF : value < -0x80000000ll ? T(-0x80000000ll) : T(value);
}

// --- Row forms ---

template <class T>
ALIQUOT_INLINE V<T> shift_left(V<T> a, V<u32> amount) {
  constexpr u32 width = sizeof(T) * 8;
  V<T> by = convert<T, u32>(amount & (width - 1));
  V<T> shifted = a << by;
  return select<T>(__builtin_convertvector(amount < width, VMask<T>), shifted, V<T>{});
}

template <class T>
ALIQUOT_INLINE V<T> shift_right(V<T> a, V<u32> amount) {
  constexpr u32 width = sizeof(T) * 8;
  V<u32> most = splat<u32>(width - 1);
  if constexpr (T(-1) < T(0)) {
    V<u32> clamped = amount < width ? amount : most;
    return a >> convert<T, u32>(clamped);
  } else {
    V<T> shifted = a >> convert<T, u32>(amount & (width - 1));
    return select<T>(__builtin_convertvector(amount < width, VMask<T>), shifted, V<T>{});
  }
}

template <class Wide, class T>
ALIQUOT_INLINE V<T> high_product(V<T> a, V<T> b) {
  return convert<T, Wide>((convert<Wide, T>(a) * convert<Wide, T>(b)) >> int(sizeof(T) * 8));
}

template <class T>
ALIQUOT_INLINE V<T> smaller(V<T> a, V<T> b) {
  return a < b ? a : b;
}
template <class T>
ALIQUOT_INLINE V<T> larger(V<T> a, V<T> b) {
  return a > b ? a : b;
}

// Modulo 2^n as PTX has it; signed elements that overflow are undefined in C++.
template <class T>
ALIQUOT_INLINE V<T> wrapping_add(V<T> a, V<T> b) {
  return (V<T>)((V<Bits<T>>)a + (V<Bits<T>>)b);
}

template <class T>
ALIQUOT_INLINE V<T> wrapping_subtract(V<T> a, V<T> b) {
  return (V<T>)((V<Bits<T>>)a - (V<Bits<T>>)b);
}

// Funnel shifts: the 64-bit value {b, a}, by `amount` clamped to 32 or wrapped.
ALIQUOT_INLINE V<u32> funnel_left(V<u32> a, V<u32> b, V<u32> amount) {
  V<u64> both = convert<u64, u32>(b) << 32 | convert<u64, u32>(a);
  return convert<u32, u64>((both << convert<u64, u32>(amount)) >> 32);
}
ALIQUOT_INLINE V<u32> funnel_right(V<u32> a, V<u32> b, V<u32> amount) {
  V<u64> both = convert<u64, u32>(b) << 32 | convert<u64, u32>(a);
  return convert<u32, u64>(both >> convert<u64, u32>(amount));
}
ALIQUOT_INLINE V<u32> at_most_32(V<u32> amount) {
  return smaller<u32>(amount, splat<u32>(32));
}

// lop3: any function of three bits, as its truth table in the immediate.
struct Lop3 {
  static constexpr const char* shape = "w=www";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    V<u32> a = load<u32>(rows, op->r[1]), b = load<u32>(rows, op->r[2]), c = load<u32>(rows, op->r[3]);
    // Choose by a between two choices by b between two choices by c.
    auto choose = [&](u32 bits) __attribute__((always_inline)) {
      V<u32> one = splat<u32>(bits & 2 ? ~0u : 0u), zero = splat<u32>(bits & 1 ? ~0u : 0u);
      return (c & one) | (~c & zero);
    };
    u32 table = u32(op->imm);
    V<u32> with_a = (b & choose(table >> 6)) | (~b & choose(table >> 4));
    V<u32> without = (b & choose(table >> 2)) | (~b & choose(table));
    store<u32, Full>(rows, op->r[0], (a & with_a) | (~a & without), mask);
    ALIQUOT_NEXT();
  }
};

// add.cc, addc, addc.cc and the same for sub; the carry is a predicate of its own.
template <class T, bool Subtract, bool In, bool Out>
struct Carry {
  static constexpr const char* shape =
      sizeof(T) == 4 ? (In ? Out ? "wp=wwp" : "w=wwp" : "wp=ww") : (In ? Out ? "xp=xxp" : "x=xxp" : "xp=xx");
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    constexpr u32 first = Out ? 2 : 1;
    V<T> a = load<T>(rows, op->r[first]), b = load<T>(rows, op->r[first + 1]);
    V<T> in{};
    if constexpr (In)
      in = (V<T>)expand<T>(load_predicate(rows, op->r[first + 2])) & T(1);
    V<T> partial = Subtract ? a - b : a + b;
    V<T> sum = Subtract ? partial - in : partial + in;
    store<T, Full>(rows, op->r[0], sum, mask);
    if constexpr (Out) {
      // Carry: the sum wrapped at either step. Borrow: the minuend was smaller at either step.
      u32 out =
          Subtract ? bits_of(a < b) | bits_of(partial < in) : bits_of(partial < a) | bits_of(sum < partial);
      store_predicate<Full>(rows, op->r[1], out, mask);
    }
    ALIQUOT_NEXT();
  }
};

// --- Tables ---

#define EVERY_WIDTH(suffix, T, S)                                                                            \
  ROW2("add." suffix, T, T, T, a + b), ROW2("sub." suffix, T, T, T, a - b),                                  \
      ROW2("mul.lo." suffix, T, T, T, a* b), ROW3("mad.lo." suffix, T, T, T, T, a* b + c),                   \
      ROW2("and." suffix, T, T, T, a& b), ROW2("or." suffix, T, T, T, a | b),                                \
      ROW2("xor." suffix, T, T, T, a ^ b), ROW1("not." suffix, T, T, ~a),                                    \
      ROW1("neg." suffix, T, T, V<T>{} - a),                                                                 \
      ROW1("abs." suffix, T, S, a < 0 ? wrapping_subtract<S>(V<S>{}, a) : a), ROW1("mov." suffix, T, T, a),  \
      ROW1("cnot." suffix, T, T, (V<T>)(a == 0) & T(1)),                                                     \
      ROW2("shl." suffix, T, T, u32, shift_left<T>(a, b)),                                                   \
      ALIQUOT_ENTRY("selp." suffix, Map<decltype([](V<T> a, V<T> b, u32 p) __attribute__((always_inline)) {  \
                                          return select<T>(expand<T>(p), a, b);                              \
                                        }),                                                                  \
                                        T, T, T, Pred>),                                                     \
      TEST2("setp.eq." suffix, T, a == b), TEST2("setp.ne." suffix, T, a != b)

#define EVERY_SIGN(suffix, T)                                                                                \
  ROW2("min." suffix, T, T, T, smaller<T>(a, b)), ROW2("max." suffix, T, T, T, larger<T>(a, b)),             \
      ROW2("shr." suffix, T, T, u32, shift_right<T>(a, b)), TEST2("setp.lt." suffix, T, a < b),              \
      TEST2("setp.le." suffix, T, a <= b), TEST2("setp.gt." suffix, T, a > b),                               \
      TEST2("setp.ge." suffix, T, a >= b),                                                                   \
      ROW3("sad." suffix, T, T, T, T,                                                                        \
           wrapping_add<T>(c, wrapping_subtract<T>(larger<T>(a, b), smaller<T>(a, b))))

#define WIDE(suffix, T, Wide)                                                                                \
  ROW2("mul.wide." suffix, Wide, T, T, convert<Wide, T>(a) * convert<Wide, T>(b)),                           \
      ROW3("mad.wide." suffix, Wide, T, T, Wide,                                                             \
           wrapping_add<Wide>(convert<Wide, T>(a) * convert<Wide, T>(b), c)),                                \
      ROW2("mul.hi." suffix, T, T, T, high_product<Wide, T>(a, b))

#define DIVIDE(suffix, T, quotient, rest)                                                                    \
  LANE2("div." suffix, T, T, T, quotient<T>(a, b)), LANE2("rem." suffix, T, T, T, rest<T>(a, b))

#define FIELDS(suffix, T)                                                                                    \
  LANE3("bfe." suffix, T, T, u32, u32, extract_field<T>(a, b, c)),                                           \
      LANE1("bfind." suffix, u32, T, find_leading<T>(a, false)),                                             \
      LANE1("bfind.shiftamt." suffix, u32, T, find_leading<T>(a, true))

template <class T>
struct InsertField {
  static constexpr const char* shape = sizeof(T) == 4 ? "w=wwww" : "x=xxww";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    V<T> field = load<T>(rows, op->r[1]), base = load<T>(rows, op->r[2]);
    V<u32> position = load<u32>(rows, op->r[3]), length = load<u32>(rows, op->r[4]);
    V<T> out = each_lane<T>([](T f, T b, u32 p, u32 l) { return insert_field<T>(f, b, p, l); }, field, base,
                            position, length);
    store<T, Full>(rows, op->r[0], out, mask);
    ALIQUOT_NEXT();
  }
};

// prmt, with the mode in the immediate: 0 none, else 1 + number of the named mode.
struct Permute {
  static constexpr const char* shape = "w=www";
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    V<u32> a = load<u32>(rows, op->r[1]), b = load<u32>(rows, op->r[2]), c = load<u32>(rows, op->r[3]);
    u32 mode = u32(op->imm);
    V<u32> out =
        mode == 0
            ? each_lane<u32>([](u32 x, u32 y, u32 z) { return permute_bytes(join(x, y), z); }, a, b, c)
            : each_lane<u32>([mode](u32 x, u32 y, u32 z) { return permute_mode(join(x, y), z, mode - 1); }, a,
                             b, c);
    store<u32, Full>(rows, op->r[0], out, mask);
    ALIQUOT_NEXT();
  }
};

const Entry kArithmetic[] = {
    EVERY_WIDTH("b16", u16, s16),
    EVERY_WIDTH("b32", u32, s32),
    EVERY_WIDTH("b64", u64, s64),
    EVERY_SIGN("u16", u16),
    EVERY_SIGN("s16", s16),
    EVERY_SIGN("u32", u32),
    EVERY_SIGN("s32", s32),
    EVERY_SIGN("u64", u64),
    EVERY_SIGN("s64", s64),
    WIDE("u16", u16, u32),
    WIDE("s16", s16, s32),
    WIDE("u32", u32, u64),
    WIDE("s32", s32, s64),
    LANE2("mul.hi.u64", u64, u64, u64, u64((u128(a) * b) >> 64)),
    LANE2("mul.hi.s64", s64, s64, s64, s64((s128(a) * b) >> 64)),
    DIVIDE("u16", u16, divide, remainder),
    DIVIDE("s16", s16, divide, remainder),
    DIVIDE("u32", u32, divide32, remainder32),
    DIVIDE("s32", s32, divide32, remainder32),
    DIVIDE("u64", u64, divide, remainder),
    DIVIDE("s64", s64, divide, remainder),
    ROW2("mul24.lo.b32", u32, u32, u32, (a & 0xFFFFFFu) * (b & 0xFFFFFFu)),
    LANE2("mul24.hi.u32", u32, u32, u32, u32((u64(a & 0xFFFFFF) * (b & 0xFFFFFF)) >> 16)),
    LANE2("mul24.hi.s32", s32, s32, s32, s32((s64(s32(u32(a) << 8) >> 8) * (s32(u32(b) << 8) >> 8)) >> 16)),
    LANE2("add.sat.s32", s32, s32, s32, saturating<s32>(s64(a) + b)),
    LANE2("sub.sat.s32", s32, s32, s32, saturating<s32>(s64(a) - b)),
};

const Entry kCarries[] = {
    ALIQUOT_ENTRY("add.cc.b32", Carry<u32, false, false, true>),
    ALIQUOT_ENTRY("addc.b32", Carry<u32, false, true, false>),
    ALIQUOT_ENTRY("addc.cc.b32", Carry<u32, false, true, true>),
    ALIQUOT_ENTRY("sub.cc.b32", Carry<u32, true, false, true>),
    ALIQUOT_ENTRY("subc.b32", Carry<u32, true, true, false>),
    ALIQUOT_ENTRY("subc.cc.b32", Carry<u32, true, true, true>),
    ALIQUOT_ENTRY("add.cc.b64", Carry<u64, false, false, true>),
    ALIQUOT_ENTRY("addc.b64", Carry<u64, false, true, false>),
    ALIQUOT_ENTRY("addc.cc.b64", Carry<u64, false, true, true>),
    ALIQUOT_ENTRY("sub.cc.b64", Carry<u64, true, false, true>),
    ALIQUOT_ENTRY("subc.b64", Carry<u64, true, true, false>),
    ALIQUOT_ENTRY("subc.cc.b64", Carry<u64, true, true, true>),
};

const Entry kBits[] = {
    FIELDS("u32", u32),
    FIELDS("s32", s32),
    FIELDS("u64", u64),
    FIELDS("s64", s64),
    ALIQUOT_ENTRY("bfi.b32", InsertField<u32>),
    ALIQUOT_ENTRY("bfi.b64", InsertField<u64>),
    LANE1("popc.b32", u32, u32, __builtin_popcount(a)),
    LANE1("popc.b64", u32, u64, __builtin_popcountll(a)),
    LANE1("clz.b32", u32, u32, a == 0 ? 32 : __builtin_clz(a)),
    LANE1("clz.b64", u32, u64, a == 0 ? 64 : __builtin_clzll(a)),
    LANE1("brev.b32", u32, u32, reverse(a)),
    LANE1("brev.b64", u64, u64, join(reverse(u32(a >> 32)), reverse(u32(a)))),
    LANE3("fns.b32", u32, u32, u32, s32, find_nth_set(a, b, c)),
    ROW2("bmsk.clamp.b32", u32, u32, u32, (shift_left<u32>(shift_left<u32>(splat<u32>(1), b) - 1, a))),
    ROW2("bmsk.wrap.b32", u32, u32, u32,
         (shift_left<u32>(shift_left<u32>(splat<u32>(1), b & 31u) - 1, a & 31u))),
    LANE2("szext.clamp.u32", u32, u32, u32,
          b == 0    ? 0
          : b >= 32 ? a
                    : a & ((1u << b) - 1)),
    LANE2("szext.clamp.s32", u32, u32, u32,
          b == 0    ? 0
          : b >= 32 ? a
                    : u32(s32(a << (32 - b)) >> (32 - b))),
    LANE2("szext.wrap.u32", u32, u32, u32, (b & 31) == 0 ? 0 : a & ((1u << (b & 31)) - 1)),
    LANE2("szext.wrap.s32", u32, u32, u32,
          (b & 31) == 0 ? 0 : u32(s32(a << (32 - (b & 31))) >> (32 - (b & 31)))),
    ALIQUOT_ENTRY("prmt.b32", Permute),
    ALIQUOT_ENTRY("lop3.b32", Lop3),
    ROW3("shf.l.clamp.b32", u32, u32, u32, u32, funnel_left(a, b, at_most_32(c))),
    ROW3("shf.l.wrap.b32", u32, u32, u32, u32, funnel_left(a, b, c & 31u)),
    ROW3("shf.r.clamp.b32", u32, u32, u32, u32, funnel_right(a, b, at_most_32(c))),
    ROW3("shf.r.wrap.b32", u32, u32, u32, u32, funnel_right(a, b, c & 31u)),
    LANE3("dp4a.u32.u32", u32, u32, u32, u32, dot4<u8, u8>(a, b, c)),
    LANE3("dp4a.u32.s32", u32, u32, u32, u32, dot4<u8, s8>(a, b, c)),
    LANE3("dp4a.s32.u32", u32, u32, u32, u32, dot4<s8, u8>(a, b, c)),
    LANE3("dp4a.s32.s32", u32, u32, u32, u32, dot4<s8, s8>(a, b, c)),
    LANE3("dp2a.lo.u32.u32", u32, u32, u32, u32, dot2<u16, u8>(a, b, c, 0)),
    LANE3("dp2a.lo.u32.s32", u32, u32, u32, u32, dot2<u16, s8>(a, b, c, 0)),
    LANE3("dp2a.lo.s32.u32", u32, u32, u32, u32, dot2<s16, u8>(a, b, c, 0)),
    LANE3("dp2a.lo.s32.s32", u32, u32, u32, u32, dot2<s16, s8>(a, b, c, 0)),
    LANE3("dp2a.hi.u32.u32", u32, u32, u32, u32, dot2<u16, u8>(a, b, c, 1)),
    LANE3("dp2a.hi.u32.s32", u32, u32, u32, u32, dot2<u16, s8>(a, b, c, 1)),
    LANE3("dp2a.hi.s32.u32", u32, u32, u32, u32, dot2<s16, u8>(a, b, c, 1)),
    LANE3("dp2a.hi.s32.s32", u32, u32, u32, u32, dot2<s16, s8>(a, b, c, 1)),
};

#define PREDICATE2(name, expression)                                                                         \
  ALIQUOT_ENTRY(name, Map<decltype([](u32 a, u32 b) { return expression; }), Pred, Pred, Pred>)
const Entry kPredicates[] = {
    PREDICATE2("and.pred", a& b),
    PREDICATE2("or.pred", a | b),
    PREDICATE2("xor.pred", a ^ b),
    ALIQUOT_ENTRY("not.pred", Map<decltype([](u32 a) { return ~a; }), Pred, Pred>),
    ALIQUOT_ENTRY("mov.pred", Map<decltype([](u32 a) { return a; }), Pred, Pred>),
};

const EntryList kIntegerLists[] = {LIST(kArithmetic), LIST(kCarries), LIST(kBits), LIST(kPredicates)};

} // namespace

extern const EntryLists kIntegerEntries;
const EntryLists kIntegerEntries = {kIntegerLists, sizeof kIntegerLists / sizeof kIntegerLists[0]};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
