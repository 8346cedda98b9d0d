// From one parsed function to operations: control flow (cfg.cpp), instructions (lower_*.cpp) into an
// intermediate list over virtual rows, and rows to frame offsets (allocate.cpp).
//
// Errors leave by exception inside this layer; compile() turns them into messages.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "native/simgpu/exec/handlers.hpp"
#include "native/simgpu/exec/program.hpp"
#include "native/simgpu/ptx/ast.hpp"

namespace aliquot::simgpu::exec {

struct LowerError {
  std::string message;
  bool unsupported;
};
[[noreturn]] void refuse(const ptx::Instruction& instruction, std::string_view why); // valid, not implemented
[[noreturn]] void reject(std::uint32_t line, std::string_view why);                  // invalid

enum class Class : std::uint8_t { Pred, B16, B32, B64, B128, Words };
std::uint32_t row_bytes(Class kind, std::uint32_t words);
Class class_of(ptx::Type type);
std::uint32_t lane_bytes(Class kind);

using RowId = std::uint32_t;

struct RowInfo {
  enum class Kind : std::uint8_t { Virtual, Constant, Launch } kind = Kind::Virtual;
  Class type = Class::B32;
  bool whole = false; // lives through the whole function
  std::uint32_t words = 0;
  std::uint64_t bits = 0;   // Constant: value; Launch: addend
  bool parameter = false;   // Launch
  std::uint32_t which = 0;  // Launch
  std::uint32_t offset = 0; // in the frame, once allocated
};

struct IrOp {
  const Entry* entry = nullptr;
  std::array<RowId, kOperands> rows{};
  std::uint8_t results = 0, operands = 0;
  bool partial = false; // under a guard: results keep their old value in the other lanes
  bool control = false; // `extra` is the count of PTX instructions
  std::uint64_t imm = 0;
  std::int32_t target = -1; // block
  std::int32_t call = -1;   // into Lowered::calls
  std::int32_t table = -1;  // into Lowered::tables
  std::uint32_t extra = 0, line = 0;
};

struct IrCall {
  std::int32_t callee = -1; // function index; -1: indirect or system
  SystemFunction system = SystemFunction::None;
  std::vector<RowId> arguments, results;
};

// A basic block of the PTX text.
struct Block {
  std::uint32_t first = 0, last = 0; // instructions [first, last)
  enum class End : std::uint8_t { Fall, Jump, Cond, Table, Leave } end = End::Fall;
  ptx::Guard guard;                   // of Cond
  std::uint32_t target = 0, next = 0; // blocks: taken, not taken
  std::vector<std::uint32_t> targets; // of Table
  bool guard_done = false;            // its one instruction's guard was made a branch
  std::uint32_t end_line = 0;
};

struct ControlFlow {
  std::vector<Block> blocks;
  std::vector<std::uint32_t> order; // reachable blocks as they are laid out
};
ControlFlow control_flow(const ptx::Function& function);

// What several functions of a module share while they are lowered.
struct ModuleContext {
  const ptx::Module* module = nullptr;
  std::vector<std::uint64_t> variable_addresses; // module variables: device address, or shared offset
  std::vector<std::vector<std::uint64_t>> shared_offsets; // by function, by function-scope variable
  std::vector<std::uint64_t> dynamic_base; // by function: where extern shared starts; ~0 if callee
  std::uint32_t sites = 1;
  std::vector<std::string>* refusals = nullptr; // takes what is not implemented; lowering then goes on
};

struct Lowered {
  std::vector<IrOp> ops;
  std::vector<std::uint32_t> block_start; // by block number; ~0 where unreachable
  std::vector<std::uint32_t> order;
  std::vector<RowInfo> rows;
  std::vector<IrCall> calls;
  std::vector<std::vector<std::uint32_t>> tables;
  std::vector<RowId> parameters, returns;
  std::uint32_t local_bytes = 0;
  std::uint32_t registers = 0; // most 32-bit registers live at once
  std::uint32_t frame_bytes = 0;
};
// Gives every row its place in the frame.
void allocate(Lowered& lowered);

// Modifiers of one instruction, taken off as they are understood; what stays makes it unsupported.
class Modifiers {
 public:
  explicit Modifiers(const ptx::Instruction& instruction);
  bool take(std::string_view name);
  bool take_any(std::initializer_list<std::string_view> names);
  std::string_view take_one_of(std::initializer_list<std::string_view> names); // "" if none
  ptx::Type take_type();                                                       // None if none
  void skip_prefix(std::string_view prefix);                                   // "L2::", "level::"
  bool empty() const { return left_.empty(); }
  std::string_view first() const { return left_.front(); }

 private:
  std::vector<std::string_view> left_;
};

class Lowering {
 public:
  Lowering(ModuleContext& context, std::uint32_t function);
  Lowered run();
  static std::vector<std::string_view> instructions();

 private:
  using Method = void (Lowering::*)(const ptx::Instruction&, Modifiers&);
  static const std::unordered_map<std::string_view, Method>& methods();

  // lower.cpp: rows and operands
  RowId new_row(Class kind, std::uint32_t words = 0);
  RowId constant(Class kind, std::uint64_t bits);
  RowId launch_special(Class kind, Special which, std::uint64_t addend = 0);
  RowId launch_parameter(Class kind, std::uint32_t offset);
  RowId special(std::string_view name, Class kind);
  RowId special_value(Class kind, Special which, std::uint64_t addend = 0);
  RowId register_row(std::uint32_t index);
  Class class_of_row(RowId row) const { return out_.rows[row].type; }
  RowId source(const ptx::Operand& operand, Class kind, ptx::Type type = ptx::Type::None);
  RowId immediate(const ptx::Immediate& imm, bool negated, Class kind, ptx::Type type);
  RowId predicate(const ptx::Operand& operand);
  RowId address_of(const ptx::Operand& operand, Class kind);
  RowId variable_address(const ptx::Variable& variable, std::uint64_t place, std::int64_t offset, Class kind);
  RowId target(const ptx::Operand& operand, Class kind, ptx::Type type = ptx::Type::None);
  RowId resize(RowId row, Class to, bool is_signed);
  void assign(const ptx::Operand& to, RowId value, Class kind, ptx::Type type = ptx::Type::None);
  bool single_definition(std::uint32_t reg) const;

  IrOp& emit(std::string_view name, std::initializer_list<RowId> results,
             std::initializer_list<RowId> sources, std::uint64_t imm = 0);
  IrOp& emit_list(std::string_view name, const std::vector<RowId>& results, const std::vector<RowId>& sources,
                  std::uint64_t imm = 0);
  IrOp& emit_control(std::string_view name, std::initializer_list<RowId> results,
                     std::initializer_list<RowId> sources, std::uint64_t imm = 0);
  RowId compute(std::string_view name, Class kind, std::initializer_list<RowId> sources,
                std::uint64_t imm = 0);
  void lower_block(std::uint32_t number, std::uint32_t next);
  void lower_end(const Block& block, std::uint32_t number, std::uint32_t next);
  void branch(std::string_view name, std::uint32_t to, RowId condition, bool conditional);
  void lower_instruction(const ptx::Instruction& instruction);
  void lower_or_refuse(const ptx::Instruction& instruction);
  void finish_targets();
  void require(const ptx::Instruction& instruction, std::size_t operands) const;
  void enter_function();

  // lower_arithmetic.cpp
  void arithmetic(const ptx::Instruction&, Modifiers&);
  void arithmetic_packed(const ptx::Instruction&, Modifiers&, bool is_signed_type);
  void arithmetic_float(const ptx::Instruction&, Modifiers&, ptx::Type type);
  void carry(const ptx::Instruction&, Modifiers&);
  void multiply(const ptx::Instruction&, Modifiers&);
  void multiply24(const ptx::Instruction&, Modifiers&);
  void sad(const ptx::Instruction&, Modifiers&);
  void logic(const ptx::Instruction&, Modifiers&);
  void shift(const ptx::Instruction&, Modifiers&);
  void count_bits(const ptx::Instruction&, Modifiers&);
  void bit_field(const ptx::Instruction&, Modifiers&);
  void bit_mask(const ptx::Instruction&, Modifiers&);
  void permute(const ptx::Instruction&, Modifiers&);
  void lop3(const ptx::Instruction&, Modifiers&);
  void funnel(const ptx::Instruction&, Modifiers&);
  void dot(const ptx::Instruction&, Modifiers&);
  void setp(const ptx::Instruction&, Modifiers&);
  void set(const ptx::Instruction&, Modifiers&);
  void selp(const ptx::Instruction&, Modifiers&);
  void slct(const ptx::Instruction&, Modifiers&);
  void testp(const ptx::Instruction&, Modifiers&);
  void copysign(const ptx::Instruction&, Modifiers&);
  RowId compare(const ptx::Instruction&, Modifiers&, std::string_view comparison, ptx::Type type, bool ftz,
                std::size_t first);
  void setp_pair(const ptx::Instruction&, Modifiers&, std::string_view comparison, std::string_view boolean,
                 ptx::Type type, bool ftz);
  RowId half_row(RowId pair, bool high);
  void arithmetic_double_single(const ptx::Instruction&, Modifiers&);
  RowId extreme_with_signs(const ptx::Instruction&, ptx::Type type, bool nan, RowId a, RowId b);
  RowId combine(const ptx::Instruction&, std::string_view boolean, RowId truth, const ptx::Operand& other);

  // lower_convert.cpp
  void mov(const ptx::Instruction&, Modifiers&);
  void pack(const ptx::Instruction&, const ptx::Operand& to, const ptx::Operand& from, ptx::Type type);
  void unpack(const ptx::Instruction&, const ptx::Operand& to, const ptx::Operand& from, ptx::Type type);
  void cvt(const ptx::Instruction&, Modifiers&);
  void cvt_pack(const ptx::Instruction&, Modifiers&);
  RowId to_float(const ptx::Instruction&, RowId value, ptx::Type from, ptx::Type to, std::string_view round,
                 bool ftz);
  bool cvt_small(const ptx::Instruction&, Modifiers&, std::string_view round, bool finite, bool relu);
  RowId to_integer(const ptx::Instruction&, RowId value, ptx::Type from, ptx::Type to,
                   std::string_view round);
  RowId clamp_integer(RowId value, ptx::Type from, ptx::Type to);
  RowId convert_integer(RowId value, ptx::Type from, ptx::Type to);

  // lower_memory.cpp
  struct Address {
    RowId row;
    std::int64_t offset;
    ptx::Space space; // Global (generic too), Shared, Local, Param
    bool is_near;     // 32-bit row
    const ptx::Operand* base;
  };
  void ld(const ptx::Instruction&, Modifiers&);
  void st(const ptx::Instruction&, Modifiers&);
  void atom(const ptx::Instruction&, Modifiers&);
  void cvta(const ptx::Instruction&, Modifiers&);
  void isspacep(const ptx::Instruction&, Modifiers&);
  void prefetch(const ptx::Instruction&, Modifiers&);
  void policy(const ptx::Instruction&, Modifiers&);
  void complete(const ptx::Instruction&, ptx::Space space, std::uint64_t bytes);
  void atom_vector(const ptx::Instruction&, Modifiers&, std::string_view what, ptx::Type type, RowId at,
                   bool red);
  RowId atom_one(const ptx::Instruction&, std::string_view what, ptx::Type type, RowId at, RowId b, RowId c,
                 RowId to);
  void fence(const ptx::Instruction&, Modifiers&);
  void nothing(const ptx::Instruction&, Modifiers&);
  ptx::Space take_space(Modifiers& modifiers);
  void skip_hints(Modifiers& modifiers, bool& spins);
  Address address(const ptx::Instruction&, const ptx::Operand& operand, ptx::Space space);
  RowId generic_address(const ptx::Instruction&, const ptx::Operand& operand, ptx::Space space);
  void load_parameter(const ptx::Instruction&, const std::vector<ptx::Operand>& to, const ptx::Operand& from,
                      ptx::Type type);
  void store_parameter(const ptx::Instruction&, const ptx::Operand& to, const std::vector<ptx::Operand>& from,
                       ptx::Type type);
  bool parameter_place(const ptx::Operand& operand, RowId& words, std::int64_t& offset);

  // lower_matrix.cpp
  void mma(const ptx::Instruction&, Modifiers&);
  void wmma(const ptx::Instruction&, Modifiers&);
  void matrix_rows(const ptx::Instruction&, Modifiers&);
  RowId gather_words(const ptx::Instruction&, const ptx::Operand& operand, std::uint32_t words, bool wide);
  void scatter_words(const ptx::Instruction&, const ptx::Operand& operand, RowId row, bool wide);

  // lower_async.cpp
  void mbarrier(const ptx::Instruction&, Modifiers&);
  void cp_async(const ptx::Instruction&, Modifiers&);
  void copy_bulk(const ptx::Instruction&, Modifiers&);
  void cluster(const ptx::Instruction&, Modifiers&);
  void enter_stack();
  RowId stack_row();
  void stack(const ptx::Instruction&, Modifiers&);

  // lower_video.cpp
  void video(const ptx::Instruction&, Modifiers&);

  // lower_control.cpp
  void bar(const ptx::Instruction&, Modifiers&);
  void bar_warp(const ptx::Instruction&, Modifiers&);
  void vote(const ptx::Instruction&, Modifiers&);
  void shfl(const ptx::Instruction&, Modifiers&);
  void match(const ptx::Instruction&, Modifiers&);
  void redux(const ptx::Instruction&, Modifiers&);
  void activemask(const ptx::Instruction&, Modifiers&);
  void elect(const ptx::Instruction&, Modifiers&);
  void ret(const ptx::Instruction&, Modifiers&);
  void leave(const ptx::Instruction&, Modifiers&);
  void trap(const ptx::Instruction&, Modifiers&);
  void nanosleep(const ptx::Instruction&, Modifiers&);
  void call(const ptx::Instruction&, Modifiers&);
  RowId argument(const ptx::Operand& operand, std::uint64_t bytes);

  ModuleContext& context_;
  const ptx::Module& module_;
  const ptx::Function& function_;
  std::uint32_t index_;
  ControlFlow flow_;
  Lowered out_;
  std::vector<std::uint32_t> definitions_;
  std::vector<RowId> register_rows_;
  std::vector<RowId> variable_words_; // .param variables of the function
  std::vector<std::uint32_t> local_offsets_;
  std::map<std::tuple<std::uint8_t, std::uint64_t>, RowId> constants_;
  std::map<std::tuple<std::uint8_t, bool, std::uint32_t, std::uint64_t>, RowId> launch_rows_;
  struct Pending {
    RowId from, to;
    bool is_signed;
  };
  std::vector<Pending> pending_;
  RowId carry_row_ = ~0u;
  RowId stack_row_ = ~0u; // where alloca goes on; see lower_async.cpp
  std::uint64_t stack_end_ = 0;
  std::uint32_t weight_ = 0; // PTX instructions since the last control operation
  bool guarded_ = false;
  std::uint32_t line_ = 0;
};

} // namespace aliquot::simgpu::exec
