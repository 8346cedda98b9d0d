// Fundamental types (PTX ISA 5.2) and their names.
#include <array>

#include "native/simgpu/ptx/ast.hpp"

namespace aliquot::simgpu::ptx {
namespace {

struct TypeRow {
  std::string_view name;
  std::uint32_t size;
};

// In the order of Type.
constexpr std::array<TypeRow, 25> kTypes = {{
    {"", 0},     {"b8", 1},     {"b16", 2},        {"b32", 4},     {"b64", 8},  {"b128", 16}, {"u8", 1},
    {"u16", 2},  {"u32", 4},    {"u64", 8},        {"s8", 1},      {"s16", 2},  {"s32", 4},   {"s64", 8},
    {"f16", 2},  {"f16x2", 4},  {"bf16", 2},       {"bf16x2", 4},  {"tf32", 4}, {"f32", 4},   {"f64", 8},
    {"pred", 1}, {"texref", 0}, {"samplerref", 0}, {"surfref", 0},
}};
static_assert(kTypes.size() == static_cast<std::size_t>(Type::SurfRef) + 1);

} // namespace

std::uint32_t size_of(Type type) noexcept {
  const auto row = static_cast<std::size_t>(type);
  return row < kTypes.size() ? kTypes[row].size : 0;
}

std::string_view name_of(Type type) noexcept {
  const auto row = static_cast<std::size_t>(type);
  return row < kTypes.size() ? kTypes[row].name : std::string_view{};
}

Type type_from_name(std::string_view name) noexcept {
  for (std::size_t row = 1; row < kTypes.size(); ++row)
    if (kTypes[row].name == name)
      return static_cast<Type>(row);
  return Type::None;
}

} // namespace aliquot::simgpu::ptx
