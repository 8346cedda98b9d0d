// The parser's state, shared by the files that each parse one part of a module. Internal to this folder.
//
//   parser_module.cpp       directives of the module, variables
//   parser_function.cpp     function headers, scopes, statements, labels
//   parser_operand.cpp      instructions and operands
//   parser_initialiser.cpp  initial values
//   parser_constant.cpp     constant expressions (PTX ISA 4.5)
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "native/simgpu/ptx/ast.hpp"
#include "native/simgpu/ptx/lexer.hpp"
#include "native/simgpu/ptx/names.hpp"

namespace aliquot::simgpu::ptx {

// A value of a constant expression. PTX evaluates integers as .s64 or .u64.
struct Constant {
  Immediate value;
  bool is_unsigned = false;
};

// No variable is larger; keeps every product of dimensions inside 64 bits.
inline constexpr std::uint64_t kLargestVariable = std::uint64_t{1} << 40;

class Parser {
 public:
  Parser(std::string_view text, Module& module, const ParseLimits& limits);
  void run(); // throws Failure

 private:
  // What stands before the name in a declaration.
  struct Declaration {
    Space space = Space::None;
    Type type = Type::None;
    std::uint8_t vector = 1;
    std::uint32_t alignment = 0;
  };
  // Where an initialiser stands: dimensions, the element reached, and the largest one stored.
  struct Filling {
    Variable& variable;
    const std::vector<std::uint64_t>& dimensions; // the vector width is the last one
    std::uint32_t element_bytes;
    std::uint64_t cursor = 0;
  };
  struct PendingLabel {
    std::uint32_t name;
    std::uint32_t label;
    std::uint32_t line;
  };
  // Counts the recursion that the text asks for.
  class Deeper {
   public:
    explicit Deeper(Parser& parser);
    ~Deeper() { --parser_.nesting_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Parser& parser_;
  };

  // Tokens.
  void advance() { lexer_.next(token_); }
  bool at(Tok kind) const { return token_.kind == kind; }
  bool at(char c) const { return token_.kind == punctuation(c); }
  bool at_word(std::string_view word) const { return token_.kind == Tok::DotWord && token_.text == word; }
  bool accept(char c);
  bool accept_word(std::string_view word);
  bool accept_identifier(std::string_view text);
  void require(char c, std::string_view context);
  std::string_view identifier(std::string_view what);
  [[noreturn]] void expected(const std::string& what) const;
  [[noreturn]] void fail(const std::string& message) const { throw Failure(token_.line, message); }

  // parser_module.cpp
  void header();
  void statement();
  bool skip_debug_directive();
  void skip_section();
  void skip_loc();
  void skip_pragma();
  void skip_attribute();
  Linkage linkage();
  void alias();
  bool at_variable_space() const;
  Declaration declaration(bool parameter);
  bool declaration_word(Declaration& declaration, bool parameter);
  std::uint32_t alignment_value();
  void variables(Linkage linkage);
  Variable variable(const Declaration& declaration, Linkage linkage, std::string_view name);
  std::vector<std::uint64_t> dimensions(Variable& variable);
  void size_variable(Variable& variable, const std::vector<std::uint64_t>& dimensions) const;
  void add_module_variable(Variable&& variable, std::uint32_t name);
  void add_local_variable(Variable&& variable, std::uint32_t name);
  std::uint32_t add_symbol(Symbol::Kind kind, std::uint32_t name, std::uint32_t index);
  std::string_view keep(std::string text);
  std::uint64_t range_count(const std::string& what);
  std::uint64_t unsigned_constant(const std::string& what);
  std::uint32_t small_constant(const std::string& what);

  // parser_initialiser.cpp
  void initialiser(Variable& variable, std::vector<std::uint64_t> dimensions);
  void initialiser_list(Filling& filling, std::size_t level);
  void initialiser_element(Filling& filling);
  void initialiser_string(Filling& filling);
  void opaque_initialiser();
  void store(Filling& filling, std::uint64_t bits, bool negative = false);
  Relocation relocation(Filling& filling);
  std::uint64_t element_bits(const Constant& constant, Type type) const;
  void check_room(const Filling& filling, std::uint64_t elements) const;

  // parser_function.cpp
  void function(Linkage linkage);
  void function_name(Function& function);
  void parameter_list(std::vector<Variable>& parameters);
  Variable parameter();
  void bind_parameters(Function& function);
  void bind_parameter(const Variable& parameter, Binding::Kind kind, std::uint32_t index,
                      std::vector<std::int32_t>& registers);
  void performance_directives(Function& function);
  bool performance_directive(Function& function);
  Dim3 dim3();
  std::uint32_t declare(const Function& function, std::uint32_t name);
  void body();
  void body_statement();
  void body_directive();
  void register_declaration();
  void declare_register(std::string_view name, Type type, std::uint8_t width);
  std::uint32_t add_registers(std::string_view name, Type type, std::uint8_t width);
  void close_scope();
  std::uint32_t label_reference(std::uint32_t name, std::uint32_t line);
  void define_label(std::string_view name, std::uint32_t line);
  void label_table(Label& label);
  void call_prototype(Label& label);
  void resolve_labels();
  void replace_labels(std::vector<Operand>& operands) const;

  // parser_operand.cpp
  void instruction(std::string_view opcode, Guard guard, std::uint32_t line);
  Guard guard();
  Operand operand();
  Operand simple_operand();
  Operand named_operand();
  Operand reference(std::string_view name, std::uint32_t line);
  Operand register_operand(const Binding& binding);
  Operand special_register(std::string_view name);
  Operand constant_operand();
  Operand address_operand();
  Operand group_operand(char close, OperandKind kind);
  void displacement(std::int64_t& offset);
  void element_index(Operand& operand);
  const Variable& symbol_variable(std::uint32_t symbol) const;

  // parser_constant.cpp
  Constant constant();
  Constant conditional(const Constant& condition);
  Constant binary(int lowest);
  Constant binary(int lowest, Constant left);
  Constant unary();
  Constant primary();
  Constant cast_or_group();
  Constant literal();
  std::int64_t signed_constant();

  std::string_view text_;
  Module& module_;
  const ParseLimits& limits_;
  Lexer lexer_;
  Token token_;
  Names names_;
  std::size_t nesting_ = 0;
  std::uint64_t initialiser_bytes_ = 0;
  std::deque<std::string> kept_;

  // The function under way.
  Function* function_ = nullptr;
  std::vector<std::vector<PendingLabel>> pending_; // by scope
  std::vector<std::uint32_t> label_alias_;         // for each label: itself, or the one it turned out to be
  std::vector<bool> label_defined_;

  // The instruction under way.
  bool is_call_ = false;
  bool is_memory_access_ = false;
  std::vector<std::string_view> modifiers_;
  std::vector<Operand> operands_;
};

} // namespace aliquot::simgpu::ptx
