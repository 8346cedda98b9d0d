// Barriers in memory, asynchronous copies, clusters of one block, the stack of a thread.
#include <string>

#include "native/simgpu/exec/lower.hpp"

namespace aliquot::simgpu::exec {

using ptx::Instruction;
using ptx::OperandKind;
using ptx::Space;
using ptx::Type;

namespace {

// ops_async.cpp, Change
enum Change : std::uint64_t {
  kInit,
  kInvalidate,
  kArrive,
  kDrop,
  kExpect,
  kComplete,
  kExpectArrive,
  kExpectDrop
};

constexpr std::uint64_t kStackReserve = 16 << 10; // bytes a thread for alloca, in each activation

} // namespace

void Lowering::mbarrier(const Instruction& in, Modifiers& modifiers) {
  bool spins = false;
  std::string_view what = modifiers.take_one_of({"init", "inval", "arrive", "arrive_drop", "test_wait",
                                                 "try_wait", "expect_tx", "complete_tx", "pending_count"});
  bool with_bytes = modifiers.take("expect_tx") || what == "expect_tx";
  modifiers.take("noComplete");
  bool parity = modifiers.take("parity");
  Space space = take_space(modifiers);
  skip_hints(modifiers, spins);
  if (modifiers.take_type() != Type::B64 || (space != Space::Shared && space != Space::None))
    refuse(in, "this form is not implemented");
  if (what == "pending_count") {
    require(in, 2);
    emit("mbarrier.pending", {target(in.operands[0], Class::B32)}, {source(in.operands[1], Class::B64)});
    return;
  }
  if (what == "test_wait" || what == "try_wait") {
    require(in, 3);
    RowId at = generic_address(in, in.operands[1], Space::Shared == space ? space : Space::None);
    RowId state = resize(source(in.operands[2], parity ? Class::B32 : Class::B64), Class::B64, false);
    emit_control("mbarrier.test", {target(in.operands[0], Class::Pred)}, {at, state}, parity);
    return;
  }
  bool arrives = what == "arrive" || what == "arrive_drop";
  std::size_t first =
      arrives && in.operands.size() > 1 && in.operands[0].kind != OperandKind::Address ? 1 : 0;
  require(in, first + 1);
  bool counted = in.operands.size() > first + 1;
  RowId at = generic_address(in, in.operands[first], space);
  RowId count = counted ? source(in.operands[first + 1], Class::B32) : constant(Class::B32, 1);
  RowId state = first ? target(in.operands[0], Class::B64) : new_row(Class::B64);
  std::uint64_t change = what == "init"          ? kInit
                         : what == "inval"       ? kInvalidate
                         : what == "complete_tx" ? kComplete
                         : !arrives              ? kExpect
                         : what == "arrive"      ? (with_bytes ? kExpectArrive : kArrive)
                                                 : (with_bytes ? kExpectDrop : kDrop);
  emit("mbarrier.change", {state}, {at, count}, change);
}

// cp.async and cp.async.bulk move at once; groups then have nothing to wait for.
void Lowering::cp_async(const Instruction& in, Modifiers& modifiers) {
  if (!modifiers.take("async"))
    refuse(in, "instruction is not implemented");
  if (modifiers.take("bulk")) {
    copy_bulk(in, modifiers);
    return;
  }
  if (modifiers.take_any({"commit_group", "wait_group", "wait_all"}))
    return;
  if (modifiers.take("mbarrier")) { // one arrival more is expected, and comes at once; .noinc: just comes
    modifiers.take("arrive");
    bool arrives = modifiers.take("noinc");
    Space space = take_space(modifiers);
    modifiers.take("b64");
    require(in, 1);
    RowId at = generic_address(in, in.operands[0], space);
    emit("mbarrier.change", {new_row(Class::B64)}, {at, constant(Class::B32, arrives ? 1 : 0)},
         arrives ? kArrive : kExpect);
    return;
  }
  bool spins = false, policy = modifiers.take("L2::cache_hint");
  bool to_shared = modifiers.take_any({"shared::cta", "shared::cluster", "shared"});
  if (!to_shared || !modifiers.take("global"))
    refuse(in, "this form is not implemented");
  skip_hints(modifiers, spins);
  std::size_t operands = in.operands.size() - (policy && in.operands.size() > 3);
  require(in, 3);
  RowId to = generic_address(in, in.operands[0], Space::Shared);
  RowId from = generic_address(in, in.operands[1], Space::Global);
  if (in.operands[2].kind != OperandKind::Immediate)
    reject(in.position.line, "cp.async wants an immediate size");
  std::uint64_t bytes = in.operands[2].imm.bits;
  if (bytes != 4 && bytes != 8 && bytes != 16)
    reject(in.position.line, "cp.async moves 4, 8 or 16 bytes");
  RowId wanted = constant(Class::B32, bytes);
  if (operands > 3) {
    if (in.operands[3].kind == OperandKind::Register &&
        class_of(function_.registers[in.operands[3].index].type) == Class::Pred)
      wanted = compute("selp.b32", Class::B32, {constant(Class::B32, 0), wanted, predicate(in.operands[3])});
    else
      wanted = source(in.operands[3], Class::B32, Type::U32);
  }
  emit("cp.async", {}, {to, from, wanted}, bytes).extra = context_.sites++;
}

void Lowering::copy_bulk(const Instruction& in, Modifiers& modifiers) {
  if (modifiers.take_any({"commit_group", "wait_group"})) {
    modifiers.take("read");
    return;
  }
  if (modifiers.take("prefetch")) {
    modifiers.skip_prefix("L2");
    modifiers.take("global");
    return;
  }
  bool spins = false;
  auto side = [&](std::size_t at) { // cp.async.bulk.TO.FROM
    if (in.modifiers.size() <= at || !modifiers.take(in.modifiers[at]))
      return Space::None;
    const std::string& word = in.modifiers[at];
    return word == "global"                                     ? Space::Global
           : word == "shared::cta" || word == "shared::cluster" ? Space::Shared
                                                                : Space::None;
  };
  Space to = side(2), from = side(3);
  bool barrier = modifiers.take("mbarrier::complete_tx::bytes");
  bool group = modifiers.take("bulk_group");
  if (to == Space::None || from == Space::None || barrier == group)
    refuse(in, "this form is not implemented");
  skip_hints(modifiers, spins);
  require(in, barrier ? 4 : 3);
  RowId to_row = generic_address(in, in.operands[0], to),
        from_row = generic_address(in, in.operands[1], from);
  RowId bytes = source(in.operands[2], Class::B32);
  RowId done = barrier ? generic_address(in, in.operands[3], Space::Shared) : constant(Class::B64, 0);
  emit("copy.bulk", {}, {to_row, from_row, bytes, done}, barrier);
}

// A block is a cluster of its own: an address in it stays what it is, and its rank is 0.
void Lowering::cluster(const Instruction& in, Modifiers& modifiers) {
  take_space(modifiers);
  Type type = modifiers.take_type();
  require(in, 2);
  Class kind = class_of(type);
  if (in.opcode == "getctarank")
    assign(in.operands[0], constant(Class::B32, 0), Class::B32, Type::U32);
  else
    assign(in.operands[0], source(in.operands[1], kind), kind, type);
}

// --- The stack of a thread ---

// The address above what this activation has allocated so far.
RowId Lowering::stack_row() {
  if (stack_row_ == ~0u)
    throw LowerError{"line " + std::to_string(line_) + ": no stack in this function", false};
  return stack_row_;
}

// Functions that move their stack get room for it, and a row that holds its top.
void Lowering::enter_stack() {
  bool moves = false;
  for (const Instruction& instruction : function_.instructions)
    moves |= instruction.opcode == "alloca" || instruction.opcode == "stackrestore" ||
             instruction.opcode == "stacksave";
  if (!moves)
    return;
  std::uint64_t begin = out_.local_bytes;
  out_.local_bytes += static_cast<std::uint32_t>(kStackReserve);
  stack_row_ = new_row(Class::B64);
  out_.rows[stack_row_].whole = true;
  emit("mov.b64", {stack_row_}, {special_value(Class::B64, Special::LocalBase, begin)});
  stack_end_ = begin + kStackReserve;
}

void Lowering::stack(const Instruction& in, Modifiers& modifiers) {
  Type type = modifiers.take_type();
  require(in, 1);
  Class kind = class_of(type);
  RowId top = stack_row();
  if (in.opcode == "stacksave") {
    assign(in.operands[0], resize(top, kind, false), kind, type);
    return;
  }
  if (in.opcode == "stackrestore") {
    emit("mov.b64", {top}, {resize(source(in.operands[0], kind), Class::B64, false)});
    return;
  }
  require(in, 2);
  std::uint64_t alignment = 16;
  if (in.operands.size() > 2 && in.operands[2].kind == OperandKind::Immediate)
    alignment = in.operands[2].imm.bits;
  if (alignment == 0 || alignment > 1024 || (alignment & (alignment - 1)))
    reject(in.position.line, "alloca wants an alignment that is a power of two, at most 1024");
  RowId bytes = resize(source(in.operands[1], kind), Class::B64, false);
  RowId end = special_value(Class::B64, Special::LocalBase, stack_end_);
  RowId at = new_row(Class::B64), next = new_row(Class::B64);
  emit("alloca", {at, next}, {bytes, top, end}, alignment);
  emit("mov.b64", {top}, {next});
  assign(in.operands[0], resize(at, kind, false), kind, type);
}

} // namespace aliquot::simgpu::exec
