// The form of a video instruction (PTX ISA 9.7.17 and 9.7.18), as the lowering hands it to the handler in an
// operation's immediate.
#pragma once

#include <cstdint>

namespace aliquot::simgpu::exec {

enum class Video : std::uint8_t {
  Add,
  Sub,
  AbsDiff,
  Min,
  Max,
  ShiftLeft,
  ShiftRight,
  Average,
  Set, // `comparison`: 0 eq, 1 ne, 2 lt, 3 le, 4 gt, 5 ge
  MultiplyAdd,
};
enum class Second : std::uint8_t { None, Add, Min, Max, Merge };

struct VideoForm {
  std::uint64_t what : 4, second : 3;
  std::uint64_t a_signed : 1, b_signed : 1, d_signed : 1, saturate : 1;
  std::uint64_t lanes : 3;      // 1, 2 or 4
  std::uint64_t wrap : 1;       // of shifts: the amount wraps, else it is clamped
  std::uint64_t comparison : 3; // of Set
  std::uint64_t scale : 4;      // of MultiplyAdd: the sum is shifted right by 7 or 15
  std::uint64_t plus_one : 1;   // of MultiplyAdd
  std::uint64_t a_negated : 1, b_negated : 1, c_negated : 1;
  // SIMD: which lanes are computed. Scalar: which part of the result is written, see `part_of`.
  std::uint64_t target : 4;
  // SIMD: a nibble a lane, its source among those of a and then b. Scalar: which part of the operand.
  std::uint64_t a_select : 16, b_select : 16;
};
static_assert(sizeof(VideoForm) == 8);

// Parts of a 32-bit operand: 0 to 3 bytes, 4 and 5 halves, 6 all of it.
inline constexpr std::uint32_t kWholeWord = 6;

} // namespace aliquot::simgpu::exec
