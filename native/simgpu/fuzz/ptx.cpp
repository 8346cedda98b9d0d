// Fuzzes the PTX parser, linker and printer.
//
// Holds for every input: a refusal names a line inside the text and says something; what is accepted can be
// printed, printed text parses, and printing settles at the second time; linking a module with itself and
// with a second one either works or says why.
#include <algorithm>
#include <string>

#include "native/common/fuzz/fuzz.hpp"
#include "native/simgpu/ptx/ast.hpp"
#include "native/simgpu/ptx/tools/json.hpp"

namespace {

namespace ptx = aliquot::simgpu::ptx;
using aliquot::fuzz::require;

// What the host can be asked for here is less than what a driver may be asked for.
ptx::ParseLimits limits() {
  ptx::ParseLimits result;
  result.initialiser_bytes = 1 << 22;
  return result;
}

void check_indices(const ptx::Module& module, const ptx::Function& function, const ptx::Operand& operand) {
  using Kind = ptx::OperandKind;
  const std::size_t bound = operand.kind == Kind::Register    ? function.registers.size()
                            : operand.kind == Kind::Local     ? function.variables.size()
                            : operand.kind == Kind::Parameter ? function.parameters.size()
                            : operand.kind == Kind::Return    ? function.returns.size()
                            : operand.kind == Kind::Symbol    ? module.symbols.size()
                            : operand.kind == Kind::Label     ? function.labels.size()
                                                              : std::size_t{1} << 32;
  require(operand.index < bound, "an operand's index lies inside its table");
  for (const ptx::Operand& item : operand.items)
    check_indices(module, function, item);
}

void check_function(const ptx::Module& module, const ptx::Function& function) {
  require(function.parameter_registers.size() == function.parameters.size(), "a register or -1 a parameter");
  require(function.return_registers.size() == function.returns.size(), "a register or -1 a return value");
  for (const ptx::Label& label : function.labels) {
    require(label.target <= function.instructions.size(), "a label points into its function");
    const std::size_t bound =
        label.kind == ptx::Label::Kind::CallTargets ? module.symbols.size() : function.labels.size();
    for (const std::uint32_t target : label.targets)
      require(target < bound, "a target lies inside its table");
  }
  for (const ptx::Instruction& instruction : function.instructions) {
    require(!instruction.guard.present || instruction.guard.register_index < function.registers.size(),
            "a guard is a register");
    for (const ptx::Operand& operand : instruction.operands)
      check_indices(module, function, operand);
  }
}

void check_module(const ptx::Module& module) {
  for (const ptx::Symbol& symbol : module.symbols)
    require(symbol.index < (symbol.kind == ptx::Symbol::Kind::Function ? module.functions.size()
                                                                       : module.variables.size()),
            "a symbol's index lies inside its table");
  for (const ptx::Variable& variable : module.variables) {
    require(variable.initial.size() <= variable.size, "initial values lie inside their variable");
    require(variable.alignment != 0, "alignment is resolved");
    for (const ptx::Relocation& relocation : variable.relocations)
      require(relocation.at + relocation.width <= variable.size && relocation.symbol < module.symbols.size(),
              "a relocation lies inside its variable");
  }
  for (const ptx::Function& function : module.functions)
    check_function(module, function);
}

ptx::Module parse_again(const std::string& text) {
  ptx::Module module;
  ptx::ParseError error;
  if (!ptx::parse(text, module, error)) {
    std::fprintf(stderr, "%s\nline %u: %s\n", text.c_str(), error.position.line, error.message.c_str());
    require(false, "printed text parses");
  }
  check_module(module);
  return module;
}

void check_round_trip(const ptx::Module& module) {
  const std::string once = ptx::tools::to_ptx(module);
  const std::string twice = ptx::tools::to_ptx(parse_again(once));
  require(ptx::tools::to_ptx(parse_again(twice)) == twice, "printing settles");
}

void check_link(const ptx::Module& module) {
  ptx::Module other, linked;
  ptx::ParseError error;
  require(ptx::parse(aliquot::fuzz::seeds()[0], other, error), "the first seed parses");
  for (std::vector<ptx::Module> modules : {std::vector{module}, {module, module}, {other, module, other}}) {
    if (ptx::link(std::move(modules), linked, error))
      check_module(linked);
    else
      require(!error.message.empty(), "a refusal to link says why");
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ptx::Module module;
  ptx::ParseError error;
  if (!ptx::parse(text, module, error, limits())) {
    const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
    require(!error.message.empty(), "a refusal says why");
    require(error.position.line >= 1 && error.position.line <= lines, "a refusal names a line of the text");
    return 0;
  }
  check_module(module);
  check_round_trip(module);
  check_link(module);
  return 0;
}

std::vector<std::string_view> aliquot::fuzz::words() {
  return {".version 8.0 ",
          ".target sm_80 ",
          ".visible ",
          ".extern ",
          ".weak ",
          ".common ",
          ".entry ",
          ".func ",
          ".param ",
          ".reg ",
          ".pred ",
          ".b8 ",
          ".b32 ",
          ".u64 ",
          ".f32 ",
          ".v4 ",
          ".align 8 ",
          ".shared ",
          ".local ",
          ".const ",
          ".global ",
          "%r<10>",
          "%r1",
          "%p1",
          "%tid.x",
          "{",
          "}",
          "[",
          "]",
          "(",
          ")",
          ";",
          ":",
          ",",
          "|",
          "@%p1 ",
          "@!%p1 ",
          "!",
          "-",
          "+8",
          "= {1, 2}",
          "generic(",
          "0xFF00(",
          "_",
          "WARP_SZ",
          "call ",
          "bra L1;",
          "L1:",
          ".branchtargets L1;",
          ".calltargets f;",
          ".callprototype (.param .b32 _) _ ();",
          "ld.global.u32 ",
          "ret;",
          ".loc 1 2 3\n",
          ".file 1 \"a\"\n",
          ".section .s {}",
          ".pragma \"a\";",
          "/*",
          "*/",
          "//",
          "\"",
          ".alias f, g;",
          ".maxntid 1,2,3",
          "0f3f800000",
          "0d3ff0000000000000",
          "1.5e3",
          "(.u64)",
          "<<",
          ">>",
          "&&",
          "? 1 : 2",
          "%",
          ".x",
          ".b0",
          "<3>"};
}

std::vector<std::string_view> aliquot::fuzz::seeds() {
  return {R"(.version 8.0
.target sm_80
.address_size 64
.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
.global .align 4 .u32 counter = 5;
.global .align 8 .u64 table[2] = {generic(counter), counter+4};
.const .f32 coefficients[3] = {1.0, 0f40000000, -3};
.extern .shared .align 16 .b8 dynamic[];
.weak .func (.reg .u32 out) f (.reg .u32 in) { add.u32 out, in, 1; ret; }
.visible .entry k(.param .u64 .ptr .global .align 4 data, .param .align 8 .b8 s[24]) .maxntid 256, 1, 1
{
  .reg .pred %p<3>;
  .reg .b32 %r<10>;
  .reg .b64 %rd<4>;
  .reg .v2 .f32 v;
  .local .align 8 .b8 stack[32];
  ld.param.u64 %rd1, [data];
  mov.u32 %r1, %tid.x;
  setp.lt.and.s32 %p1|%p2, %r1, (WARP_SZ << 1) - 3, !%p0;
  @!%p1 bra DONE;
  { .reg .b32 t; .param .b32 q; st.param.b32 [q+0], %r1; call.uni (t), f, (q); bra INNER; INNER: }
  ts: .branchtargets DONE, LOOP;
LOOP:
  brx.idx %r2, ts;
  mov.b64 {%r3, %r4}, %rd1;
  st.global.v2.f32 [%rd1+-8], {v.x, v.y};
  shfl.sync.bfly.b32 %r5|%p1, %r1, 0x10, 31, -1;
  proto: .callprototype (.param .b32 _) _ (.param .b64 _);
  call (%r6), %rd2, (%rd1), proto;
DONE:
  ret;
}
)"};
}
