// Characters to tokens; see lexer.hpp.
#include "native/simgpu/ptx/lexer.hpp"

#include <array>
#include <bit>
#include <charconv>
#include <cstring>

namespace aliquot::simgpu::ptx {
namespace {

enum CharClass : std::uint8_t { kOther = 0, kBlank = 1, kDigit = 2, kWordStart = 4, kWordRest = 8 };

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (int c = 'a'; c <= 'z'; ++c)
    classes[c] = classes[c - 'a' + 'A'] = kWordStart | kWordRest;
  for (int c = '0'; c <= '9'; ++c)
    classes[c] = kDigit | kWordRest;
  for (char c : {'_', '$'})
    classes[static_cast<unsigned char>(c)] = kWordStart | kWordRest;
  classes['%'] = kWordStart;
  for (char c : {' ', '\t', '\r', '\v', '\f', '\n'})
    classes[static_cast<unsigned char>(c)] = kBlank;
  return classes;
}
constexpr std::array<std::uint8_t, 256> kClasses = make_classes();

bool is(char c, std::uint8_t mask) {
  return (kClasses[static_cast<unsigned char>(c)] & mask) != 0;
}

int digit_value(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return 99;
}

} // namespace

Lexer::Lexer(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {
  if (const void* nul = text.empty() ? nullptr : std::memchr(text.data(), 0, text.size()))
    end_ = static_cast<const char*>(nul);
}

void Lexer::next(Token& token) {
  skip_blank();
  token.line = line_;
  token.is_unsigned = false;
  if (at_ == end_) {
    token.kind = Tok::End;
    token.text = {};
    return;
  }
  const char c = *at_;
  if (is(c, kWordStart))
    word(token);
  else if (is(c, kDigit))
    number(token);
  else if (c == '.')
    dot_word(token);
  else if (c == '"')
    string(token);
  else
    operator_token(token);
}

void Lexer::skip_blank() {
  while (at_ != end_) {
    if (is(*at_, kBlank)) {
      line_ += *at_ == '\n';
      ++at_;
    } else if (*at_ == '/' && end_ - at_ > 1 && at_[1] == '/') {
      const void* newline = std::memchr(at_, '\n', static_cast<std::size_t>(end_ - at_));
      at_ = newline ? static_cast<const char*>(newline) : end_;
    } else if (*at_ == '/' && end_ - at_ > 1 && at_[1] == '*') {
      skip_block_comment();
    } else {
      return;
    }
  }
}

void Lexer::skip_block_comment() {
  const std::uint32_t start = line_;
  for (at_ += 2; end_ - at_ > 1; ++at_) {
    if (at_[0] == '*' && at_[1] == '/') {
      at_ += 2;
      return;
    }
    line_ += *at_ == '\n';
  }
  throw Failure(start, "expected '*/' to end the comment that starts here, found end of text");
}

void Lexer::word(Token& token) {
  const char* start = at_++;
  while (at_ != end_ && is(*at_, kWordRest))
    ++at_;
  token.kind = Tok::Identifier;
  token.text = {start, static_cast<std::size_t>(at_ - start)};
  if (token.text == "%") {
    token.kind = punctuation('%');
  }
}

void Lexer::dot_word(Token& token) {
  const char* start = ++at_;
  for (;;) {
    while (at_ != end_ && is(*at_, kWordRest))
      ++at_;
    const bool more = end_ - at_ > 2 && at_[0] == ':' && at_[1] == ':' && is(at_[2], kWordRest);
    if (!more || at_ == start)
      break;
    at_ += 2;
  }
  if (at_ == start)
    throw Failure(line_, "expected a directive or modifier after '.'");
  token.kind = Tok::DotWord;
  token.text = {start, static_cast<std::size_t>(at_ - start)};
}

bool Lexer::hex_float(Token& token) {
  const char mark = end_ - at_ > 1 ? static_cast<char>(at_[1] | 0x20) : '\0';
  if (at_[0] != '0' || (mark != 'f' && mark != 'd'))
    return false;
  const std::ptrdiff_t digits = mark == 'f' ? 8 : 16;
  std::uint64_t bits = 0;
  for (std::ptrdiff_t i = 0; i < digits; ++i) {
    const int value = end_ - at_ > i + 2 ? digit_value(at_[i + 2]) : 99;
    if (value > 15)
      throw Failure(line_, mark == 'f' ? "expected 8 hexadecimal digits after 0f"
                                       : "expected 16 hexadecimal digits after 0d");
    bits = bits << 4 | static_cast<std::uint64_t>(value);
  }
  token.kind = mark == 'f' ? Tok::Float32 : Tok::Float64;
  token.bits = bits;
  at_ += digits + 2;
  return true;
}

void Lexer::number(Token& token) {
  const char* start = at_;
  if (!hex_float(token)) {
    const char* digits = at_;
    while (digits != end_ && is(*digits, kDigit))
      ++digits;
    const char after = digits != end_ ? *digits : '\0';
    const bool fraction =
        after == '.' && !(end_ - digits > 1 && is(digits[1], kWordStart) && (digits[1] | 0x20) != 'e');
    if (fraction || after == 'e' || after == 'E')
      decimal_float(token, digits);
    else
      integer(token);
  }
  token.text = {start, static_cast<std::size_t>(at_ - start)};
  if (at_ != end_ && is(*at_, kWordRest))
    throw Failure(line_, "malformed number '" + std::string(token.text) + *at_ + "'");
}

void Lexer::integer(Token& token) {
  unsigned base = 10;
  if (at_[0] == '0' && end_ - at_ > 1) {
    const char mark = static_cast<char>(at_[1] | 0x20);
    base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
    at_ += base == 8 ? 1 : 2;
    if (base != 8 && (at_ == end_ || digit_value(*at_) >= static_cast<int>(base)))
      throw Failure(line_, "expected digits after the base of a number");
  }
  std::uint64_t value = 0;
  bool overflow = false;
  for (; at_ != end_ && digit_value(*at_) < static_cast<int>(base); ++at_) {
    const auto digit = static_cast<std::uint64_t>(digit_value(*at_));
    overflow |= value > (~std::uint64_t{0} - digit) / base;
    value = value * base + digit;
  }
  if (overflow)
    throw Failure(line_, "integer does not fit in 64 bits");
  token.is_unsigned = value >> 63 != 0;
  if (at_ != end_ && (*at_ == 'U' || *at_ == 'u')) {
    token.is_unsigned = true;
    ++at_;
  }
  token.kind = Tok::Integer;
  token.bits = value;
}

void Lexer::decimal_float(Token& token, const char* end) {
  const char* stop = end;
  if (stop != end_ && *stop == '.')
    for (++stop; stop != end_ && is(*stop, kDigit);)
      ++stop;
  if (stop != end_ && (*stop == 'e' || *stop == 'E')) {
    ++stop;
    if (stop != end_ && (*stop == '+' || *stop == '-'))
      ++stop;
    while (stop != end_ && is(*stop, kDigit))
      ++stop;
  }
  double value = 0;
  const auto result = std::from_chars(at_, stop, value);
  if (result.ec != std::errc() || result.ptr != stop)
    throw Failure(line_, "malformed number '" + std::string(at_, stop) + "'");
  token.kind = Tok::Float64;
  token.bits = std::bit_cast<std::uint64_t>(value);
  at_ = stop;
}

void Lexer::string(Token& token) {
  const char* start = ++at_;
  while (at_ != end_ && *at_ != '"' && *at_ != '\n')
    at_ += *at_ == '\\' && end_ - at_ > 1 && at_[1] != '\n' ? 2 : 1;
  if (at_ == end_ || *at_ != '"')
    throw Failure(line_, "expected '\"' at the end of a string");
  token.kind = Tok::String;
  token.text = {start, static_cast<std::size_t>(at_ - start)};
  ++at_;
}

void Lexer::operator_token(Token& token) {
  struct Pair {
    char first, second;
    Tok kind;
  };
  static constexpr Pair kPairs[] = {
      {'<', '<', Tok::ShiftLeft},    {'>', '>', Tok::ShiftRight}, {'<', '=', Tok::LessEqual},
      {'>', '=', Tok::GreaterEqual}, {'=', '=', Tok::Equal},      {'!', '=', Tok::NotEqual},
      {'&', '&', Tok::AndAnd},       {'|', '|', Tok::OrOr},
  };
  token.text = {at_, 1};
  token.kind = punctuation(*at_);
  for (const Pair& pair : kPairs) {
    if (pair.first == *at_ && end_ - at_ > 1 && pair.second == at_[1]) {
      token.kind = pair.kind;
      token.text = {at_, 2};
    }
  }
  if (static_cast<unsigned char>(*at_) >= 0x80 || static_cast<unsigned char>(*at_) < 0x20)
    throw Failure(line_, "unexpected character in PTX text");
  at_ += token.text.size();
}

std::string describe(const Token& token) {
  constexpr std::size_t kLongest = 48;
  if (token.kind == Tok::End)
    return "end of text";
  std::string text(token.text.substr(0, kLongest));
  if (token.text.size() > kLongest)
    text += "...";
  if (token.kind == Tok::DotWord)
    return "'." + text + "'";
  return token.kind == Tok::String ? "\"" + text + "\"" : "'" + text + "'";
}

} // namespace aliquot::simgpu::ptx
