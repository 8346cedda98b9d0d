// Calls, returns, barriers and what lanes of a warp say to each other.
#include <algorithm>
#include <string>

#include "native/simgpu/exec/lower.hpp"

namespace aliquot::simgpu::exec {

using ptx::Instruction;
using ptx::Operand;
using ptx::OperandKind;
using ptx::Type;

namespace {
constexpr std::uint32_t kAllThreads = 0; // thread count of a barrier for the whole block
}

// bar{.warp}.sync, bar.arrive, bar.red, barrier{.cta}...
void Lowering::bar(const Instruction& in, Modifiers& modifiers) {
  if (modifiers.take("warp")) {
    bar_warp(in, modifiers);
    return;
  }
  modifiers.take_any({"cta"});
  if (modifiers.take("cluster")) { // every block is a cluster of one
    bool wait = !modifiers.take("arrive");
    modifiers.take_any({"wait", "acquire", "release", "relaxed"});
    modifiers.take_any({"acquire", "release", "relaxed"});
    modifiers.take("aligned");
    if (wait)
      emit_control("barrier", {},
                   {constant(Class::B32, 0), constant(Class::B32, kAllThreads), constant(Class::Pred, 0)});
    return;
  }
  std::string_view kind = modifiers.take_one_of({"sync", "arrive", "red"});
  std::string_view reduce = modifiers.take_one_of({"popc", "and", "or"});
  modifiers.take("aligned");
  modifiers.take_type();
  bool red = kind == "red";
  std::size_t at = red ? 1 : 0;
  require(in, red ? 3 : 1);
  RowId id = source(in.operands[at], Class::B32);
  RowId threads = constant(Class::B32, kAllThreads), truth = constant(Class::Pred, 0);
  if (red) {
    if (in.operands.size() == 4)
      threads = source(in.operands[2], Class::B32);
    truth = predicate(in.operands.back());
  } else if (in.operands.size() > 1) {
    threads = source(in.operands[1], Class::B32);
  }
  std::uint64_t number = kind == "arrive" ? 1 : !red ? 0 : reduce == "popc" ? 2 : reduce == "and" ? 3 : 4;
  emit_control("barrier", {}, {id, threads, truth}, number);
  if (red && reduce == "popc")
    emit("barrier.count", {target(in.operands[0], Class::B32)}, {id});
  else if (red)
    emit("barrier.truth", {target(in.operands[0], Class::Pred)}, {id});
}

void Lowering::bar_warp(const Instruction& in, Modifiers& modifiers) {
  modifiers.take("sync");
  require(in, 1);
  emit("bar.warp", {}, {source(in.operands[0], Class::B32)});
}

void Lowering::vote(const Instruction& in, Modifiers& modifiers) {
  bool sync = modifiers.take("sync");
  std::string_view kind = modifiers.take_one_of({"all", "any", "uni", "ballot"});
  modifiers.take_type();
  require(in, sync ? 3 : 2);
  RowId truth = predicate(in.operands[1]);
  // without .sync: whoever is here
  RowId members = sync ? source(in.operands[2], Class::B32) : compute("activemask", Class::B32, {});
  if (kind == "ballot")
    emit("vote.ballot", {target(in.operands[0], Class::B32)}, {truth, members});
  else
    emit("vote", {target(in.operands[0], Class::Pred)}, {truth, members},
         kind == "all"   ? 0
         : kind == "any" ? 1
                         : 2);
}

void Lowering::shfl(const Instruction& in, Modifiers& modifiers) {
  bool sync = modifiers.take("sync");
  std::string_view mode = modifiers.take_one_of({"up", "down", "bfly", "idx"});
  modifiers.take_type();
  require(in, sync ? 5 : 4);
  RowId a = source(in.operands[1], Class::B32), b = source(in.operands[2], Class::B32),
        c = source(in.operands[3], Class::B32);
  RowId members = sync ? source(in.operands[4], Class::B32) : compute("activemask", Class::B32, {});
  const Operand& to = in.operands[0];
  RowId valid = to.paired ? target(to.items[0], Class::Pred) : new_row(Class::Pred);
  std::uint64_t number = mode == "up" ? 0 : mode == "down" ? 1 : mode == "bfly" ? 2 : 3;
  emit("shfl", {target(to, Class::B32), valid}, {a, b, c, members}, number);
}

void Lowering::match(const Instruction& in, Modifiers& modifiers) {
  bool all = modifiers.take("all");
  modifiers.take("any");
  modifiers.take("sync");
  Type type = modifiers.take_type();
  require(in, 3);
  RowId a = source(in.operands[1], class_of(type)), members = source(in.operands[2], Class::B32);
  std::string width = ptx::size_of(type) == 8 ? "b64" : "b32";
  const Operand& to = in.operands[0];
  if (!all) {
    emit("match.any." + width, {target(to, Class::B32)}, {a, members});
    return;
  }
  RowId truth = to.paired ? target(to.items[0], Class::Pred) : new_row(Class::Pred);
  emit("match.all." + width, {target(to, Class::B32), truth}, {a, members});
}

void Lowering::redux(const Instruction& in, Modifiers& modifiers) {
  modifiers.take("sync");
  std::string_view what = modifiers.take_one_of({"add", "min", "max", "and", "or", "xor"});
  Type type = modifiers.take_type();
  require(in, 3);
  RowId a = source(in.operands[1], Class::B32, type), members = source(in.operands[2], Class::B32);
  if (type == Type::F32) {
    if (what != "min" && what != "max")
      refuse(in, "type is not implemented");
    bool absolute = modifiers.take("abs"), nan = modifiers.take("NaN");
    if (absolute)
      a = compute("abs.f32", Class::B32, {a});
    emit("redux." + std::string(what) + ".f32", {target(in.operands[0], Class::B32)}, {a, members}, nan);
    return;
  }
  if (type != Type::U32 && type != Type::S32 && type != Type::B32)
    refuse(in, "type is not implemented");
  bool ordered = what == "min" || what == "max";
  std::string name =
      "redux." + std::string(what) + (ordered ? (type == Type::S32 ? ".s32" : ".u32") : ".b32");
  emit(name, {target(in.operands[0], Class::B32)}, {a, members});
}

void Lowering::activemask(const Instruction& in, Modifiers& modifiers) {
  modifiers.take_type();
  require(in, 1);
  emit("activemask", {target(in.operands[0], Class::B32)}, {});
}

void Lowering::elect(const Instruction& in, Modifiers& modifiers) {
  modifiers.take("sync");
  require(in, 2);
  const Operand& to = in.operands[0];
  RowId leader = to.paired ? target(to.items[0], Class::Pred) : new_row(Class::Pred);
  emit("elect", {target(to, Class::B32), leader}, {source(in.operands[1], Class::B32)});
}

void Lowering::nanosleep(const Instruction& in, Modifiers& modifiers) {
  modifiers.take_type();
  require(in, 1);
  emit_control("nanosleep", {}, {source(in.operands[0], Class::B32)});
}

void Lowering::trap(const Instruction&, Modifiers&) {
  emit_control("trap", {}, {});
}

// Returning from a kernel ends the thread.
void Lowering::ret(const Instruction&, Modifiers& modifiers) {
  modifiers.take("uni");
  if (function_.is_entry) {
    emit_control("exit", {}, {});
    return;
  }
  for (std::size_t i = 0; i < function_.return_registers.size() && i < out_.returns.size(); ++i) {
    if (function_.return_registers[i] < 0)
      continue;
    RowId row = register_row(static_cast<std::uint32_t>(function_.return_registers[i]));
    Class kind = class_of_row(row);
    emit(kind == Class::B64   ? "param.st.x"
         : kind == Class::B16 ? "param.st.h"
                              : "param.st.w",
         {out_.returns[i]}, {row});
  }
  emit_control("ret", {}, {});
}

// exit, and brx.idx, which also ends a block.
void Lowering::leave(const Instruction& in, Modifiers& modifiers) {
  if (in.opcode == "exit") {
    emit_control("exit", {}, {});
    return;
  }
  modifiers.take("idx");
  modifiers.take("uni");
  require(in, 2);
  const Block* block = nullptr;
  for (const Block& candidate : flow_.blocks)
    if (candidate.end == Block::End::Table && candidate.last > candidate.first &&
        &function_.instructions[candidate.last - 1] == &in)
      block = &candidate;
  if (!block || block->targets.empty())
    reject(in.position.line, "brx.idx without targets");
  IrOp& op = emit_control("brx", {}, {source(in.operands[0], Class::B32)});
  op.table = static_cast<std::int32_t>(out_.tables.size());
  out_.tables.push_back(block->targets);
}

// --- Calls ---

// An argument as words: the call's .param variable itself, or a register put into fresh words.
RowId Lowering::argument(const Operand& operand, std::uint64_t bytes) {
  if (operand.kind == OperandKind::Local && function_.variables[operand.index].space == ptx::Space::Param) {
    RowId& words = variable_words_[operand.index];
    if (words == ~0u)
      words = new_row(Class::Words,
                      static_cast<std::uint32_t>((function_.variables[operand.index].size + 3) / 4));
    return words;
  }
  if (operand.kind == OperandKind::Parameter && !function_.is_entry)
    return out_.parameters[operand.index];
  Class kind = bytes == 8 ? Class::B64 : bytes <= 2 ? Class::B16 : Class::B32;
  RowId words = new_row(Class::Words, bytes == 8 ? 2 : 1);
  emit(kind == Class::B64   ? "param.st.x"
       : kind == Class::B16 ? "param.st.h"
                            : "param.st.w",
       {words}, {source(operand, kind)});
  return words;
}

void Lowering::call(const Instruction& in, Modifiers& modifiers) {
  modifiers.take("uni");
  std::size_t at = 0;
  const Operand *results = nullptr, *arguments = nullptr;
  if (!in.operands.empty() && in.operands[0].kind == OperandKind::List)
    results = &in.operands[at++];
  if (at >= in.operands.size())
    reject(in.position.line, "call without a function");
  const Operand& callee = in.operands[at++];
  if (at < in.operands.size() && in.operands[at].kind == OperandKind::List)
    arguments = &in.operands[at++];

  IrCall site;
  const std::vector<ptx::Variable>*formal_parameters = nullptr, *formal_returns = nullptr;
  std::string name = "call";
  if (callee.kind == OperandKind::Symbol &&
      module_.symbols[callee.index].kind == ptx::Symbol::Kind::Function) {
    std::uint32_t index = module_.symbols[callee.index].index;
    const ptx::Function& function = module_.functions[index];
    formal_parameters = &function.parameters;
    formal_returns = &function.returns;
    if (function.has_body) {
      site.callee = static_cast<std::int32_t>(index);
    } else {
      site.system = function.name == "vprintf"        ? SystemFunction::Vprintf
                    : function.name == "__assertfail" ? SystemFunction::AssertFail
                    : function.name == "malloc"       ? SystemFunction::Malloc
                    : function.name == "free"         ? SystemFunction::Free
                                                      : SystemFunction::None;
      if (site.system == SystemFunction::None)
        refuse(in, "device runtime function " + function.name + " is not implemented");
      name = "call.system";
    }
  } else {
    const ptx::Label* prototype = nullptr;
    if (at < in.operands.size() && in.operands[at].kind == OperandKind::Label)
      prototype = &function_.labels[in.operands[at].index];
    if (prototype && prototype->kind == ptx::Label::Kind::CallTargets && !prototype->targets.empty() &&
        module_.symbols[prototype->targets[0]].kind == ptx::Symbol::Kind::Function) {
      // all targets have one signature (PTX ISA, .calltargets)
      const ptx::Function& first = module_.functions[module_.symbols[prototype->targets[0]].index];
      formal_parameters = &first.parameters;
      formal_returns = &first.returns;
    } else if (prototype && prototype->kind == ptx::Label::Kind::CallPrototype) {
      formal_parameters = &prototype->prototype_parameters;
      formal_returns = &prototype->prototype_returns;
    } else {
      refuse(in, "indirect call without a prototype is not implemented");
    }
    name = "call.indirect";
  }

  std::size_t count = arguments ? arguments->items.size() : 0;
  if (count != formal_parameters->size())
    reject(in.position.line, "call with the wrong number of arguments");
  for (std::size_t i = 0; i < count; ++i)
    site.arguments.push_back(argument(arguments->items[i], (*formal_parameters)[i].size));
  std::vector<std::pair<RowId, const Operand*>> into_registers;
  for (std::size_t i = 0; results && i < results->items.size(); ++i) {
    const Operand& item = results->items[i];
    if (item.kind == OperandKind::Local) {
      site.results.push_back(argument(item, 0));
      continue;
    }
    std::uint64_t bytes = i < formal_returns->size() ? (*formal_returns)[i].size : 4;
    site.results.push_back(new_row(Class::Words, bytes == 8 ? 2 : 1));
    into_registers.emplace_back(site.results.back(), &item);
  }
  IrOp* op = nullptr;
  if (name == "call.indirect")
    op = &emit_control(name, {}, {source(callee, Class::B64)});
  else
    op = &emit_control(name, {}, {});
  op->call = static_cast<std::int32_t>(out_.calls.size());
  out_.calls.push_back(std::move(site));
  for (auto& [words, item] : into_registers) {
    if (item->kind != OperandKind::Register)
      continue;
    Class kind = class_of(function_.registers[item->index].type);
    emit(kind == Class::B64   ? "param.ld.x"
         : kind == Class::B16 ? "param.ld.h"
                              : "param.ld.w",
         {target(*item, kind)}, {words});
  }
}

} // namespace aliquot::simgpu::exec
