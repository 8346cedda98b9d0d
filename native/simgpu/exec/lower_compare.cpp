// Comparisons and selection: PTX spelling to handler names.
#include <string>

#include "native/simgpu/exec/lower_types.hpp"

namespace aliquot::simgpu::exec {

using ptx::Instruction;
using ptx::Operand;
using ptx::Type;

namespace {

const std::initializer_list<std::string_view> kComparisons = {"eq",  "ne",  "lt",  "le",  "gt",  "ge",
                                                              "lo",  "ls",  "hi",  "hs",  "equ", "neu",
                                                              "ltu", "leu", "gtu", "geu", "num", "nan"};

} // namespace

RowId Lowering::compare(const Instruction& in, Modifiers&, std::string_view comparison, Type type, bool ftz,
                        std::size_t first) {
  Class kind = class_of(type);
  RowId a = source(in.operands[first], kind, type), b = source(in.operands[first + 1], kind, type);
  if (ftz && type == Type::F16)
    for (RowId* each : {&a, &b})
      *each =
          half_row(compute("flush.f16x2", Class::B32, {compute("pack.hh", Class::B32, {*each, *each})}), 0);
  std::string word(comparison);
  std::string suffix;
  if (is_float(type)) {
    suffix = (ftz && type == Type::F32 ? "ftz." : "") + std::string(ptx::name_of(type));
  } else {
    bool below = word == "lo" || word == "ls" || word == "hi" || word == "hs";
    if (below)
      word = word == "lo" ? "lt" : word == "ls" ? "le" : word == "hi" ? "gt" : "ge";
    suffix = word == "eq" || word == "ne" ? bits_name(type)
             : below                      ? "u" + bits_name(type).substr(1)
                                          : sign_name(type);
  }
  return compute("setp." + word + "." + suffix, Class::Pred, {a, b});
}

RowId Lowering::combine(const Instruction&, std::string_view boolean, RowId truth, const Operand& other) {
  return compute(std::string(boolean) + ".pred", Class::Pred, {truth, predicate(other)});
}

void Lowering::setp(const Instruction& in, Modifiers& modifiers) {
  std::string_view comparison = modifiers.take_one_of(kComparisons);
  std::string_view boolean = modifiers.take_one_of({"and", "or", "xor"});
  bool ftz = modifiers.take("ftz");
  Type type = type_of(in, modifiers);
  require(in, boolean.empty() ? 3 : 4);
  if (type == Type::F16x2 || type == Type::BF16x2) {
    setp_pair(in, modifiers, comparison, boolean, type, ftz);
    return;
  }
  RowId truth = compare(in, modifiers, comparison, type, ftz, 1);
  const Operand& to = in.operands[0];
  if (to.paired) {
    RowId opposite = compute("not.pred", Class::Pred, {truth});
    if (!boolean.empty())
      opposite = combine(in, boolean, opposite, in.operands[3]);
    RowId first = boolean.empty() ? truth : combine(in, boolean, truth, in.operands[3]);
    emit("mov.pred", {target(to.items[0], Class::Pred)}, {opposite});
    emit("mov.pred", {target(to, Class::Pred)}, {first});
    return;
  }
  if (!boolean.empty())
    truth = combine(in, boolean, truth, in.operands[3]);
  // the comparison just made may write the register itself
  out_.ops.back().rows[0] = target(to, Class::Pred);
}

// Two comparisons: that of the low halves to p, that of the high halves to q.
void Lowering::setp_pair(const Instruction& in, Modifiers&, std::string_view comparison,
                         std::string_view boolean, Type type, bool ftz) {
  bool half = type == Type::F16x2;
  RowId a = source(in.operands[1], Class::B32), b = source(in.operands[2], Class::B32);
  if (ftz && half) {
    a = compute("flush.f16x2", Class::B32, {a});
    b = compute("flush.f16x2", Class::B32, {b});
  }
  std::string name = "setp." + std::string(comparison) + (half ? ".f16" : ".bf16");
  RowId truth[2];
  for (int high = 0; high < 2; ++high) {
    truth[high] = compute(name, Class::Pred, {half_row(a, high), half_row(b, high)});
    if (!boolean.empty())
      truth[high] = combine(in, boolean, truth[high], in.operands[3]);
  }
  const Operand& to = in.operands[0];
  if (to.paired)
    emit("mov.pred", {target(to.items[0], Class::Pred)}, {truth[1]});
  emit("mov.pred", {target(to, Class::Pred)}, {truth[0]});
}

void Lowering::set(const Instruction& in, Modifiers& modifiers) {
  std::string_view comparison = modifiers.take_one_of(kComparisons);
  std::string_view boolean = modifiers.take_one_of({"and", "or", "xor"});
  bool ftz = modifiers.take("ftz");
  Type to = type_of(in, modifiers), from = type_of(in, modifiers);
  require(in, boolean.empty() ? 3 : 4);
  if (from == Type::F16x2 || from == Type::BF16x2) {
    RowId truth[2];
    bool half = from == Type::F16x2;
    RowId a = source(in.operands[1], Class::B32), b = source(in.operands[2], Class::B32);
    if (ftz && half) {
      a = compute("flush.f16x2", Class::B32, {a});
      b = compute("flush.f16x2", Class::B32, {b});
    }
    std::string name = "setp." + std::string(comparison) + (half ? ".f16" : ".bf16");
    for (int high = 0; high < 2; ++high) {
      truth[high] = compute(name, Class::Pred, {half_row(a, high), half_row(b, high)});
      if (!boolean.empty())
        truth[high] = combine(in, boolean, truth[high], in.operands[3]);
    }
    RowId yes = constant(Class::B16, to == Type::F16x2 ? 0x3C00 : to == Type::BF16x2 ? 0x3F80 : 0xFFFF);
    RowId no = constant(Class::B16, 0);
    RowId low = compute("selp.b16", Class::B16, {yes, no, truth[0]}),
          high = compute("selp.b16", Class::B16, {yes, no, truth[1]});
    emit("pack.hh", {target(in.operands[0], Class::B32)}, {low, high});
    return;
  }
  RowId truth = compare(in, modifiers, comparison, from, ftz, 1);
  if (!boolean.empty())
    truth = combine(in, boolean, truth, in.operands[3]);
  Class kind = class_of(to);
  std::uint64_t one = to == Type::F32    ? 0x3F800000u
                      : to == Type::F16  ? 0x3C00u
                      : to == Type::BF16 ? 0x3F80u
                                         : ~0ull;
  std::string width = kind == Class::B16 ? "b16" : kind == Class::B32 ? "b32" : "b64";
  emit("selp." + width, {target(in.operands[0], kind, to)}, {constant(kind, one), constant(kind, 0), truth});
}

void Lowering::selp(const Instruction& in, Modifiers& modifiers) {
  Type type = type_of(in, modifiers);
  require(in, 4);
  Class kind = class_of(type);
  RowId a = source(in.operands[1], kind, type), b = source(in.operands[2], kind, type);
  RowId p = predicate(in.operands[3]);
  emit("selp." + bits_name(type), {target(in.operands[0], kind, type)}, {a, b, p});
}

void Lowering::slct(const Instruction& in, Modifiers& modifiers) {
  bool ftz = modifiers.take("ftz");
  Type type = type_of(in, modifiers), by = type_of(in, modifiers);
  require(in, 4);
  Class kind = class_of(type);
  RowId a = source(in.operands[1], kind, type), b = source(in.operands[2], kind, type);
  RowId c = source(in.operands[3], Class::B32, by);
  std::string test = by == Type::F32 ? (ftz ? "setp.ge.ftz.f32" : "setp.ge.f32") : "setp.ge.s32";
  RowId truth = compute(test, Class::Pred, {c, constant(Class::B32, 0)});
  emit("selp." + bits_name(type), {target(in.operands[0], kind, type)}, {a, b, truth});
}

void Lowering::testp(const Instruction& in, Modifiers& modifiers) {
  std::string_view what =
      modifiers.take_one_of({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  Type type = type_of(in, modifiers);
  require(in, 2);
  RowId a = source(in.operands[1], class_of(type), type);
  std::string name = "testp." + std::string(what) + "." + std::string(ptx::name_of(type));
  emit(name, {target(in.operands[0], Class::Pred)}, {a});
}

void Lowering::copysign(const Instruction& in, Modifiers& modifiers) {
  Type type = type_of(in, modifiers);
  require(in, 3);
  Class kind = class_of(type);
  RowId a = source(in.operands[1], kind, type), b = source(in.operands[2], kind, type);
  emit("copysign." + std::string(ptx::name_of(type)), {target(in.operands[0], kind, type)}, {a, b});
}

} // namespace aliquot::simgpu::exec
