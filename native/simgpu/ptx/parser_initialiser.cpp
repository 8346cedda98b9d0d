// Initial values of variables (PTX ISA 5.4.4): numbers, nested lists, addresses.
#include <algorithm>
#include <bit>
#include <cstring>

#include "native/simgpu/ptx/parser.hpp"

namespace aliquot::simgpu::ptx {
namespace {

double as_double(const Immediate& value, bool is_unsigned) {
  switch (value.kind) {
  case Immediate::Kind::F64:
    return std::bit_cast<double>(value.bits);
  case Immediate::Kind::F32:
    return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits));
  case Immediate::Kind::Int:
    break;
  }
  return is_unsigned ? static_cast<double>(value.bits)
                     : static_cast<double>(static_cast<std::int64_t>(value.bits));
}

std::uint64_t f32_pattern(double value) {
  return std::bit_cast<std::uint32_t>(static_cast<float>(value));
}

// Elements that a list `level` braces deep stands for.
std::uint64_t elements_below(const std::vector<std::uint64_t>& dimensions, std::size_t level) {
  std::uint64_t product = 1;
  for (std::size_t i = level; i < dimensions.size(); ++i)
    product *= dimensions[i];
  return product;
}

} // namespace

// `dimensions` has the vector width as its last member; 0 as the first one means "as many as are given".
void Parser::initialiser(Variable& variable, std::vector<std::uint64_t> dimensions) {
  if (size_of(variable.type) == 0) {
    opaque_initialiser();
    return;
  }
  Filling filling{variable, dimensions, size_of(variable.type)};
  if (at('{'))
    initialiser_list(filling, 0);
  else
    initialiser_element(filling);
  if (variable.unsized) {
    const std::uint64_t row = elements_below(dimensions, 1) * filling.element_bytes;
    variable.size = row == 0 ? 0 : (filling.cursor * filling.element_bytes + row - 1) / row * row;
    variable.unsized = false;
  }
}

void Parser::initialiser_list(Filling& filling, std::size_t level) {
  const Deeper deeper(*this);
  const std::uint64_t start = filling.cursor;
  const bool open_ended = level == 0 && filling.variable.unsized;
  if (level >= filling.dimensions.size())
    expected("no more braces than the variable has dimensions");
  const std::uint64_t room = elements_below(filling.dimensions, level);
  require('{', "");
  while (!at('}')) {
    if (at('{'))
      initialiser_list(filling, level + 1);
    else
      initialiser_element(filling);
    if (!open_ended && filling.cursor - start > room)
      fail("too many initial values for '" + filling.variable.name + "'");
    if (!accept(','))
      break;
  }
  require('}', "after initial values");
  // A list inside another one stands for all of its elements, given or not.
  if (level > 0)
    filling.cursor = start + room;
  if (filling.cursor > kLargestVariable)
    fail("'" + filling.variable.name + "' is larger than 2^40 bytes");
}

void Parser::check_room(const Filling& filling, std::uint64_t elements) const {
  const Variable& variable = filling.variable;
  const std::uint64_t end = (filling.cursor + elements) * filling.element_bytes;
  if (!variable.unsized && end > variable.size)
    fail("too many initial values for '" + variable.name + "'");
  const std::uint64_t growth = end > variable.initial.size() ? end - variable.initial.size() : 0;
  if (growth > limits_.initialiser_bytes - initialiser_bytes_)
    fail("initial values take more than " + std::to_string(limits_.initialiser_bytes) + " bytes");
}

// `negative`: the sign goes on in elements of 128 bits.
void Parser::store(Filling& filling, std::uint64_t bits, bool negative) {
  check_room(filling, 1);
  std::vector<std::uint8_t>& bytes = filling.variable.initial;
  const std::size_t at = filling.cursor * filling.element_bytes;
  const std::size_t end = at + filling.element_bytes;
  if (end > bytes.size()) {
    initialiser_bytes_ += end - bytes.size();
    bytes.resize(end);
  }
  std::memcpy(bytes.data() + at, &bits, std::min<std::size_t>(filling.element_bytes, sizeof bits));
  if (filling.element_bytes > sizeof bits && negative)
    std::memset(bytes.data() + at + sizeof bits, 0xFF, filling.element_bytes - sizeof bits);
  ++filling.cursor;
}

void Parser::initialiser_element(Filling& filling) {
  if (at(Tok::Identifier) && token_.text != "WARP_SZ") {
    filling.variable.relocations.push_back(relocation(filling));
    store(filling, 0);
    return;
  }
  if (at(Tok::String)) {
    initialiser_string(filling);
    return;
  }
  Constant value;
  if (at(Tok::Integer)) {
    const Token first = token_;
    advance();
    if (at('(')) { // 0xFF00(symbol): one byte of an address
      advance();
      Relocation byte = relocation(filling);
      require(')', "after the operand of a mask");
      if (filling.element_bytes != 1 || !std::has_single_bit(first.bits / 0xFF) || first.bits % 0xFF != 0 ||
          std::countr_zero(first.bits) % 8 != 0)
        fail("expected a one-byte element and a mask of one byte, found '" + std::string(first.text) + "'");
      byte.mask_shift = static_cast<std::int8_t>(std::countr_zero(first.bits) / 8);
      filling.variable.relocations.push_back(byte);
      store(filling, 0);
      return;
    }
    value = {{Immediate::Kind::Int, first.bits}, first.is_unsigned};
    if (!at(',') && !at('}') && !at(';'))
      value = conditional(binary(1, value));
  } else {
    value = constant();
  }
  const bool negative =
      value.value.kind == Immediate::Kind::Int && !value.is_unsigned && value.value.bits >> 63 != 0;
  store(filling, element_bits(value, filling.variable.type), negative);
}

// "abc" in an array of bytes: its characters as they stand, with C's single-letter escapes.
void Parser::initialiser_string(Filling& filling) {
  if (filling.element_bytes != 1)
    expected("a number (strings fill byte arrays only)");
  const std::string_view text = token_.text;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '\\' && i + 1 < text.size()) {
      const char escape = text[++i];
      c = escape == 'n' ? '\n' : escape == 't' ? '\t' : escape == 'r' ? '\r' : escape == '0' ? '\0' : escape;
    }
    store(filling, static_cast<std::uint8_t>(c));
  }
  advance();
}

std::uint64_t Parser::element_bits(const Constant& constant, Type type) const {
  const bool is_int = constant.value.kind == Immediate::Kind::Int;
  if (type == Type::F32)
    return constant.value.kind == Immediate::Kind::F32
               ? constant.value.bits
               : f32_pattern(as_double(constant.value, constant.is_unsigned));
  if (type == Type::F64)
    return std::bit_cast<std::uint64_t>(as_double(constant.value, constant.is_unsigned));
  if (is_int)
    return constant.value.bits;
  const bool wide = constant.value.kind == Immediate::Kind::F64;
  if (wide && size_of(type) == 4)
    return f32_pattern(as_double(constant.value, false));
  if (size_of(type) != (wide ? 8u : 4u))
    fail("a floating-point value does not fit an element of type ." + std::string(name_of(type)));
  return constant.value.bits;
}

// "symbol", "symbol+8", "generic(symbol)", "generic(symbol)+8", "generic(symbol+8)".
Relocation Parser::relocation(Filling& filling) {
  Relocation result;
  result.at = filling.cursor * filling.element_bytes;
  result.width = static_cast<std::uint8_t>(filling.element_bytes);
  std::string_view name = identifier("a symbol in an initial value");
  result.generic = name == "generic" && at('(');
  if (result.generic) {
    advance();
    name = identifier("a symbol after 'generic('");
    displacement(result.addend);
    require(')', "after the operand of generic");
  }
  displacement(result.addend);
  const Binding& binding = names_.binding(names_.intern(name));
  if (binding.kind != Binding::Kind::Symbol)
    fail("undeclared symbol '" + std::string(name) + "' in an initial value");
  result.symbol = binding.index;
  return result;
}

// Textures and samplers name their properties: { width = 128, addr_mode_0 = wrap }. They have no bytes.
void Parser::opaque_initialiser() {
  const Deeper deeper(*this);
  require('{', "before the properties of a texture, sampler or surface");
  while (!at('}')) {
    if (at('{')) {
      opaque_initialiser();
    } else {
      identifier("a property");
      require('=', "after a property");
      if (at(Tok::Identifier))
        advance();
      else
        constant();
    }
    if (!accept(','))
      break;
  }
  require('}', "after properties");
}

} // namespace aliquot::simgpu::ptx
