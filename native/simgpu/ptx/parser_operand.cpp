// Instructions and operands (PTX ISA 6 and 9.3).
#include <algorithm>
#include <array>
#include <iterator>

#include "native/simgpu/ptx/parser.hpp"

namespace aliquot::simgpu::ptx {
namespace {

// PTX ISA 10, special registers. Those that end in digits come in numbers, see is_special.
constexpr std::string_view kSpecials[] = {
    "%aggr_smem_size",
    "%clock",
    "%clock64",
    "%clock_hi",
    "%cluster_ctaid",
    "%cluster_ctarank",
    "%cluster_nctaid",
    "%cluster_nctarank",
    "%clusterid",
    "%ctaid",
    "%current_graph_exec",
    "%dynamic_smem_size",
    "%globaltimer",
    "%globaltimer_hi",
    "%globaltimer_lo",
    "%gridid",
    "%is_explicit_cluster",
    "%laneid",
    "%lanemask_eq",
    "%lanemask_ge",
    "%lanemask_gt",
    "%lanemask_le",
    "%lanemask_lt",
    "%nclusterid",
    "%nctaid",
    "%nsmid",
    "%ntid",
    "%nwarpid",
    "%reserved_smem_offset_begin",
    "%reserved_smem_offset_cap",
    "%reserved_smem_offset_end",
    "%smid",
    "%tid",
    "%total_smem_size",
    "%warpid",
};

// "%envreg3", "%pm2", "%pm2_64", "%reserved_smem_offset_0".
bool is_numbered_special(std::string_view name) {
  constexpr std::string_view kPrefixes[] = {"%envreg", "%pm", "%reserved_smem_offset_"};
  for (const std::string_view prefix : kPrefixes) {
    if (!name.starts_with(prefix))
      continue;
    std::string_view number = name.substr(prefix.size());
    if (prefix == "%pm" && number.ends_with("_64"))
      number.remove_suffix(3);
    return (number.size() == 1 || number.size() == 2) &&
           std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  }
  return false;
}

bool is_special(std::string_view name) {
  return std::find(std::begin(kSpecials), std::end(kSpecials), name) != std::end(kSpecials) ||
         is_numbered_special(name);
}

// Which member of a vector ".x" or ".r" is; -1 for none.
int component(std::string_view word) {
  constexpr std::string_view kComponents = "xyzwrgba";
  const std::size_t at = word.size() == 1 ? kComponents.find(word[0]) : std::string_view::npos;
  return at == std::string_view::npos ? -1 : static_cast<int>(at % 4);
}

// Byte and half-word selectors of the video instructions: ".b0", ".h1", ".b3210", ".h10".
bool is_selector(std::string_view word) {
  return word.size() >= 2 && word.size() <= 5 && (word[0] == 'b' || word[0] == 'h') &&
         std::all_of(word.begin() + 1, word.end(), [](char c) { return c >= '0' && c <= '7'; });
}

bool accesses_memory(std::string_view opcode) {
  return opcode == "ld" || opcode == "ldu" || opcode == "st" || opcode == "atom" || opcode == "red";
}

bool is_address_base(OperandKind kind) {
  return kind == OperandKind::Register || kind == OperandKind::Local || kind == OperandKind::Parameter ||
         kind == OperandKind::Return || kind == OperandKind::Symbol;
}

bool ends_operand(Tok kind) {
  return kind == punctuation(',') || kind == punctuation(';') || kind == punctuation('}') ||
         kind == punctuation(']') || kind == punctuation(')');
}

} // namespace

Guard Parser::guard() {
  Guard result;
  advance();
  result.present = true;
  result.negated = accept('!');
  const std::uint32_t line = token_.line;
  const Operand predicate = reference(identifier("a predicate after '@'"), line);
  if (predicate.kind != OperandKind::Register || function_->registers[predicate.index].type != Type::Pred)
    throw Failure(line, "expected a predicate register after '@'");
  result.register_index = predicate.index;
  return result;
}

void Parser::instruction(std::string_view opcode, Guard guard, std::uint32_t line) {
  is_call_ = opcode == "call";
  is_memory_access_ = accesses_memory(opcode);
  modifiers_.clear();
  operands_.clear();
  for (; at(Tok::DotWord); advance())
    modifiers_.push_back(token_.text);
  if (!at(';') && !at('}') && !at(Tok::End)) {
    do
      operands_.push_back(operand());
    while (accept(','));
  }
  require(';', "after an instruction");

  Instruction& result = function_->instructions.emplace_back();
  result.opcode = opcode;
  result.modifiers.assign(modifiers_.begin(), modifiers_.end());
  result.operands.assign(std::make_move_iterator(operands_.begin()),
                         std::make_move_iterator(operands_.end()));
  result.guard = guard;
  result.position.line = line;
}

// One operand, or a pair "p|q".
Operand Parser::operand() {
  Operand result = simple_operand();
  if (accept('|')) {
    result.paired = true;
    result.items.push_back(simple_operand());
  }
  return result;
}

Operand Parser::simple_operand() {
  const Deeper deeper(*this);
  switch (token_.kind) {
  case Tok::Identifier:
    return named_operand();
  case punctuation('['):
    return address_operand();
  case punctuation('{'):
    return group_operand('}', OperandKind::Vector);
  case punctuation('('):
    return is_call_ ? group_operand(')', OperandKind::List) : constant_operand();
  case punctuation('!'): {
    advance();
    Operand result = named_operand();
    result.negated = true;
    return result;
  }
  case punctuation('-'): {
    // vmad negates registers; everywhere else a constant follows
    Lexer ahead = lexer_;
    Token next;
    ahead.next(next);
    if (next.kind != Tok::Identifier || next.text == "WARP_SZ")
      return constant_operand();
    advance();
    Operand result = named_operand();
    result.negated = true;
    return result;
  }
  default:
    return constant_operand();
  }
}

Operand Parser::constant_operand() {
  Operand result;
  result.kind = OperandKind::Immediate;
  if (at(Tok::DotWord) && token_.text[0] >= '0' && token_.text[0] <= '9')
    expected("a digit before the point of a number");
  if (at(Tok::Integer)) { // by far the most common constant: one literal, nothing around it
    result.imm.bits = token_.bits;
    const Token first = token_;
    advance();
    if (ends_operand(token_.kind))
      return result;
    result.imm = conditional(binary(1, {{Immediate::Kind::Int, first.bits}, first.is_unsigned})).value;
    return result;
  }
  const bool constant_follows =
      at(Tok::Float32) || at(Tok::Float64) || at('-') || at('+') || at('~') || at('(');
  if (!constant_follows)
    expected("an operand");
  result.imm = constant().value;
  return result;
}

// A name, with what may follow it: "%tid.x", "v.y", "var+8", "var[3]".
Operand Parser::named_operand() {
  if (at(Tok::Identifier) && token_.text == "WARP_SZ") {
    Operand result;
    result.kind = OperandKind::Immediate;
    result.imm = constant().value;
    return result;
  }
  const std::uint32_t line = token_.line;
  Operand result = reference(identifier("an operand"), line);
  const bool is_memory = result.kind == OperandKind::Local || result.kind == OperandKind::Parameter ||
                         result.kind == OperandKind::Return || result.kind == OperandKind::Symbol;
  if (!is_memory)
    return result;
  if (at('+') || at('-'))
    displacement(result.offset);
  else if (at('['))
    element_index(result);
  return result;
}

// What a name stands for. A name that nothing declares is a label that is still to come.
Operand Parser::reference(std::string_view name, std::uint32_t line) {
  Operand result;
  if (name == "_")
    return result;
  const std::uint32_t id = names_.intern(name);
  const Range* member = nullptr;
  const Binding& found = names_.resolve(id, member);
  if (member) {
    const Range range = *member;
    names_.bind_member(id, range, add_registers(name, range.type, range.width));
    return register_operand(names_.binding(id));
  }
  result.index = found.index;
  switch (found.kind) {
  case Binding::Kind::Register:
    return register_operand(found);
  case Binding::Kind::Variable:
    result.kind = OperandKind::Local;
    return result;
  case Binding::Kind::Parameter:
    result.kind = OperandKind::Parameter;
    return result;
  case Binding::Kind::Return:
    result.kind = OperandKind::Return;
    return result;
  case Binding::Kind::Symbol:
    result.kind = OperandKind::Symbol;
    return result;
  case Binding::Kind::Label:
  case Binding::Kind::None:
    break;
  }
  if (name[0] == '%' && found.kind == Binding::Kind::None) {
    if (is_special(name))
      return special_register(name);
    throw Failure(line, "undeclared register '" + std::string(name) + "'");
  }
  result.kind = OperandKind::Label;
  result.index = label_reference(id, line);
  return result;
}

Operand Parser::register_operand(const Binding& binding) {
  Operand result;
  result.kind = OperandKind::Register;
  result.index = binding.index;
  const bool component_follows = at(Tok::DotWord);
  if (binding.width == 1) {
    if (component_follows) {
      if (!is_selector(token_.text))
        fail("expected a byte or half-word selector, found " + describe(token_));
      result.name = token_.text;
      advance();
    }
    return result;
  }
  if (component_follows) {
    const int member = component(token_.text);
    if (member < 0 || member >= binding.width)
      fail("expected a component of a vector of " + std::to_string(binding.width) + ", found " +
           describe(token_));
    result.index += static_cast<std::uint32_t>(member);
    advance();
    return result;
  }
  Operand vector;
  vector.kind = OperandKind::Vector;
  for (std::uint8_t i = 0; i < binding.width; ++i, ++result.index)
    vector.items.push_back(result);
  return vector;
}

Operand Parser::special_register(std::string_view name) {
  Operand result;
  result.kind = OperandKind::Special;
  result.name = name;
  if (at(Tok::DotWord)) {
    if (component(token_.text) < 0)
      fail("expected a component of " + std::string(name) + ", found " + describe(token_));
    result.name += '.';
    result.name += token_.text;
    advance();
  }
  return result;
}

// "[%rd1+8]", "[var]", "[16]", "[tex, sampler, {%f1, %f2}]".
Operand Parser::address_operand() {
  Operand result;
  result.kind = OperandKind::Address;
  require('[', "");
  if (at(Tok::Identifier) && token_.text != "WARP_SZ") {
    const std::uint32_t line = token_.line;
    result.items.push_back(reference(identifier("an address"), line));
    if (!is_address_base(result.items[0].kind))
      throw Failure(line, "expected a register, variable or constant in '[ ]'");
    displacement(result.offset);
  } else {
    result.items.push_back(constant_operand());
  }
  while (accept(','))
    result.items.push_back(simple_operand());
  if (!at(']'))
    expected("']' after an address");
  advance();
  return result;
}

Operand Parser::group_operand(char close, OperandKind kind) {
  Operand result;
  result.kind = kind;
  advance();
  if (!at(close)) {
    do
      result.items.push_back(simple_operand());
    while (accept(','));
  }
  require(close, kind == OperandKind::List ? "after arguments" : "after a vector");
  return result;
}

// Any number of "+8", "-8", "+-8".
void Parser::displacement(std::int64_t& offset) {
  constexpr int kProduct = 10;
  auto sum = static_cast<std::uint64_t>(offset);
  while (at('+') || at('-')) {
    const bool minus = at('-');
    advance();
    const Constant value = binary(kProduct);
    if (value.value.kind != Immediate::Kind::Int)
      fail("expected an integer displacement");
    sum = minus ? sum - value.value.bits : sum + value.value.bits;
  }
  offset = static_cast<std::int64_t>(sum);
}

// "a[3]": the address of an element, or the element itself where memory is accessed (PTX ISA 6.4.2).
void Parser::element_index(Operand& operand) {
  const Variable& variable = operand.kind == OperandKind::Local       ? function_->variables[operand.index]
                             : operand.kind == OperandKind::Parameter ? function_->parameters[operand.index]
                             : operand.kind == OperandKind::Return    ? function_->returns[operand.index]
                                                                      : symbol_variable(operand.index);
  const std::uint64_t element = std::uint64_t{size_of(variable.type)} * variable.vector;
  require('[', "");
  operand.offset = static_cast<std::int64_t>(element * static_cast<std::uint64_t>(signed_constant()));
  require(']', "after an index");
  if (!is_memory_access_)
    return;
  Operand address;
  address.kind = OperandKind::Address;
  std::swap(address.offset, operand.offset);
  address.items.push_back(std::move(operand));
  operand = std::move(address);
}

} // namespace aliquot::simgpu::ptx
