// Directives of the module (PTX ISA 11), and variables wherever they stand (PTX ISA 5.4).
#include <algorithm>
#include <bit>

#include "native/simgpu/ptx/parser.hpp"

namespace aliquot::simgpu::ptx {
namespace {

struct SpaceWord {
  std::string_view word;
  Space space;
};
constexpr SpaceWord kSpaces[] = {
    {"const", Space::Const},   {"global", Space::Global}, {"local", Space::Local}, {"param", Space::Param},
    {"shared", Space::Shared}, {"tex", Space::Tex},       {"reg", Space::Reg},     {"sreg", Space::SReg},
};

Space space_from_word(std::string_view word) {
  for (const SpaceWord& row : kSpaces)
    if (row.word == word)
      return row.space;
  return Space::None;
}

} // namespace

Parser::Deeper::Deeper(Parser& parser) : parser_(parser) {
  if (parser.nesting_ >= parser.limits_.nesting)
    parser.fail("nested more than " + std::to_string(parser.limits_.nesting) + " deep");
  ++parser.nesting_;
}

Parser::Parser(std::string_view text, Module& module, const ParseLimits& limits)
    : text_(text), module_(module), limits_(limits), lexer_(text) {}

void Parser::run() {
  if (text_.size() > limits_.text_bytes)
    fail("the text is longer than " + std::to_string(limits_.text_bytes) + " bytes");
  advance();
  header();
  while (!at(Tok::End))
    statement();
}

// --- tokens

void Parser::expected(const std::string& what) const {
  fail("expected " + what + ", found " + describe(token_));
}

bool Parser::accept(char c) {
  if (!at(c))
    return false;
  advance();
  return true;
}

bool Parser::accept_word(std::string_view word) {
  if (!at_word(word))
    return false;
  advance();
  return true;
}

bool Parser::accept_identifier(std::string_view text) {
  if (!at(Tok::Identifier) || token_.text != text)
    return false;
  advance();
  return true;
}

void Parser::require(char c, std::string_view context) {
  if (!at(c))
    expected(std::string("'") + c + "'" + (context.empty() ? "" : " ") + std::string(context));
  advance();
}

std::string_view Parser::identifier(std::string_view what) {
  if (!at(Tok::Identifier))
    expected(std::string(what));
  const std::string_view text = token_.text;
  advance();
  return text;
}

// "<10>" after a name. The closing bracket is no comparison: sums are the loosest expression here.
std::uint64_t Parser::range_count(const std::string& what) {
  constexpr int kSum = 9;
  require('<', "");
  const Constant value = binary(kSum);
  if (value.value.kind != Immediate::Kind::Int || static_cast<std::int64_t>(value.value.bits) < 0)
    fail("expected " + what + " between '<' and '>'");
  require('>', "after " + what);
  return value.value.bits;
}

std::uint64_t Parser::unsigned_constant(const std::string& what) {
  if (!at(Tok::Integer) && !at('(') && !at('+') && !at('~') && !at(Tok::Identifier))
    expected(what);
  const Constant value = constant();
  if (value.value.kind != Immediate::Kind::Int)
    fail("expected " + what + ", found a floating-point literal");
  if (!value.is_unsigned && value.value.bits >> 63)
    fail("expected " + what + ", found a negative number");
  return value.value.bits;
}

std::uint32_t Parser::small_constant(const std::string& what) {
  const std::uint64_t value = unsigned_constant(what);
  if (value > 0xFFFFFFFFu)
    fail("expected " + what + " below 2^32");
  return static_cast<std::uint32_t>(value);
}

// --- the module

void Parser::header() {
  if (!accept_word("version"))
    expected("'.version' at the start of a module");
  const std::string_view version = token_.text;
  const std::size_t point = version.find('.');
  if (!at(Tok::Float64) || point == std::string_view::npos || version.size() > 6)
    expected("a version such as 8.0");
  for (const char c : version.substr(0, point))
    module_.version_major = module_.version_major * 10 + static_cast<std::uint32_t>(c - '0');
  for (const char c : version.substr(point + 1)) {
    if (c < '0' || c > '9')
      expected("a version such as 8.0");
    module_.version_minor = module_.version_minor * 10 + static_cast<std::uint32_t>(c - '0');
  }
  advance();
  while (skip_debug_directive()) {
  }
  if (!accept_word("target"))
    expected("'.target' after '.version'");
  do {
    const std::string_view word = identifier("a target such as sm_80");
    const std::size_t digits = word.starts_with("sm_") ? 3 : word.starts_with("compute_") ? 8 : 0;
    if (digits == 0 || !module_.target.empty())
      continue; // texmode_independent, debug, map_f64_to_f32
    module_.target = word;
    for (std::size_t i = digits; i < word.size() && word[i] >= '0' && word[i] <= '9' && i < digits + 4; ++i)
      module_.sm = module_.sm * 10 + static_cast<std::uint32_t>(word[i] - '0');
  } while (accept(','));
  if (module_.sm == 0)
    expected("a target such as sm_80");
  while (skip_debug_directive()) {
  }
  if (accept_word("address_size")) {
    const std::uint32_t size = small_constant("32 or 64 after '.address_size'");
    if (size != 32 && size != 64)
      fail("expected 32 or 64 after '.address_size', found " + std::to_string(size));
    module_.address_size = static_cast<std::uint8_t>(size);
  }
}

void Parser::statement() {
  if (skip_debug_directive() || accept(';'))
    return;
  if (accept_word("alias")) {
    alias();
    return;
  }
  const Linkage linkage = this->linkage();
  if (at_word("func") || at_word("entry"))
    function(linkage);
  else if (at_variable_space())
    variables(linkage);
  else
    expected("a directive of the module");
}

Linkage Parser::linkage() {
  struct Word {
    std::string_view word;
    Linkage linkage;
  };
  static constexpr Word kWords[] = {{"visible", Linkage::Visible},
                                    {"extern", Linkage::Extern},
                                    {"weak", Linkage::Weak},
                                    {"common", Linkage::Common}};
  for (const Word& row : kWords)
    if (accept_word(row.word))
      return row.linkage;
  return Linkage::Internal;
}

// Directives that carry nothing an execution needs.
bool Parser::skip_debug_directive() {
  if (!at(Tok::DotWord))
    return false;
  if (at_word("loc")) {
    skip_loc();
  } else if (at_word("file")) {
    advance();
    small_constant("a file number");
    if (!at(Tok::String))
      expected("a file name");
    advance();
    while (accept(','))
      unsigned_constant("a time stamp or size");
  } else if (at_word("pragma")) {
    skip_pragma();
  } else if (at_word("section")) {
    skip_section();
  } else {
    return false;
  }
  return true;
}

// .loc 1 5 3, function_name $L__info_string0+4, inlined_at 1 12 3
void Parser::skip_loc() {
  advance();
  for (int i = 0; i < 3; ++i) {
    if (!at(Tok::Integer))
      expected("a number in '.loc'");
    advance();
  }
  while (accept(',')) {
    const std::string_view word = identifier("'function_name' or 'inlined_at'");
    if (word == "function_name") {
      identifier("a label after 'function_name'");
      if (accept('+'))
        primary();
    } else {
      for (; at(Tok::Integer);)
        advance();
    }
  }
}

void Parser::skip_pragma() {
  advance();
  do {
    if (!at(Tok::String))
      expected("a string after '.pragma'");
    advance();
  } while (accept(','));
  require(';', "after '.pragma'");
}

// Sections hold debug data only (PTX ISA 11.5.3).
void Parser::skip_section() {
  advance();
  if (!at(Tok::DotWord) && !at(Tok::Identifier))
    expected("a section name");
  advance();
  require('{', "after a section name");
  for (std::size_t depth = 1; depth > 0; advance()) {
    if (at(Tok::End))
      expected("'}' at the end of a section");
    depth += at('{') ? 1 : at('}') ? static_cast<std::size_t>(-1) : 0;
  }
}

// .attribute(.managed), .attribute(.unified(1, 2)): memory is managed or not by what the driver does.
void Parser::skip_attribute() {
  require('(', "after '.attribute'");
  for (std::size_t depth = 1; depth > 0; advance()) {
    if (at(Tok::End) || at(';') || at('{'))
      expected("')' after '.attribute('");
    depth += at('(') ? 1 : at(')') ? static_cast<std::size_t>(-1) : 0;
  }
}

// .alias name, aliasee; the declaration of `name` becomes another name of `aliasee`.
void Parser::alias() {
  const std::uint32_t line = token_.line;
  const Binding name = names_.binding(names_.intern(identifier("a function after '.alias'")));
  require(',', "in '.alias'");
  const Binding target = names_.binding(names_.intern(identifier("a function after ','")));
  require(';', "after '.alias'");
  for (const Binding& side : {name, target})
    if (side.kind != Binding::Kind::Symbol || module_.symbols[side.index].kind != Symbol::Kind::Function)
      throw Failure(line, "expected two declared functions in '.alias'");
  Symbol& symbol = module_.symbols[name.index];
  if (module_.functions[symbol.index].has_body)
    throw Failure(line, "'" + symbol.name + "' has a body and cannot be an alias");
  symbol.index = module_.symbols[target.index].index;
}

// --- variables

bool Parser::at_variable_space() const {
  if (!at(Tok::DotWord))
    return false;
  const Space space = space_from_word(token_.text);
  return space != Space::None && space != Space::Reg && space != Space::SReg;
}

std::uint32_t Parser::alignment_value() {
  const std::uint32_t alignment = small_constant("an alignment");
  constexpr std::uint32_t kLargest = 1u << 16;
  if (!std::has_single_bit(alignment) || alignment > kLargest)
    fail("expected an alignment that is a power of two, found " + std::to_string(alignment));
  return alignment;
}

// The words from the state space up to the name, in any order that compilers write.
Parser::Declaration Parser::declaration(bool parameter) {
  Declaration result;
  result.space = space_from_word(token_.text);
  advance();
  if (result.space == Space::Const && accept('[')) { // .const[2]: banks of PTX before 2.2
    unsigned_constant("a bank");
    require(']', "after a bank");
  }
  while (at(Tok::DotWord) && declaration_word(result, parameter)) {
  }
  if (result.type == Type::None)
    expected("a type");
  return result;
}

bool Parser::declaration_word(Declaration& declaration, bool parameter) {
  if (accept_word("align")) {
    declaration.alignment = alignment_value();
    return true;
  }
  if (accept_word("attribute")) {
    skip_attribute();
    return true;
  }
  if (parameter && accept_word("ptr")) { // .ptr .global .align 8: about what is pointed at
    if (space_from_word(at(Tok::DotWord) ? token_.text : "") != Space::None)
      advance();
    if (accept_word("align"))
      alignment_value();
    return true;
  }
  if (at_word("v2") || at_word("v4") || at_word("v8")) {
    declaration.vector = static_cast<std::uint8_t>(token_.text[1] - '0');
    advance();
    return true;
  }
  const Type type = type_from_name(token_.text);
  if (type == Type::None || declaration.type != Type::None)
    return false;
  declaration.type = type;
  advance();
  return true;
}

void Parser::variables(Linkage linkage) {
  const Declaration declaration = this->declaration(false);
  if (declaration.type == Type::Pred)
    fail("a predicate can only be a register");
  do {
    const std::string_view name = identifier("a variable name");
    // `.param .b32 p<3>` declares p0, p1 and p2, as registers do.
    std::uint64_t count = 1;
    const bool numbered = at('<');
    if (numbered) {
      count = range_count("how many variables");
      constexpr std::uint64_t kMost = 4096;
      if (count > kMost)
        fail("more than " + std::to_string(kMost) + " variables in one declaration");
    }
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::string_view one = numbered ? keep(std::string(name) + std::to_string(i)) : name;
      Variable made = variable(declaration, linkage, one);
      const bool hoisted =
          made.space == Space::Global || made.space == Space::Const || made.space == Space::Tex;
      if (function_ && !hoisted)
        add_local_variable(std::move(made), names_.intern(one));
      else
        add_module_variable(std::move(made), names_.intern(one));
    }
  } while (accept(','));
  require(';', "after a declaration");
}

Variable Parser::variable(const Declaration& declaration, Linkage linkage, std::string_view name) {
  Variable result;
  result.name = name;
  result.space = declaration.space;
  result.type = declaration.type;
  result.vector = declaration.vector;
  result.alignment = declaration.alignment;
  result.linkage = linkage;
  result.position.line = token_.line;
  std::vector<std::uint64_t> dimensions = this->dimensions(result);
  size_variable(result, dimensions);
  if (at('=')) {
    if (result.space != Space::Global && result.space != Space::Const)
      fail("only .global and .const variables have initial values");
    advance();
    dimensions.push_back(declaration.vector);
    initialiser(result, std::move(dimensions));
  }
  return result;
}

// "[4][8]"; 0 for "[]", which only the first may be.
std::vector<std::uint64_t> Parser::dimensions(Variable& variable) {
  std::vector<std::uint64_t> result;
  constexpr std::size_t kMost = 64;
  while (accept('[')) {
    if (result.size() == kMost)
      fail("more than " + std::to_string(kMost) + " dimensions");
    if (at(']')) {
      if (!result.empty())
        expected("a dimension");
      variable.unsized = true;
      result.push_back(0);
    } else {
      result.push_back(unsigned_constant("a dimension"));
    }
    require(']', "after a dimension");
  }
  return result;
}

void Parser::size_variable(Variable& variable, const std::vector<std::uint64_t>& dimensions) const {
  const std::uint64_t element = std::uint64_t{size_of(variable.type)} * variable.vector;
  if (variable.alignment == 0)
    variable.alignment = element == 0 ? 8 : static_cast<std::uint32_t>(std::bit_ceil(element));
  // Dimensions of 0 count as 1 here, so that no product of the others can overflow later.
  std::uint64_t bound = std::max<std::uint64_t>(element, 1);
  std::uint64_t size = element;
  for (const std::uint64_t dimension : dimensions) {
    if (dimension > kLargestVariable / bound)
      fail("'" + variable.name + "' is larger than 2^40 bytes");
    bound *= std::max<std::uint64_t>(dimension, 1);
    size *= dimension;
  }
  variable.size = size;
}

void Parser::add_module_variable(Variable&& variable, std::uint32_t name) {
  const Binding& old = names_.binding(name);
  const auto index = static_cast<std::uint32_t>(module_.variables.size());
  if (old.kind != Binding::Kind::None && old.depth == names_.depth()) {
    const Symbol* symbol = old.kind == Binding::Kind::Symbol ? &module_.symbols[old.index] : nullptr;
    if (!symbol || symbol->kind != Symbol::Kind::Variable)
      fail("'" + variable.name + "' is declared twice");
    Variable& other = module_.variables[symbol->index];
    if (other.space != variable.space ||
        (other.linkage != Linkage::Extern && variable.linkage != Linkage::Extern))
      fail("'" + variable.name + "' is declared twice");
    if (variable.linkage != Linkage::Extern)
      other = std::move(variable);
    return;
  }
  module_.variables.push_back(std::move(variable));
  const std::uint32_t symbol = add_symbol(Symbol::Kind::Variable, name, index);
  names_.bind(name, Binding::Kind::Symbol, symbol);
}

void Parser::add_local_variable(Variable&& variable, std::uint32_t name) {
  const auto index = static_cast<std::uint32_t>(function_->variables.size());
  if (!names_.bind(name, Binding::Kind::Variable, index))
    fail("'" + variable.name + "' is declared twice");
  function_->variables.push_back(std::move(variable));
}

std::uint32_t Parser::add_symbol(Symbol::Kind kind, std::uint32_t name, std::uint32_t index) {
  module_.symbols.push_back({kind, std::string(names_.text(name)), index});
  return static_cast<std::uint32_t>(module_.symbols.size() - 1);
}

const Variable& Parser::symbol_variable(std::uint32_t symbol) const {
  if (module_.symbols[symbol].kind != Symbol::Kind::Variable)
    fail("expected an array before '[', found function '" + module_.symbols[symbol].name + "'");
  return module_.variables[module_.symbols[symbol].index];
}

// Text that is not in the source but is named by views.
std::string_view Parser::keep(std::string text) {
  return kept_.emplace_back(std::move(text));
}

} // namespace aliquot::simgpu::ptx
