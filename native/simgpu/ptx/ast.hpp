// The parsed form of a PTX module: what the text says, resolved to indices, with no meaning attached.
//
// The parser knows PTX syntax (PTX ISA, chapters 4 and 5): directives, scopes, operands. It does not know
// which instructions exist or which modifiers they take; `exec` gives them meaning and refuses what it does
// not implement. Nothing here executes, allocates device memory or prints.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aliquot::simgpu::ptx {

enum class Space : std::uint8_t { None, Reg, SReg, Const, Global, Local, Param, Shared, Tex };

// Fundamental types (PTX ISA 5.2). Size in bytes through `size_of`.
enum class Type : std::uint8_t {
  None,
  B8,
  B16,
  B32,
  B64,
  B128,
  U8,
  U16,
  U32,
  U64,
  S8,
  S16,
  S32,
  S64,
  F16,
  F16x2,
  BF16,
  BF16x2,
  TF32,
  F32,
  F64,
  Pred,
  TexRef,
  SamplerRef,
  SurfRef,
};

struct Position {
  std::uint32_t line = 0; // 1-based
};

enum class Linkage : std::uint8_t { Internal, Extern, Visible, Weak, Common };

// A literal. `Int` is a 64-bit two's complement pattern; `F32` holds the pattern in the low 32 bits.
struct Immediate {
  enum class Kind : std::uint8_t { Int, F32, F64 };
  Kind kind = Kind::Int;
  std::uint64_t bits = 0;
};

enum class OperandKind : std::uint8_t {
  Register,  // index into Function::registers
  Immediate, // imm
  Special,   // name, with the percent sign and the component: "%tid.x", "%laneid"
  Local,     // index into Function::variables (.local/.shared/.param/.const declared in the function); offset
  Parameter, // index into Function::parameters; offset
  Return,    // index into Function::returns; offset
  Symbol,    // index into Module::symbols (module-scope variable or function); offset
  Label,     // index into Function::labels
  Address,   // [items[0] + offset]; items[0] is Register, Local, Parameter, Return, Symbol or Immediate;
             // further items are those of "[tex, sampler, {coordinates}]"
  Vector,    // {items...}
  List,      // (items...): arguments and results of call
  Sink,      // _
};

struct Operand {
  OperandKind kind = OperandKind::Sink;
  bool negated = false; // "!p" (predicate) or "-x"
  std::uint32_t index = 0;
  std::int64_t offset = 0; // displacement of Address, or of "symbol+8"
  Immediate imm;
  std::string name; // Special; for Register the byte or half of a video instruction: "b0", "h1"
  std::vector<Operand> items;
  // Pair "p|q": this is p, the last item is q. Only where `paired` is set.
  bool paired = false;
};

struct Guard {
  bool present = false;
  bool negated = false;
  std::uint32_t register_index = 0;
};

// "@p setp.lt.and.f32 r, a, b, q;" -> opcode "setp", modifiers {"lt","and","f32"}, operands {...}.
// Modifiers keep their order and hold no dots, except the double-colon ones ("shared::cta",
// "level::eviction").
struct Instruction {
  std::string opcode;
  std::vector<std::string> modifiers;
  std::vector<Operand> operands;
  Guard guard;
  Position position;
};

struct Register {
  std::string name;
  Type type = Type::None;
};

// An address stored in an initialiser: at `at`, `width` bytes take (address of symbol) + addend; `generic`
// says that generic() surrounded it; `mask_shift` >= 0 takes byte number mask_shift of it (0xFF() forms).
struct Relocation {
  std::uint64_t at = 0;
  std::uint8_t width = 8;
  std::uint32_t symbol = 0;
  std::int64_t addend = 0;
  bool generic = false;
  std::int8_t mask_shift = -1;
};

struct Variable {
  std::string name;
  Space space = Space::None;
  Type type = Type::None;
  std::uint8_t vector = 1;     // .v2, .v4
  std::uint32_t alignment = 0; // bytes; 0 = natural, already resolved by the parser to >= 1
  std::uint64_t size = 0;      // bytes in all; 0 with `unsized`
  bool unsized = false;        // extern .shared .align 16 .b8 buf[];
  Linkage linkage = Linkage::Internal;
  std::vector<std::uint8_t> initial; // empty, or `size` bytes (missing tail is zero)
  std::vector<Relocation> relocations;
  Position position;
};

// Blocks may each have a label of one name: names repeat. Some entries may be referred to by nothing. A label
// stands before instruction `target` (may equal instructions.size()). For ".branchtargets" and ".calltargets"
// `targets` holds labels or symbols; for ".callprototype" the prototype is given.
struct Label {
  std::string name;
  std::uint32_t target = 0;
  enum class Kind : std::uint8_t { Code, BranchTargets, CallTargets, CallPrototype } kind = Kind::Code;
  std::vector<std::uint32_t> targets;
  std::vector<Variable> prototype_returns;
  std::vector<Variable> prototype_parameters;
};

struct Dim3 {
  std::uint32_t x = 0, y = 0, z = 0; // 0,0,0: not given
};

struct Function {
  std::string name;
  bool is_entry = false;
  bool has_body = false;
  bool no_return = false;
  Linkage linkage = Linkage::Internal;
  std::vector<Variable> returns;    // .reg or .param
  std::vector<Variable> parameters; // .param (entry, func) or .reg (func)
  // Only registers that the text uses: "%r<100000>" makes none by itself. A vector register is one Register
  // for each component, named "%v.x" and so on, and reads as a Vector operand. Parameters in .reg space are
  // registers too, see parameter_registers.
  std::vector<Register> registers;
  std::vector<std::int32_t> parameter_registers; // for each parameter its register, or -1
  std::vector<std::int32_t> return_registers;    // for each return its register, or -1
  // Function-scope variables, .param call frames included. A .global or .const one that is declared inside a
  // function is a Module variable.
  std::vector<Variable> variables;
  std::vector<Label> labels;
  std::vector<Instruction> instructions;
  Dim3 max_threads;                // .maxntid
  Dim3 required_threads;           // .reqntid
  std::uint32_t min_blocks = 0;    // .minnctapersm
  std::uint32_t max_registers = 0; // .maxnreg
  Dim3 required_cluster;           // .reqnctapercluster
  std::uint32_t max_cluster = 0;   // .maxclusterrank
  bool explicit_cluster = false;   // .explicitcluster
  Position position;
};

// Module scope: each symbol is a variable or a function; a declaration and its definition are one symbol.
struct Symbol {
  enum class Kind : std::uint8_t { Variable, Function };
  Kind kind = Kind::Variable;
  std::string name;
  std::uint32_t index = 0; // into Module::variables or Module::functions
};

struct Module {
  std::uint32_t version_major = 0, version_minor = 0;
  std::string target;   // "sm_80", "sm_90a", "compute_75"
  std::uint32_t sm = 0; // 80, 90, ...
  std::uint8_t address_size = 64;
  std::vector<Variable> variables;
  std::vector<Function> functions;
  std::vector<Symbol> symbols;
};

// 0 for None and opaque references, 1 for Pred.
std::uint32_t size_of(Type type) noexcept;
// "u32" -> U32; None where the word is no type.
Type type_from_name(std::string_view name) noexcept;
std::string_view name_of(Type type) noexcept;

struct ParseError {
  Position position;
  std::string message; // "expected ';' after operands, found '}'"
};

// Limits that keep a hostile module from taking the host's memory; past them parsing fails with an error.
struct ParseLimits {
  std::size_t text_bytes = std::size_t{256} << 20;
  std::size_t nesting = 256;
  std::size_t registers = std::size_t{1} << 31; // in one declaration; they cost nothing until used
  std::uint64_t initialiser_bytes = std::uint64_t{512} << 20;
};

// Parses one PTX module. Never throws for bad input: returns false and fills `error`.
// The text need not end in NUL; a NUL byte ends it.
bool parse(std::string_view text, Module& module, ParseError& error, const ParseLimits& limits = {});

// Joins modules as a linker does: extern declarations meet definitions, weak and common ones merge, internal
// names of different modules stay apart. False and `error` where a visible symbol is defined twice or the
// declarations disagree. Unresolved externs are left: exec refuses them at load, with their names.
bool link(std::vector<Module> modules, Module& linked, ParseError& error);

} // namespace aliquot::simgpu::ptx
