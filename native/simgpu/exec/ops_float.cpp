// Floating-point arithmetic and comparisons (PTX ISA 9.7.3 to 9.7.5): f32, f64, f16, bf16 and their pairs.
#include <fenv.h>

#include "native/simgpu/exec/float_rows.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

// A directed rounding mode for a few operations. The barriers keep the compiler, which knows no rounding
// modes, from moving arithmetic across: operands are read from memory after the switch, results written to
// memory before the switch back.
template <class T, class F, unsigned Sources>
struct Directed {
  static constexpr const char* shape = sizeof(T) == 4 ? (Sources == 1   ? "w=w"
                                                         : Sources == 2 ? "w=ww"
                                                                        : "w=www")
                                                      : (Sources == 1   ? "x=x"
                                                         : Sources == 2 ? "x=xx"
                                                                        : "x=xxx");
  template <bool Full>
  ALIQUOT_HANDLER_ABI static void run(ALIQUOT_ARGS) {
    alignas(64) T out[32];
    compute(op, rows, out);
    V<T> value;
    __builtin_memcpy(&value, out, sizeof out);
    store<T, Full>(rows, op->r[0], value, mask);
    ALIQUOT_NEXT();
  }

  [[gnu::noinline]] static void compute(const Op* op, const char* rows, T* out) {
    const T* a = reinterpret_cast<const T*>(rows + op->r[1]);
    const T* b = reinterpret_cast<const T*>(rows + op->r[Sources > 1 ? 2 : 1]);
    const T* c = reinterpret_cast<const T*>(rows + op->r[Sources > 2 ? 3 : 1]);
    int before = fegetround();
    constexpr int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    fesetround(modes[op->imm & 3]);
    asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(out) : : "memory");
    for (int lane = 0; lane < 32; ++lane)
      out[lane] = F{}(a[lane], b[lane], c[lane]);
    asm volatile("" : : "r"(out) : "memory");
    fesetround(before);
  }
};

#define DIRECTED(name, T, sources, expression)                                                               \
  ALIQUOT_ENTRY(                                                                                             \
      name,                                                                                                  \
      Directed<T, decltype([](T a, [[maybe_unused]] T b, [[maybe_unused]] T c) -> T { return expression; }), \
               sources>)

const Entry kDirected[] = {
    DIRECTED("add.rnd.f32", f32, 2, a + b),
    DIRECTED("sub.rnd.f32", f32, 2, a - b),
    DIRECTED("mul.rnd.f32", f32, 2, a* b),
    DIRECTED("fma.rnd.f32", f32, 3, __builtin_fmaf(a, b, c)),
    DIRECTED("div.rnd.f32", f32, 2, a / b),
    DIRECTED("rcp.rnd.f32", f32, 1, 1.f / a),
    DIRECTED("sqrt.rnd.f32", f32, 1, __builtin_sqrtf(a)),
    DIRECTED("add.rnd.f64", f64, 2, a + b),
    DIRECTED("sub.rnd.f64", f64, 2, a - b),
    DIRECTED("mul.rnd.f64", f64, 2, a* b),
    DIRECTED("fma.rnd.f64", f64, 3, __builtin_fma(a, b, c)),
    DIRECTED("div.rnd.f64", f64, 2, a / b),
    DIRECTED("rcp.rnd.f64", f64, 1, 1.0 / a),
    DIRECTED("sqrt.rnd.f64", f64, 1, __builtin_sqrt(a)),
};

// f32 instructions, without and with .ftz.
#define SINGLE(suffix, ftz)                                                                                  \
  ROW2("add" suffix, f32, f32, f32, flushed<ftz>(flushed<ftz>(a) + flushed<ftz>(b))),                        \
      ROW2("sub" suffix, f32, f32, f32, flushed<ftz>(flushed<ftz>(a) - flushed<ftz>(b))),                    \
      ROW2("mul" suffix, f32, f32, f32, flushed<ftz>(flushed<ftz>(a) * flushed<ftz>(b))),                    \
      ROW3("fma" suffix, f32, f32, f32, f32,                                                                 \
           flushed<ftz>(fused<f32>(flushed<ftz>(a), flushed<ftz>(b), flushed<ftz>(c)))),                     \
      ROW2("div" suffix, f32, f32, f32, flushed<ftz>(flushed<ftz>(a) / flushed<ftz>(b))),                    \
      ROW2("div.approx" suffix, f32, f32, f32,                                                               \
           flushed<ftz>(divide_approx(flushed<ftz>(a), flushed<ftz>(b)))),                                   \
      ROW1("rcp" suffix, f32, f32, flushed<ftz>(1.f / flushed<ftz>(a))),                                     \
      ROW1("sqrt" suffix, f32, f32, flushed<ftz>(square_root<f32>(flushed<ftz>(a)))),                        \
      ROW1("rsqrt" suffix, f32, f32, flushed<ftz>(1.f / square_root<f32>(flushed<ftz>(a)))),                 \
      ROW1("sin" suffix, f32, f32, flushed<ftz>(sine_approx(flushed<ftz>(a), 0))),                           \
      ROW1("cos" suffix, f32, f32, flushed<ftz>(sine_approx(flushed<ftz>(a), 1))),                           \
      ROW1("ex2" suffix, f32, f32, flushed<ftz>(exp2_approx(flushed<ftz>(a)))),                              \
      ROW1("lg2" suffix, f32, f32, log2_approx(flushed<ftz>(a))),                                            \
      ROW2("min" suffix, f32, f32, f32, extreme<f32, false>(flushed<ftz>(a), flushed<ftz>(b))),              \
      ROW2("max" suffix, f32, f32, f32, extreme<f32, true>(flushed<ftz>(a), flushed<ftz>(b))),               \
      ROW2("min.nan" suffix, f32, f32, f32, extreme_nan<f32, false>(flushed<ftz>(a), flushed<ftz>(b))),      \
      ROW2("max.nan" suffix, f32, f32, f32, extreme_nan<f32, true>(flushed<ftz>(a), flushed<ftz>(b))),       \
      ROW2("min.xorsign" suffix, f32, f32, f32,                                                              \
           extreme_xorsign<f32, false>(flushed<ftz>(a), flushed<ftz>(b))),                                   \
      ROW2("max.xorsign" suffix, f32, f32, f32,                                                              \
           extreme_xorsign<f32, true>(flushed<ftz>(a), flushed<ftz>(b))),                                    \
      ROW1("abs" suffix, f32, f32, magnitude<f32>(flushed<ftz>(a))),                                         \
      ROW1("neg" suffix, f32, f32, negate<f32>(flushed<ftz>(a)))

#define COMPARISONS(suffix, T, flush_a, flush_b)                                                             \
  TEST2("setp.eq" suffix, T, flush_a == flush_b),                                                            \
      TEST2("setp.ne" suffix, T, (flush_a < flush_b) | (flush_a > flush_b)),                                 \
      TEST2("setp.lt" suffix, T, flush_a < flush_b), TEST2("setp.le" suffix, T, flush_a <= flush_b),         \
      TEST2("setp.gt" suffix, T, flush_a > flush_b), TEST2("setp.ge" suffix, T, flush_a >= flush_b),         \
      TEST2("setp.equ" suffix, T, ~((flush_a < flush_b) | (flush_a > flush_b))),                             \
      TEST2("setp.neu" suffix, T, flush_a != flush_b), TEST2("setp.ltu" suffix, T, ~(flush_a >= flush_b)),   \
      TEST2("setp.leu" suffix, T, ~(flush_a > flush_b)), TEST2("setp.gtu" suffix, T, ~(flush_a <= flush_b)), \
      TEST2("setp.geu" suffix, T, ~(flush_a < flush_b)),                                                     \
      TEST2("setp.num" suffix, T, (flush_a == flush_a) & (flush_b == flush_b)),                              \
      TEST2("setp.nan" suffix, T, (flush_a != flush_a) | (flush_b != flush_b))

// testp: the class of a number; zeros count as normal (PTX ISA, testp).
#define CLASSES(suffix, T)                                                                                   \
  TEST1("testp.finite" suffix, T, (pattern<T>(a) & kInfinity<T>) != kInfinity<T>),                           \
      TEST1("testp.infinite" suffix, T, (pattern<T>(a) & Bits<T>(~kSign<T>)) == kInfinity<T>),               \
      TEST1("testp.number" suffix, T, a == a), TEST1("testp.notanumber" suffix, T, a != a),                  \
      TEST1("testp.normal" suffix, T,                                                                        \
            ((pattern<T>(a) & kInfinity<T>) != kInfinity<T>)&(((pattern<T>(a) & kInfinity<T>) != 0) |        \
                                                              (a == 0))),                                    \
      TEST1("testp.subnormal" suffix, T, ((pattern<T>(a) & kInfinity<T>) == 0) & (a != 0))
#define TEST1(name, A, ...)                                                                                  \
  ALIQUOT_ENTRY(                                                                                             \
      name,                                                                                                  \
      Map<decltype([](V<A> a) __attribute__((always_inline)) { return bits_of(__VA_ARGS__); }), Pred, A>)

const Entry kSingle[] = {
    SINGLE(".f32", false),
    SINGLE(".ftz.f32", true),
    COMPARISONS(".f32", f32, a, b),
    COMPARISONS(".ftz.f32", f32, flush(a), flush(b)),
    CLASSES(".f32", f32),
    ROW1("flush.f32", f32, f32, flush(a)),
    ROW1("sat.f32", f32, f32, saturate<f32>(a)),
    ROW1("tanh.f32", f32, f32, tanh_approx(a)),
    ROW2("copysign.f32", u32, u32, u32, (a & 0x80000000u) | (b & 0x7FFFFFFFu)),
};

const Entry kDouble[] = {
    ROW2("add.f64", f64, f64, f64, a + b),
    ROW2("sub.f64", f64, f64, f64, a - b),
    ROW2("mul.f64", f64, f64, f64, a* b),
    ROW3("fma.f64", f64, f64, f64, f64, fused<f64>(a, b, c)),
    ROW2("div.f64", f64, f64, f64, a / b),
    ROW1("rcp.f64", f64, f64, 1.0 / a),
    ROW1("sqrt.f64", f64, f64, square_root<f64>(a)),
    ROW1("rsqrt.f64", f64, f64, 1.0 / square_root<f64>(a)),
    ROW2("min.f64", f64, f64, f64, extreme<f64, false>(a, b)),
    ROW2("max.f64", f64, f64, f64, extreme<f64, true>(a, b)),
    ROW1("abs.f64", f64, f64, magnitude<f64>(a)),
    ROW1("neg.f64", f64, f64, negate<f64>(a)),
    ROW1("sat.f64", f64, f64, saturate<f64>(a)),
    ROW2("copysign.f64", u64, u64, u64, (a & kSign<f64>) | (b & ~kSign<f64>)),
    COMPARISONS(".f64", f64, a, b),
    CLASSES(".f64", f64),
};

// --- 16-bit formats: computed in f32, where sums, products and quotients of such numbers round once ---

template <class X, class F>
ALIQUOT_INLINE V<u16> short1(F f, V<u16> a) {
  return X::narrow(f(X::widen(a)));
}
template <class X, class F>
ALIQUOT_INLINE V<u16> short2(F f, V<u16> a, V<u16> b) {
  return X::narrow(f(X::widen(a), X::widen(b)));
}

ALIQUOT_INLINE V<u16> low_half(V<u32> a) {
  return convert<u16, u32>(a);
}
ALIQUOT_INLINE V<u16> high_half(V<u32> a) {
  return convert<u16, u32>(a >> 16);
}
ALIQUOT_INLINE V<u32> pair(V<u16> low, V<u16> high) {
  return convert<u32, u16>(low) | convert<u32, u16>(high) << 16;
}

// An instruction on one 16-bit number and the same on a pair of them.
#define SHORT1(name, suffix, X, expression)                                                                  \
  ROW1(name suffix, u16, u16,                                                                                \
       short1<X>([](V<f32> x) __attribute__((always_inline)) { return expression; }, a)),                    \
      ROW1(                                                                                                  \
          name suffix "x2", u32, u32,                                                                        \
          pair(short1<X>([](V<f32> x) __attribute__((always_inline)) { return expression; }, low_half(a)),   \
               short1<X>([](V<f32> x) __attribute__((always_inline)) { return expression; }, high_half(a))))
#define SHORT2(name, suffix, X, expression)                                                                  \
  ROW2(name suffix, u16, u16, u16,                                                                           \
       short2<X>([](V<f32> x, V<f32> y) __attribute__((always_inline)) { return expression; }, a, b)),       \
      ROW2(name suffix "x2", u32, u32, u32,                                                                  \
           pair(short2<X>([](V<f32> x, V<f32> y) __attribute__((always_inline)) { return expression; },      \
                          low_half(a), low_half(b)),                                                         \
                short2<X>([](V<f32> x, V<f32> y) __attribute__((always_inline)) { return expression; },      \
                          high_half(a), high_half(b))))

#define SHORT(suffix, X)                                                                                     \
  SHORT2("add", suffix, X, x + y), SHORT2("sub", suffix, X, x - y), SHORT2("mul", suffix, X, x* y),          \
      SHORT2("min", suffix, X, (extreme<f32, false>(x, y))),                                                 \
      SHORT2("max", suffix, X, (extreme<f32, true>(x, y))),                                                  \
      SHORT2("min.nan", suffix, X, (extreme_nan<f32, false>(x, y))),                                         \
      SHORT2("max.nan", suffix, X, (extreme_nan<f32, true>(x, y))),                                          \
      SHORT1("ex2", suffix, X, exp2_approx(x)), SHORT1("tanh", suffix, X, tanh_approx(x)),                   \
      SHORT1("sat", suffix, X, saturate<f32>(x)), SHORT1("relu", suffix, X, (extreme_relu(x))),              \
      ROW3("fma" suffix, u16, u16, u16, u16, fused_short<X>(a, b, c)),                                       \
      ROW3("fma" suffix "x2", u32, u32, u32, u32,                                                            \
           pair(fused_short<X>(low_half(a), low_half(b), low_half(c)),                                       \
                fused_short<X>(high_half(a), high_half(b), high_half(c)))),                                  \
      ROW1("neg" suffix, u16, u16, a ^ u16(0x8000)), ROW1("neg" suffix "x2", u32, u32, a ^ 0x80008000u),     \
      ROW1("abs" suffix, u16, u16, a& u16(0x7FFF)), ROW1("abs" suffix "x2", u32, u32, a & 0x7FFF7FFFu)

// relu: negatives become +0, NaN stays.
ALIQUOT_INLINE V<f32> extreme_relu(V<f32> x) {
  return select<f32>((VMask<f32>)((x > 0.f) | (x != x)), x, V<f32>{});
}

ALIQUOT_INLINE V<u16> flush_half(V<u16> a) {
  return select<u16>((V<s16>)((a & u16(0x7C00)) == 0), a & u16(0x8000), a);
}

#define SHORT_TESTS(suffix, X)                                                                               \
  SHORT_TEST("setp.eq" suffix, X, x == y), SHORT_TEST("setp.ne" suffix, X, (x < y) | (x > y)),               \
      SHORT_TEST("setp.lt" suffix, X, x < y), SHORT_TEST("setp.le" suffix, X, x <= y),                       \
      SHORT_TEST("setp.gt" suffix, X, x > y), SHORT_TEST("setp.ge" suffix, X, x >= y),                       \
      SHORT_TEST("setp.equ" suffix, X, ~((x < y) | (x > y))), SHORT_TEST("setp.neu" suffix, X, x != y),      \
      SHORT_TEST("setp.ltu" suffix, X, ~(x >= y)), SHORT_TEST("setp.leu" suffix, X, ~(x > y)),               \
      SHORT_TEST("setp.gtu" suffix, X, ~(x <= y)), SHORT_TEST("setp.geu" suffix, X, ~(x < y)),               \
      SHORT_TEST("setp.num" suffix, X, (x == x) & (y == y)),                                                 \
      SHORT_TEST("setp.nan" suffix, X, (x != x) | (y != y))
#define SHORT_TEST(name, X, expression)                                                                      \
  ALIQUOT_ENTRY(name, Map<decltype([](V<u16> a, V<u16> b) __attribute__((always_inline)) {                   \
                            V<f32> x = X::widen(a), y = X::widen(b);                                         \
                            return bits_of(expression);                                                      \
                          }),                                                                                \
                          Pred, u16, u16>)

const Entry kShort[] = {
    SHORT(".f16", Half),
    SHORT(".bf16", Bfloat),
    SHORT_TESTS(".f16", Half),
    SHORT_TESTS(".bf16", Bfloat),
    ROW1("flush.f16", u16, u16, flush_half(a)),
    ROW1("flush.f16x2", u32, u32, pair(flush_half(low_half(a)), flush_half(high_half(a)))),
};

const EntryList kFloatLists[] = {LIST(kDirected), LIST(kSingle), LIST(kDouble), LIST(kShort)};

} // namespace

extern const EntryLists kFloatEntries;
const EntryLists kFloatEntries = {kFloatLists, sizeof kFloatLists / sizeof kFloatLists[0]};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
