// Questions about PTX types that the lowering's parts share. No state, nothing about rows or handlers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "native/simgpu/exec/lower.hpp"

namespace aliquot::simgpu::exec {

inline bool is_float(ptx::Type type) {
  return type >= ptx::Type::F16 && type <= ptx::Type::F64;
}
inline bool is_signed(ptx::Type type) {
  return type >= ptx::Type::S8 && type <= ptx::Type::S64;
}

// "b32": for operations that do not care about the sign.
inline std::string bits_name(ptx::Type type) {
  return "b" + std::to_string(ptx::size_of(type) * 8);
}
// "u32" or "s32": for those that do.
inline std::string sign_name(ptx::Type type) {
  return (is_signed(type) ? "s" : "u") + std::to_string(ptx::size_of(type) * 8);
}

// The type that the modifiers name; throws the refusal of an instruction that has none.
inline ptx::Type type_of(const ptx::Instruction& instruction, Modifiers& modifiers) {
  ptx::Type type = modifiers.take_type();
  if (type == ptx::Type::None)
    reject(instruction.position.line, instruction.opcode + " without a type");
  return type;
}

// A rounding as handlers' immediates count it; 0 is to nearest.
inline std::uint64_t rounding_number(std::string_view round) {
  return round == "rz" ? 1 : round == "rm" ? 2 : round == "rp" ? 3 : 0;
}

} // namespace aliquot::simgpu::exec
