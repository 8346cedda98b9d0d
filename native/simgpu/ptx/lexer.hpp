// Characters to tokens (PTX ISA 4.1 to 4.4): comments, identifiers, dot words, literals, punctuation.
//
// Tokens are views into the text. Nothing here knows what a word means.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "native/simgpu/ptx/ast.hpp"

namespace aliquot::simgpu::ptx {

// Thrown inside the parser only; `parse` and `link` turn it into a ParseError.
struct Failure : std::runtime_error {
  Failure(std::uint32_t at_line, const std::string& message) : std::runtime_error(message), line(at_line) {}
  std::uint32_t line;
};

// Single-character punctuation is its own character code.
enum class Tok : std::uint16_t {
  End = 0,
  Not = '!',
  Percent = '%',
  And = '&',
  LeftParen = '(',
  Star = '*',
  Plus = '+',
  Minus = '-',
  Slash = '/',
  Less = '<',
  Greater = '>',
  LeftBracket = '[',
  Xor = '^',
  LeftBrace = '{',
  Or = '|',
  Identifier = 256, // "foo", "%r1", "_"
  DotWord,          // ".global" -> "global", ".shared::cta" -> "shared::cta"
  Integer,
  Float32, // 0f3f800000
  Float64, // 0d..., 1.5, 1e9
  String,
  ShiftLeft,
  ShiftRight,
  LessEqual,
  GreaterEqual,
  Equal,
  NotEqual,
  AndAnd,
  OrOr,
};

constexpr Tok punctuation(char c) {
  return static_cast<Tok>(c);
}

struct Token {
  Tok kind = Tok::End;
  bool is_unsigned = false; // Integer: U suffix, or too large for a signed one
  std::uint32_t line = 1;
  std::string_view text;
  std::uint64_t bits = 0; // value of Integer, pattern of Float32 and Float64
};

class Lexer {
 public:
  explicit Lexer(std::string_view text);
  void next(Token& token);

 private:
  void skip_blank();
  void skip_block_comment();
  void word(Token& token);
  void dot_word(Token& token);
  void number(Token& token);
  void string(Token& token);
  void operator_token(Token& token);
  bool hex_float(Token& token);
  void integer(Token& token);
  void decimal_float(Token& token, const char* end);

  const char* at_;
  const char* end_;
  std::uint32_t line_ = 1;
};

// How a token reads in an error message: "'foo'", "end of text".
std::string describe(const Token& token);

} // namespace aliquot::simgpu::ptx
