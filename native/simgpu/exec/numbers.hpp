// Small floating-point formats, converted one value at a time and exactly: 16 bits and below, and tf32.
//
// For the files that are compiled once (lanes.hpp); the formats that programs compute with have vector forms
// in float_rows.hpp.
#pragma once

#include <cstdint>
#include <cstring>

namespace aliquot::simgpu::exec {

enum class Rounding : std::uint8_t { Nearest, Zero, Down, Up, NearestAway };

// Where codes lie: sign, exponent, fraction, from the highest bit down. `infinity` 0: the format has none.
struct SmallFormat {
  int exponent, fraction, bias;
  std::uint32_t largest, infinity, nan;
};

// The numbers of formats in the immediates of operations. PTX ISA 5.2.3 and 9.7.9.21 (cvt).
enum class Small : std::uint8_t { F16, BF16, TF32, E4M3, E5M2, E2M3, E3M2, E2M1, UE8M0 };

inline constexpr SmallFormat kSmallFormats[] = {
    {5, 10, 15, 0x7BFF, 0x7C00, 0x7FFF},
    {8, 7, 127, 0x7F7F, 0x7F80, 0x7FFF},
    {8, 10, 127, 0x3FBFF, 0x3FC00, 0x3FFFF}, // as its 19 bits; registers hold it shifted up by 13
    {4, 3, 7, 0x7E, 0, 0x7F},
    {5, 2, 15, 0x7B, 0x7C, 0x7F},
    {2, 3, 1, 0x1F, 0, 0x1F}, // no NaN: one becomes the largest number
    {3, 2, 3, 0x1F, 0, 0x1F},
    {2, 1, 1, 0x07, 0, 0x07},
};

namespace small {

inline double scaled(double value, int exponent) {
  // in two steps, each exact for the exponents at hand
  auto power = [](int e) {
    std::uint64_t bits = static_cast<std::uint64_t>(e + 1023) << 52;
    double result;
    std::memcpy(&result, &bits, 8);
    return result;
  };
  int half = exponent / 2;
  return value * power(half) * power(exponent - half);
}

inline int exponent_of(double value) { // of a positive number: 1 <= value / 2^e < 2
  std::uint64_t bits;
  std::memcpy(&bits, &value, 8);
  int e = static_cast<int>(bits >> 52 & 0x7FF);
  return e ? e - 1023 : -1074; // a denormal double is below all formats here
}

inline bool rounds_up(std::uint64_t whole, double rest, Rounding how, bool negative) {
  switch (how) {
  case Rounding::Nearest:
    return rest > 0.5 || (rest == 0.5 && (whole & 1));
  case Rounding::NearestAway:
    return rest >= 0.5;
  case Rounding::Down:
    return negative && rest > 0;
  case Rounding::Up:
    return !negative && rest > 0;
  case Rounding::Zero:
    break;
  }
  return false;
}

inline std::uint32_t overflow(const SmallFormat& format, Rounding how, bool negative, bool finite,
                              bool infinite) {
  bool toward_zero =
      how == Rounding::Zero || (how == Rounding::Down && !negative) || (how == Rounding::Up && negative);
  if (finite || (toward_zero && !infinite))
    return format.largest;
  return format.infinity ? format.infinity : format.nan;
}

} // namespace small

// The code of `value`, rounded once. `finite`: what is too large becomes the largest number (.satfinite).
inline std::uint32_t encode(double value, const SmallFormat& format, Rounding how, bool finite) {
  if (value != value)
    return format.nan;
  std::uint64_t bits;
  std::memcpy(&bits, &value, 8);
  bool negative = bits >> 63;
  double size = negative ? -value : value;
  std::uint32_t sign = negative ? 1u << (format.exponent + format.fraction) : 0;
  if (size > 1.7976931348623157e308)
    return sign | small::overflow(format, how, negative, finite, true);
  int least = 1 - format.bias; // exponent of the smallest normal number
  int exponent = size == 0 ? least : small::exponent_of(size);
  if (exponent < least)
    exponent = least;
  double units = small::scaled(size, format.fraction - exponent);
  std::uint64_t whole = static_cast<std::uint64_t>(units);
  whole += small::rounds_up(whole, units - static_cast<double>(whole), how, negative);
  std::uint64_t code = (static_cast<std::uint64_t>(exponent - least) << format.fraction) + whole;
  if (code > format.largest)
    return sign | small::overflow(format, how, negative, finite, false);
  return sign | static_cast<std::uint32_t>(code);
}

inline double decode(std::uint32_t code, const SmallFormat& format) {
  int width = format.exponent + format.fraction;
  std::uint32_t rest = code & ((1u << width) - 1);
  bool negative = code >> width & 1;
  double value;
  if (rest > format.largest) {
    std::uint64_t bits = rest == format.infinity ? 0x7FF0000000000000 : 0x7FFFFFFFFFFFFFFF;
    std::memcpy(&value, &bits, 8);
  } else {
    std::uint32_t exponent = rest >> format.fraction, fraction = rest & ((1u << format.fraction) - 1);
    std::uint32_t whole = exponent ? fraction | 1u << format.fraction : fraction;
    int power = static_cast<int>(exponent ? exponent : 1) - format.bias - format.fraction;
    value = small::scaled(static_cast<double>(whole), power);
  }
  return negative ? -value : value;
}

// ue8m0: a power of two; 0xFF is its NaN. It has no sign: that of the value is dropped.
inline std::uint32_t encode_power(double value, Rounding how, bool finite) {
  if (value != value)
    return 0xFF;
  double size = value < 0 ? -value : value;
  if (size > 1.7976931348623157e308)
    return finite ? 0xFE : 0xFF;
  int exponent = size == 0 ? -1000 : small::exponent_of(size);
  if (how == Rounding::Up && size > 0 && small::scaled(size, -exponent) > 1.0)
    ++exponent;
  if (exponent > 127)
    return finite ? 0xFE : 0xFF;
  return exponent < -127 ? 0 : static_cast<std::uint32_t>(exponent + 127);
}

} // namespace aliquot::simgpu::exec
