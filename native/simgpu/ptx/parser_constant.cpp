// Constant expressions (PTX ISA 4.5): C's operators over .s64, .u64 and floating literals.
#include <bit>

#include "native/simgpu/ptx/parser.hpp"

namespace aliquot::simgpu::ptx {
namespace {

using Kind = Immediate::Kind;

// How tightly a binary operator binds; 0 for what is none.
int precedence(Tok kind) {
  switch (kind) {
  case Tok::OrOr:
    return 1;
  case Tok::AndAnd:
    return 2;
  case punctuation('|'):
    return 3;
  case punctuation('^'):
    return 4;
  case punctuation('&'):
    return 5;
  case Tok::Equal:
  case Tok::NotEqual:
    return 6;
  case punctuation('<'):
  case punctuation('>'):
  case Tok::LessEqual:
  case Tok::GreaterEqual:
    return 7;
  case Tok::ShiftLeft:
  case Tok::ShiftRight:
    return 8;
  case punctuation('+'):
  case punctuation('-'):
    return 9;
  case punctuation('*'):
  case punctuation('/'):
  case punctuation('%'):
    return 10;
  default:
    return 0;
  }
}

std::uint64_t compare(Tok op, const Constant& a, const Constant& b, bool is_unsigned) {
  const std::uint64_t x = a.value.bits, y = b.value.bits;
  const auto sx = static_cast<std::int64_t>(x), sy = static_cast<std::int64_t>(y);
  const bool less = is_unsigned ? x < y : sx < sy;
  switch (op) {
  case Tok::Equal:
    return x == y;
  case Tok::NotEqual:
    return x != y;
  case punctuation('<'):
    return less;
  case Tok::LessEqual:
    return less || x == y;
  case punctuation('>'):
    return !less && x != y;
  default:
    return !less;
  }
}

// `b` is not zero. The one signed quotient that overflows wraps, as everything else here does.
std::uint64_t divide(std::uint64_t a, std::uint64_t b, bool is_unsigned, bool remainder) {
  if (is_unsigned)
    return remainder ? a % b : a / b;
  const auto sa = static_cast<std::int64_t>(a), sb = static_cast<std::int64_t>(b);
  if (sb == -1)
    return remainder ? 0 : 0 - a;
  return static_cast<std::uint64_t>(remainder ? sa % sb : sa / sb);
}

std::uint64_t shift_right(const Constant& a, std::uint64_t count) {
  if (a.is_unsigned)
    return count > 63 ? 0 : a.value.bits >> count;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(a.value.bits) >> (count > 63 ? 63 : count));
}

std::uint64_t arithmetic(Tok op, const Constant& a, const Constant& b, bool is_unsigned) {
  const std::uint64_t x = a.value.bits, y = b.value.bits;
  switch (op) {
  case punctuation('+'):
    return x + y;
  case punctuation('-'):
    return x - y;
  case punctuation('*'):
    return x * y;
  case punctuation('/'):
    return divide(x, y, is_unsigned, false);
  case punctuation('%'):
    return divide(x, y, is_unsigned, true);
  case punctuation('&'):
    return x & y;
  case punctuation('|'):
    return x | y;
  case punctuation('^'):
    return x ^ y;
  case Tok::ShiftLeft:
    return y > 63 ? 0 : x << y;
  case Tok::ShiftRight:
    return shift_right(a, y);
  case Tok::AndAnd:
    return x != 0 && y != 0;
  case Tok::OrOr:
    return x != 0 || y != 0;
  default:
    return compare(op, a, b, is_unsigned);
  }
}

// PTX ISA 4.5.5: a comparison or logical operator gives .s64, a shift keeps its left operand's type, the
// others are unsigned where either operand is.
bool result_is_unsigned(int level, const Constant& a, const Constant& b) {
  if (level <= 2 || level == 6 || level == 7)
    return false;
  return a.is_unsigned || (level != 8 && b.is_unsigned);
}

Constant negate(const Constant& a) {
  Constant result = a;
  if (a.value.kind == Kind::Int)
    result.value.bits = 0 - a.value.bits;
  else
    result.value.bits ^= a.value.kind == Kind::F32 ? std::uint64_t{1} << 31 : std::uint64_t{1} << 63;
  return result;
}

} // namespace

Constant Parser::constant() {
  const Deeper deeper(*this);
  return conditional(binary(1));
}

// "? yes : no" may follow what has been read.
Constant Parser::conditional(const Constant& condition) {
  if (!accept('?'))
    return condition;
  const Constant yes = constant();
  require(':', "in a conditional expression");
  const Constant no = constant();
  Constant result = condition.value.bits != 0 ? yes : no;
  if (yes.value.kind == Kind::Int && no.value.kind == Kind::Int)
    result.is_unsigned = yes.is_unsigned || no.is_unsigned;
  return result;
}

Constant Parser::binary(int lowest) {
  return binary(lowest, unary());
}

// `left` is the first operand, already read.
Constant Parser::binary(int lowest, Constant left) {
  for (;;) {
    const Tok op = token_.kind;
    const int level = precedence(op);
    if (level == 0 || level < lowest)
      return left;
    advance();
    const Constant right = binary(level + 1);
    if (left.value.kind != Kind::Int || right.value.kind != Kind::Int)
      fail("expected integer operands in a constant expression, found a floating-point literal");
    if (level == 10 && op != punctuation('*') && right.value.bits == 0)
      fail("division by zero in a constant expression");
    const bool is_unsigned = left.is_unsigned || right.is_unsigned;
    left.value.bits = arithmetic(op, left, right, is_unsigned);
    left.is_unsigned = result_is_unsigned(level, left, right);
  }
}

Constant Parser::unary() {
  const Deeper deeper(*this);
  if (accept('-'))
    return negate(unary());
  if (accept('+'))
    return unary();
  const bool complement = at('~');
  if (!complement && !at('!'))
    return primary();
  advance();
  Constant result = unary();
  if (result.value.kind != Kind::Int)
    fail("expected an integer after '~' or '!'");
  result.value.bits = complement ? ~result.value.bits : result.value.bits == 0;
  result.is_unsigned = complement && result.is_unsigned;
  return result;
}

Constant Parser::primary() {
  if (at('('))
    return cast_or_group();
  if (accept_identifier("WARP_SZ")) {
    constexpr std::uint64_t kWarpSize = 32;
    return {{Kind::Int, kWarpSize}, false};
  }
  return literal();
}

// "(.s64) x", "(.u64) x" or "(x)".
Constant Parser::cast_or_group() {
  const Deeper deeper(*this);
  require('(', "");
  if (at_word("s64") || at_word("u64")) {
    const bool is_unsigned = token_.text == "u64";
    advance();
    require(')', "after the type of a cast");
    Constant result = unary();
    if (result.value.kind != Kind::Int)
      fail("expected an integer after a cast");
    result.is_unsigned = is_unsigned;
    return result;
  }
  const Constant result = constant();
  require(')', "after a constant expression");
  return result;
}

Constant Parser::literal() {
  Constant result;
  switch (token_.kind) {
  case Tok::Integer:
    result = {{Kind::Int, token_.bits}, token_.is_unsigned};
    break;
  case Tok::Float32:
    result = {{Kind::F32, token_.bits}, false};
    break;
  case Tok::Float64:
    result = {{Kind::F64, token_.bits}, false};
    break;
  default:
    expected("a constant");
  }
  advance();
  return result;
}

std::int64_t Parser::signed_constant() {
  const Constant result = constant();
  if (result.value.kind != Kind::Int)
    fail("expected an integer, found a floating-point literal");
  return static_cast<std::int64_t>(result.value.bits);
}

} // namespace aliquot::simgpu::ptx
