// Functions: headers, scopes, statements, labels (PTX ISA 11.1 to 11.4).
#include <utility>

#include "native/simgpu/ptx/parser.hpp"

namespace aliquot::simgpu::ptx {
namespace {

bool same_shape(const std::vector<Variable>& a, const std::vector<Variable>& b) {
  if (a.size() != b.size())
    return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i].size != b[i].size || a[i].space != b[i].space || a[i].unsized != b[i].unsized)
      return false;
  return true;
}

} // namespace

// --- headers

void Parser::function(Linkage linkage) {
  Function result;
  result.linkage = linkage;
  result.is_entry = at_word("entry");
  result.position.line = token_.line;
  advance();
  function_ = &result;
  names_.open_scope();
  pending_.emplace_back();
  while (accept_word("attribute"))
    skip_attribute();
  if (at('('))
    parameter_list(result.returns);
  const std::string_view name = identifier("a function name");
  result.name = name;
  if (at('('))
    parameter_list(result.parameters);
  bind_parameters(result);
  performance_directives(result);
  result.has_body = at('{');
  if (!result.has_body && !at(';'))
    expected("'{' or ';' after the header of '" + result.name + "'");
  const std::uint32_t index = declare(result, names_.intern(name));
  if (result.has_body) {
    body();
    resolve_labels();
  } else {
    advance();
  }
  pending_.clear();
  names_.close_scope();
  function_ = nullptr;
  if (result.has_body || !module_.functions[index].has_body)
    module_.functions[index] = std::move(result);
}

void Parser::parameter_list(std::vector<Variable>& parameters) {
  require('(', "");
  if (!at(')')) {
    do
      parameters.push_back(parameter());
    while (accept(','));
  }
  require(')', "after parameters");
}

Variable Parser::parameter() {
  if (!at_word("param") && !at_word("reg"))
    expected("'.param' or '.reg'");
  const Declaration declaration = this->declaration(true);
  const std::string_view name = identifier("a parameter name");
  return variable(declaration, Linkage::Internal, name);
}

void Parser::bind_parameters(Function& function) {
  for (std::size_t i = 0; i < function.returns.size(); ++i)
    bind_parameter(function.returns[i], Binding::Kind::Return, static_cast<std::uint32_t>(i),
                   function.return_registers);
  for (std::size_t i = 0; i < function.parameters.size(); ++i)
    bind_parameter(function.parameters[i], Binding::Kind::Parameter, static_cast<std::uint32_t>(i),
                   function.parameter_registers);
}

void Parser::bind_parameter(const Variable& parameter, Binding::Kind kind, std::uint32_t index,
                            std::vector<std::int32_t>& registers) {
  const std::string_view name = keep(parameter.name);
  const bool in_register = parameter.space == Space::Reg;
  registers.push_back(-1);
  if (in_register) {
    index = add_registers(name, parameter.type, parameter.vector);
    registers.back() = static_cast<std::int32_t>(index);
  }
  if (name == "_")
    return;
  if (!names_.bind(names_.intern(name), in_register ? Binding::Kind::Register : kind, index,
                   in_register ? parameter.vector : std::uint8_t{1}))
    fail("parameter '" + parameter.name + "' is declared twice");
}

void Parser::performance_directives(Function& function) {
  while (at(Tok::DotWord) && performance_directive(function)) {
  }
}

Dim3 Parser::dim3() {
  Dim3 result{1, 1, 1};
  result.x = small_constant("a number of threads or blocks");
  if (accept(','))
    result.y = small_constant("a number of threads or blocks");
  if (accept(','))
    result.z = small_constant("a number of threads or blocks");
  return result;
}

bool Parser::performance_directive(Function& function) {
  if (skip_debug_directive())
    return true;
  if (accept_word("maxntid"))
    function.max_threads = dim3();
  else if (accept_word("reqntid"))
    function.required_threads = dim3();
  else if (accept_word("minnctapersm"))
    function.min_blocks = small_constant("a number of blocks");
  else if (accept_word("maxnreg"))
    function.max_registers = small_constant("a number of registers");
  else if (accept_word("noreturn"))
    function.no_return = true;
  else if (accept_word("reqnctapercluster"))
    function.required_cluster = dim3();
  else if (accept_word("maxclusterrank"))
    function.max_cluster = small_constant("a number of blocks");
  else if (accept_word("explicitcluster"))
    function.explicit_cluster = true;
  else if (accept_word("maxnctapersm") || accept_word("abi_preserve") || accept_word("abi_preserve_control"))
    small_constant("a number");
  else if (accept_word("attribute"))
    skip_attribute();
  else
    return accept_word("blocksareclusters");
  return true;
}

// Enters the function at module scope, or meets an earlier declaration. Returns its index.
std::uint32_t Parser::declare(const Function& function, std::uint32_t name) {
  const Binding* old = names_.module_binding(name);
  if (!old) {
    const auto index = static_cast<std::uint32_t>(module_.functions.size());
    Function& made = module_.functions.emplace_back();
    made.name = function.name;
    made.has_body = function.has_body;
    names_.bind_in_module(name, add_symbol(Symbol::Kind::Function, name, index));
    return index;
  }
  const Symbol& symbol = module_.symbols[old->index];
  if (symbol.kind != Symbol::Kind::Function)
    fail("'" + function.name + "' is declared twice");
  Function& other = module_.functions[symbol.index];
  if (function.has_body && other.has_body)
    fail("function '" + function.name + "' is defined twice");
  if (other.is_entry != function.is_entry || !same_shape(other.returns, function.returns) ||
      !same_shape(other.parameters, function.parameters))
    fail("function '" + function.name + "' differs from its declaration");
  other.has_body |= function.has_body;
  // ".visible .func f;" and then ".func f {...}" is visible.
  if (function_->linkage == Linkage::Internal && other.linkage != Linkage::Extern)
    function_->linkage = other.linkage;
  return symbol.index;
}

// --- bodies

// Blocks nest without recursion: the depth is counted.
void Parser::body() {
  const std::uint32_t outermost = names_.depth();
  do {
    if (at('{')) {
      if (names_.depth() - outermost >= limits_.nesting)
        fail("nested more than " + std::to_string(limits_.nesting) + " deep");
      names_.open_scope();
      pending_.emplace_back();
      advance();
    } else if (at('}')) {
      close_scope();
      advance();
    } else {
      body_statement();
    }
  } while (names_.depth() > outermost);
}

void Parser::body_statement() {
  const std::uint32_t line = token_.line;
  if (at(Tok::DotWord)) {
    body_directive();
    return;
  }
  if (accept(';'))
    return;
  Guard predicate;
  if (at('@'))
    predicate = guard();
  if (!at(Tok::Identifier))
    expected(predicate.present ? "an instruction after a predicate"
                               : "an instruction, label, directive or '}'");
  const std::string_view word = token_.text;
  advance();
  if (at(':') && !predicate.present) {
    advance();
    define_label(word, line);
  } else {
    instruction(word, predicate, line);
  }
}

void Parser::body_directive() {
  if (accept_word("reg")) {
    register_declaration();
  } else if (at_variable_space()) {
    variables(Linkage::Internal);
  } else if (at_word("extern") || at_word("visible") || at_word("weak") || at_word("common")) {
    const Linkage linkage = this->linkage();
    if (!at_variable_space())
      expected("a variable");
    variables(linkage);
  } else if (!skip_debug_directive()) {
    expected("an instruction, label, directive or '}'");
  }
}

void Parser::register_declaration() {
  std::uint8_t width = 1;
  Type type = Type::None;
  for (; at(Tok::DotWord); advance()) {
    if (token_.text == "v2" || token_.text == "v4")
      width = static_cast<std::uint8_t>(token_.text[1] - '0');
    else if (type == Type::None && type_from_name(token_.text) != Type::None)
      type = type_from_name(token_.text);
    else
      expected("a register type");
  }
  if (type == Type::None)
    expected("a register type");
  do
    declare_register(identifier("a register name"), type, width);
  while (accept(','));
  require(';', "after a declaration");
}

void Parser::declare_register(std::string_view name, Type type, std::uint8_t width) {
  bool fresh = true;
  if (at('<')) {
    const std::uint64_t count = range_count("how many registers");
    if (count > limits_.registers)
      fail("more than " + std::to_string(limits_.registers) + " registers in one declaration");
    fresh = names_.bind_range(names_.intern(name), type, width, count);
  } else {
    fresh = name != "_" && names_.bind(names_.intern(name), Binding::Kind::Register,
                                       add_registers(name, type, width), width);
  }
  if (!fresh)
    fail("register '" + std::string(name) + "' is declared twice");
}

std::uint32_t Parser::add_registers(std::string_view name, Type type, std::uint8_t width) {
  const auto first = static_cast<std::uint32_t>(function_->registers.size());
  if (width == 1) {
    function_->registers.push_back({std::string(name), type});
    return first;
  }
  constexpr std::string_view kComponents[] = {".x", ".y", ".z", ".w", ".4", ".5", ".6", ".7"};
  for (std::uint8_t i = 0; i < width; ++i)
    function_->registers.push_back({std::string(name) + std::string(kComponents[i]), type});
  return first;
}

// --- labels
//
// A label may be used before it stands in the text, from its own block or from blocks inside it. A reference
// belongs to the block in which it stands; what that block does not define when it closes passes outwards.

std::uint32_t Parser::label_reference(std::uint32_t name, std::uint32_t line) {
  const Binding& binding = names_.binding(name);
  if (binding.kind == Binding::Kind::Label && binding.depth == names_.depth())
    return binding.index;
  const auto label = static_cast<std::uint32_t>(function_->labels.size());
  function_->labels.emplace_back().name = names_.text(name);
  label_alias_.push_back(label);
  label_defined_.push_back(false);
  names_.bind(name, Binding::Kind::Label, label);
  pending_.back().push_back({name, label, line});
  return label;
}

void Parser::define_label(std::string_view name, std::uint32_t line) {
  const std::uint32_t id = names_.intern(name);
  const Binding& binding = names_.binding(id);
  if (binding.kind != Binding::Kind::None && binding.kind != Binding::Kind::Label &&
      binding.depth == names_.depth())
    throw Failure(line, "'" + std::string(name) + "' is declared twice");
  const std::uint32_t index = label_reference(id, line);
  if (label_defined_[index])
    throw Failure(line, "label '" + std::string(name) + "' is defined twice");
  label_defined_[index] = true;
  Label label;
  label.name = name;
  label.target = static_cast<std::uint32_t>(function_->instructions.size());
  if (at_word("branchtargets") || at_word("calltargets"))
    label_table(label);
  else if (at_word("callprototype"))
    call_prototype(label);
  function_->labels[index] = std::move(label);
}

void Parser::label_table(Label& label) {
  const bool calls = at_word("calltargets");
  label.kind = calls ? Label::Kind::CallTargets : Label::Kind::BranchTargets;
  advance();
  do {
    const std::uint32_t line = token_.line;
    const std::string_view name = identifier(calls ? "a function" : "a label");
    if (accept('<')) { // L<3>: the labels L0, L1 and L2
      const std::uint64_t count = unsigned_constant("how many labels");
      require('>', "after how many labels");
      constexpr std::uint64_t kMost = 1 << 16;
      if (count > kMost || calls)
        fail("expected at most " + std::to_string(kMost) + " labels");
      for (std::uint64_t i = 0; i < count; ++i)
        label.targets.push_back(
            label_reference(names_.intern(keep(std::string(name) + std::to_string(i))), line));
      continue;
    }
    const Operand target = reference(name, line);
    if (target.kind != (calls ? OperandKind::Symbol : OperandKind::Label))
      throw Failure(line, std::string("expected a ") + (calls ? "function" : "label") + ", found '" +
                              std::string(name) + "'");
    label.targets.push_back(target.index);
  } while (accept(','));
  require(';', "after a table of targets");
}

// .callprototype (.param .b32 _) _ (.param .b64 _);
void Parser::call_prototype(Label& label) {
  label.kind = Label::Kind::CallPrototype;
  advance();
  if (at('('))
    parameter_list(label.prototype_returns);
  identifier("'_' in '.callprototype'");
  if (at('('))
    parameter_list(label.prototype_parameters);
  Function ignored;
  performance_directives(ignored);
  require(';', "after '.callprototype'");
}

void Parser::close_scope() {
  std::vector<PendingLabel> leaving = std::move(pending_.back());
  pending_.pop_back();
  names_.close_scope();
  for (const PendingLabel& label : leaving) {
    if (label_defined_[label.label])
      continue;
    const Binding& outer = names_.binding(label.name);
    if (outer.kind == Binding::Kind::Label && outer.depth == names_.depth()) {
      label_alias_[label.label] = outer.index;
    } else {
      names_.bind(label.name, Binding::Kind::Label, label.label);
      pending_.back().push_back(label);
    }
  }
}

// Every reference that met no definition in its own block takes what the outer block made of the name.
void Parser::resolve_labels() {
  for (const PendingLabel& label : pending_.back())
    if (!label_defined_[label.label])
      throw Failure(label.line, "undeclared name or label '" + std::string(names_.text(label.name)) + "'");
  bool any = false;
  for (std::uint32_t i = 0; i < label_alias_.size(); ++i) {
    std::uint32_t root = i;
    while (label_alias_[root] != root)
      root = label_alias_[root];
    for (std::uint32_t at = i; label_alias_[at] != root;)
      at = std::exchange(label_alias_[at], root);
    any |= root != i;
  }
  if (any) {
    for (Instruction& instruction : function_->instructions)
      replace_labels(instruction.operands);
    for (Label& label : function_->labels)
      if (label.kind == Label::Kind::BranchTargets)
        for (std::uint32_t& target : label.targets)
          target = label_alias_[target];
  }
  label_alias_.clear();
  label_defined_.clear();
}

// Labels stand among an instruction's own operands, or one level down in a list.
void Parser::replace_labels(std::vector<Operand>& operands) const {
  for (Operand& operand : operands) {
    if (operand.kind == OperandKind::Label)
      operand.index = label_alias_[operand.index];
    for (Operand& item : operand.items)
      if (item.kind == OperandKind::Label)
        item.index = label_alias_[item.index];
  }
}

} // namespace aliquot::simgpu::ptx
