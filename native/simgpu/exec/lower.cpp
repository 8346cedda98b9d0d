// The frame of lowering: blocks in their order, and operations with what they read and write.
// Operands are in lower_operands.cpp; what single instructions mean is in lower_arithmetic.cpp,
// lower_convert.cpp, lower_memory.cpp and lower_control.cpp.
#include "native/simgpu/exec/lower.hpp"

#include <algorithm>
#include <cstring>

namespace aliquot::simgpu::exec {

using ptx::Instruction;
using ptx::Operand;
using ptx::OperandKind;
using ptx::Type;

void refuse(const Instruction& instruction, std::string_view why) {
  std::string text = "line " + std::to_string(instruction.position.line) + ": " + instruction.opcode;
  for (const std::string& modifier : instruction.modifiers)
    text += "." + modifier;
  throw LowerError{text + ": " + std::string(why), true};
}

void reject(std::uint32_t line, std::string_view why) {
  throw LowerError{"line " + std::to_string(line) + ": " + std::string(why), false};
}

std::uint32_t lane_bytes(Class kind) {
  constexpr std::uint32_t bytes[] = {0, 2, 4, 8, 16, 4};
  return bytes[static_cast<int>(kind)];
}

std::uint32_t row_bytes(Class kind, std::uint32_t words) {
  if (kind == Class::Pred)
    return 4;
  return kind == Class::Words ? std::max(words, 1u) * 128 : 32 * lane_bytes(kind);
}

Class class_of(Type type) {
  if (type == Type::Pred)
    return Class::Pred;
  switch (ptx::size_of(type)) {
  case 1:
  case 2:
    return Class::B16;
  case 8:
    return Class::B64;
  case 16:
    return Class::B128;
  default:
    return Class::B32;
  }
}

Modifiers::Modifiers(const Instruction& instruction)
    : left_(instruction.modifiers.begin(), instruction.modifiers.end()) {}

bool Modifiers::take(std::string_view name) {
  auto found = std::find(left_.begin(), left_.end(), name);
  if (found == left_.end())
    return false;
  left_.erase(found);
  return true;
}

bool Modifiers::take_any(std::initializer_list<std::string_view> names) {
  return !take_one_of(names).empty();
}

std::string_view Modifiers::take_one_of(std::initializer_list<std::string_view> names) {
  for (std::string_view name : names)
    if (take(name))
      return name;
  return {};
}

Type Modifiers::take_type() {
  for (std::size_t i = 0; i < left_.size(); ++i) {
    Type type = ptx::type_from_name(left_[i]);
    if (type == Type::None)
      continue;
    left_.erase(left_.begin() + static_cast<std::ptrdiff_t>(i));
    return type;
  }
  return Type::None;
}

void Modifiers::skip_prefix(std::string_view prefix) {
  std::erase_if(left_, [&](std::string_view word) { return word.substr(0, prefix.size()) == prefix; });
}

Lowering::Lowering(ModuleContext& context, std::uint32_t function)
    : context_(context), module_(*context.module), function_(context.module->functions[function]),
      index_(function) {
  register_rows_.assign(function_.registers.size(), ~0u);
  variable_words_.assign(function_.variables.size(), ~0u);
  local_offsets_.assign(function_.variables.size(), 0);
}

// --- Operations ---

IrOp& Lowering::emit_list(std::string_view name, const std::vector<RowId>& results,
                          const std::vector<RowId>& sources, std::uint64_t imm) {
  IrOp op;
  op.entry = find_entry(name);
  if (!op.entry)
    throw LowerError{"line " + std::to_string(line_) + ": no operation " + std::string(name), true};
  for (RowId row : results)
    op.rows[op.operands++] = row;
  op.results = op.operands;
  for (RowId row : sources)
    op.rows[op.operands++] = row;
  op.imm = imm;
  op.partial = guarded_;
  op.line = line_;
  // The handler reads as many lanes as its shape says: a row of another width would be out of bounds.
  const char* shape = op.entry->shape;
  constexpr char letters[] = {'p', 'h', 'w', 'x', 'q', 'W'};
  for (unsigned i = 0; i < op.operands; ++i, ++shape) {
    shape += *shape == '=';
    if (*shape != letters[static_cast<int>(class_of_row(op.rows[i]))])
      throw LowerError{"line " + std::to_string(line_) + ": operand " + std::to_string(i) + " of " +
                           std::string(name) + " has the wrong width",
                       false};
  }
  shape += *shape == '=';
  if (*shape)
    throw LowerError{"line " + std::to_string(line_) + ": too few operands for " + std::string(name), false};
  out_.ops.push_back(op);
  return out_.ops.back();
}

IrOp& Lowering::emit(std::string_view name, std::initializer_list<RowId> results,
                     std::initializer_list<RowId> sources, std::uint64_t imm) {
  return emit_list(name, std::vector<RowId>(results), std::vector<RowId>(sources), imm);
}

IrOp& Lowering::emit_control(std::string_view name, std::initializer_list<RowId> results,
                             std::initializer_list<RowId> sources, std::uint64_t imm) {
  IrOp& op = emit(name, results, sources, imm);
  op.control = true;
  op.extra = weight_;
  weight_ = 0;
  return op;
}

RowId Lowering::compute(std::string_view name, Class kind, std::initializer_list<RowId> sources,
                        std::uint64_t imm) {
  RowId row = new_row(kind);
  emit(name, {row}, sources, imm);
  return row;
}

void Lowering::require(const Instruction& instruction, std::size_t operands) const {
  if (instruction.operands.size() < operands)
    reject(instruction.position.line,
           instruction.opcode + " wants " + std::to_string(operands) + " operands");
}

// --- Functions ---

namespace {

// How often each register may be written; counting too much does no harm.
void count_definitions(const Operand& operand, std::vector<std::uint32_t>& definitions) {
  if (operand.kind == OperandKind::Register)
    ++definitions[operand.index];
  if (operand.kind == OperandKind::Address)
    return;
  for (const Operand& item : operand.items)
    count_definitions(item, definitions);
}

std::uint32_t words_of(const ptx::Variable& variable) {
  return static_cast<std::uint32_t>((variable.size + 3) / 4);
}

} // namespace

void Lowering::enter_function() {
  definitions_.assign(function_.registers.size(), 0);
  for (const Instruction& instruction : function_.instructions)
    if (!instruction.operands.empty())
      count_definitions(instruction.operands[0], definitions_);
  std::uint64_t local = 0;
  for (std::size_t i = 0; i < function_.variables.size(); ++i) {
    const ptx::Variable& variable = function_.variables[i];
    if (variable.space != ptx::Space::Local)
      continue;
    std::uint64_t align = std::max(variable.alignment, 1u);
    local = (local + align - 1) / align * align;
    local_offsets_[i] = static_cast<std::uint32_t>(local);
    local += variable.size;
    if (local > (512u << 10))
      throw LowerError{"function " + function_.name + " wants more than 512 KiB of local memory a thread",
                       false};
  }
  out_.local_bytes = static_cast<std::uint32_t>((local + 15) & ~std::uint64_t{15});
  enter_stack();
  if (function_.is_entry)
    return;
  auto frame_words = [&](const ptx::Variable& variable) {
    if (variable.size > 4096)
      throw LowerError{"parameter " + variable.name + " is larger than 4 KiB", true};
    RowId row = new_row(Class::Words, words_of(variable));
    out_.rows[row].whole = true;
    return row;
  };
  for (const ptx::Variable& variable : function_.parameters)
    out_.parameters.push_back(frame_words(variable));
  for (const ptx::Variable& variable : function_.returns)
    out_.returns.push_back(frame_words(variable));
  for (std::size_t i = 0; i < function_.parameter_registers.size() && i < function_.parameters.size(); ++i) {
    std::int32_t reg = function_.parameter_registers[i];
    if (reg < 0)
      continue;
    ++definitions_[static_cast<std::size_t>(reg)];
    RowId row = register_row(static_cast<std::uint32_t>(reg));
    const char* name = class_of_row(row) == Class::B64   ? "param.ld.x"
                       : class_of_row(row) == Class::B16 ? "param.ld.h"
                                                         : "param.ld.w";
    emit(name, {row}, {out_.parameters[i]});
  }
}

Lowered Lowering::run() {
  flow_ = control_flow(function_);
  enter_function();
  out_.order = flow_.order;
  out_.block_start.assign(flow_.blocks.size(), ~0u);
  for (std::size_t i = 0; i < flow_.order.size(); ++i) {
    std::uint32_t next = i + 1 < flow_.order.size() ? flow_.order[i + 1] : ~0u;
    out_.block_start[flow_.order[i]] = static_cast<std::uint32_t>(out_.ops.size());
    lower_block(flow_.order[i], next);
  }
  return std::move(out_);
}

void Lowering::lower_block(std::uint32_t number, std::uint32_t next) {
  const Block& block = flow_.blocks[number];
  for (std::uint32_t at = block.first; at < block.last; ++at) {
    const Instruction& instruction = function_.instructions[at];
    line_ = instruction.position.line;
    ++weight_;
    if (instruction.guard.present && !block.guard_done) {
      // operations under a guard, between two that narrow the mask and restore it
      RowId saved = new_row(Class::Pred);
      out_.rows[saved].whole = true;
      RowId condition = register_row(instruction.guard.register_index);
      std::size_t begin = out_.ops.size();
      emit(instruction.guard.negated ? "guard.not" : "guard", {saved}, {condition});
      guarded_ = true;
      lower_or_refuse(instruction);
      guarded_ = false;
      IrOp& end = emit("guard.end", {}, {saved});
      end.control = true;
      end.extra = 1;
      out_.ops[begin].imm = out_.ops.size() - begin;
      out_.ops[begin].control = true;
      out_.ops[begin].extra = 1;
    } else {
      lower_or_refuse(instruction);
    }
  }
  lower_end(block, number, next);
}

void Lowering::branch(std::string_view name, std::uint32_t to, RowId condition, bool conditional) {
  ++weight_;
  std::string full(name);
  if (out_.block_start[to] != ~0u)
    full += ".back";
  IrOp& op = conditional ? emit_control(full, {}, {condition}) : emit_control(full, {}, {});
  op.target = static_cast<std::int32_t>(to);
}

void Lowering::lower_end(const Block& block, std::uint32_t, std::uint32_t next) {
  line_ = block.end_line;
  switch (block.end) {
  case Block::End::Leave: {
    bool given = block.last > block.first;
    if (given) {
      const std::string& opcode = function_.instructions[block.last - 1].opcode;
      if (opcode == "ret" || opcode == "exit" || opcode == "trap")
        return;
    }
    Instruction end;
    end.opcode = "ret";
    end.position.line = line_;
    Modifiers none(end);
    ret(end, none);
    return;
  }
  case Block::End::Table:
    return; // the brx is lowered as an instruction
  case Block::End::Cond: {
    RowId condition = register_row(block.guard.register_index);
    if (block.target == next && block.next != next) {
      branch(block.guard.negated ? "bra.if" : "bra.not", block.next, condition, true);
      return;
    }
    branch(block.guard.negated ? "bra.not" : "bra.if", block.target, condition, true);
    if (block.next != next) {
      branch("bra", block.next, 0, false);
      --out_.ops.back().extra; // no instruction of the PTX text
    }
    return;
  }
  case Block::End::Jump:
  case Block::End::Fall: {
    std::uint32_t to = block.end == Block::End::Jump ? block.target : block.next;
    if (block.end == Block::End::Fall)
      --weight_; // made up for in branch()
    if (to != next) {
      branch("bra", to, 0, false);
    } else {
      ++weight_;
      emit_control("fall", {}, {});
    }
    return;
  }
  }
}

void Lowering::lower_or_refuse(const Instruction& instruction) {
  if (!context_.refusals) {
    lower_instruction(instruction);
    return;
  }
  try {
    lower_instruction(instruction);
  } catch (const LowerError& error) {
    context_.refusals->push_back(error.message);
    pending_.clear();
  }
}

void Lowering::lower_instruction(const Instruction& instruction) {
  auto found = methods().find(instruction.opcode);
  if (found == methods().end())
    refuse(instruction, "instruction is not implemented");
  Modifiers modifiers(instruction);
  (this->*found->second)(instruction, modifiers);
  if (!modifiers.empty())
    refuse(instruction, "modifier ." + std::string(modifiers.first()) + " is not implemented");
  finish_targets();
}

std::vector<std::string_view> Lowering::instructions() {
  std::vector<std::string_view> names;
  for (const auto& entry : methods())
    names.push_back(entry.first);
  std::sort(names.begin(), names.end());
  return names;
}

const std::unordered_map<std::string_view, Lowering::Method>& Lowering::methods() {
  using L = Lowering;
  static const std::unordered_map<std::string_view, Method> table = {
      {"add", &L::arithmetic},
      {"sub", &L::arithmetic},
      {"div", &L::arithmetic},
      {"rem", &L::arithmetic},
      {"min", &L::arithmetic},
      {"max", &L::arithmetic},
      {"abs", &L::arithmetic},
      {"neg", &L::arithmetic},
      {"fma", &L::arithmetic},
      {"rcp", &L::arithmetic},
      {"sqrt", &L::arithmetic},
      {"rsqrt", &L::arithmetic},
      {"sin", &L::arithmetic},
      {"cos", &L::arithmetic},
      {"ex2", &L::arithmetic},
      {"lg2", &L::arithmetic},
      {"tanh", &L::arithmetic},
      {"mul", &L::multiply},
      {"mad", &L::multiply},
      {"madc", &L::multiply},
      {"mul24", &L::multiply24},
      {"mad24", &L::multiply24},
      {"addc", &L::carry},
      {"subc", &L::carry},
      {"sad", &L::sad},
      {"and", &L::logic},
      {"or", &L::logic},
      {"xor", &L::logic},
      {"not", &L::logic},
      {"cnot", &L::logic},
      {"shl", &L::shift},
      {"shr", &L::shift},
      {"popc", &L::count_bits},
      {"clz", &L::count_bits},
      {"brev", &L::count_bits},
      {"bfind", &L::count_bits},
      {"bfe", &L::bit_field},
      {"bfi", &L::bit_field},
      {"fns", &L::bit_field},
      {"bmsk", &L::bit_mask},
      {"szext", &L::bit_mask},
      {"prmt", &L::permute},
      {"lop3", &L::lop3},
      {"shf", &L::funnel},
      {"dp4a", &L::dot},
      {"dp2a", &L::dot},
      {"setp", &L::setp},
      {"set", &L::set},
      {"selp", &L::selp},
      {"slct", &L::slct},
      {"testp", &L::testp},
      {"copysign", &L::copysign},
      {"mov", &L::mov},
      {"cvt", &L::cvt},
      {"ld", &L::ld},
      {"ldu", &L::ld},
      {"st", &L::st},
      {"atom", &L::atom},
      {"red", &L::atom},
      {"cvta", &L::cvta},
      {"isspacep", &L::isspacep},
      {"prefetch", &L::prefetch},
      {"prefetchu", &L::prefetch},
      {"applypriority", &L::prefetch},
      {"discard", &L::prefetch},
      {"cp", &L::cp_async},
      {"membar", &L::fence},
      {"fence", &L::fence},
      {"bar", &L::bar},
      {"barrier", &L::bar},
      {"vote", &L::vote},
      {"shfl", &L::shfl},
      {"match", &L::match},
      {"redux", &L::redux},
      {"activemask", &L::activemask},
      {"elect", &L::elect},
      {"ret", &L::ret},
      {"exit", &L::leave},
      {"trap", &L::trap},
      {"brkpt", &L::trap},
      {"nanosleep", &L::nanosleep},
      {"call", &L::call},
      {"brx", &L::leave},
      {"pmevent", &L::nothing},
      {"griddepcontrol", &L::nothing},
      {"setmaxnreg", &L::nothing},
      {"mma", &L::mma},
      {"wmma", &L::wmma},
      {"ldmatrix", &L::matrix_rows},
      {"stmatrix", &L::matrix_rows},
      {"movmatrix", &L::matrix_rows},
      {"mbarrier", &L::mbarrier},
      {"mapa", &L::cluster},
      {"getctarank", &L::cluster},
      {"alloca", &L::stack},
      {"stacksave", &L::stack},
      {"stackrestore", &L::stack},
      {"createpolicy", &L::policy},
      {"vadd", &L::video},
      {"vsub", &L::video},
      {"vabsdiff", &L::video},
      {"vmin", &L::video},
      {"vmax", &L::video},
      {"vshl", &L::video},
      {"vshr", &L::video},
      {"vmad", &L::video},
      {"vset", &L::video},
      {"vadd2", &L::video},
      {"vsub2", &L::video},
      {"vavrg2", &L::video},
      {"vabsdiff2", &L::video},
      {"vmin2", &L::video},
      {"vmax2", &L::video},
      {"vset2", &L::video},
      {"vadd4", &L::video},
      {"vsub4", &L::video},
      {"vavrg4", &L::video},
      {"vabsdiff4", &L::video},
      {"vmin4", &L::video},
      {"vmax4", &L::video},
      {"vset4", &L::video},
  };
  return table;
}

} // namespace aliquot::simgpu::exec
