// The form of a matrix instruction, as the lowering hands it to the handlers in an operation's immediate.
#pragma once

#include <cstdint>

namespace aliquot::simgpu::exec {

enum class MatrixType : std::uint8_t { F16, BF16, TF32, F32, F64, S32, S8, U8, S4, U4, B1, E4M3, E5M2 };

inline constexpr std::uint32_t bits_of_matrix_type(MatrixType type) {
  constexpr std::uint8_t bits[] = {16, 16, 32, 32, 64, 32, 8, 8, 4, 4, 1, 8, 8};
  return bits[static_cast<int>(type)];
}

struct MatrixForm {
  std::uint8_t m, n;
  std::uint16_t k;
  std::uint8_t a_type : 4, b_type : 4, c_type : 4, d_type : 4;
  std::uint8_t a_column : 1, b_column : 1; // layouts; a_column also that of a load or store
  std::uint8_t saturate : 1;
  std::uint8_t exclusive : 1; // .xor of single bits, else .and
  std::uint8_t part : 2;      // which operand a load is for: a, b, c
  std::uint8_t unused;

  std::uint32_t a_bits() const { return bits_of_matrix_type(static_cast<MatrixType>(a_type)); }
};
static_assert(sizeof(MatrixForm) == 8);

// 32-bit registers of a lane in fragment a (0), b (1), c (2) or d (3) of wmma (PTX ISA 9.7.15.3).
inline std::uint32_t wmma_registers(const MatrixForm& form, std::uint32_t which) {
  MatrixType type = static_cast<MatrixType>(which == 0   ? form.a_type
                                            : which == 1 ? form.b_type
                                            : which == 2 ? form.c_type
                                                         : form.d_type);
  if (which < 2 && type == MatrixType::F16)
    return 8; // of every shape: smaller matrices are held several times
  std::uint32_t height = which == 1 ? form.k : form.m, width = which == 0 ? form.k : form.n;
  return height * width * bits_of_matrix_type(type) / 1024;
}

} // namespace aliquot::simgpu::exec
