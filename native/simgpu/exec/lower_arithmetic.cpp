// Arithmetic, logic and bit fields: PTX spelling to handler names.
#include <string>

#include "native/simgpu/exec/lower_types.hpp"

namespace aliquot::simgpu::exec {

using ptx::Instruction;
using ptx::Operand;
using ptx::Type;

namespace {

Class wider(Class kind) {
  return kind == Class::B16 ? Class::B32 : Class::B64;
}

} // namespace

// --- add sub div rem min max abs neg fma rcp sqrt ... ---

void Lowering::arithmetic(const Instruction& in, Modifiers& modifiers) {
  if ((in.opcode == "add" || in.opcode == "sub") && modifiers.take("cc")) {
    Type type = type_of(in, modifiers);
    require(in, 3);
    Class kind = class_of(type);
    if (carry_row_ == ~0u)
      carry_row_ = new_row(Class::Pred);
    RowId a = source(in.operands[1], kind, type), b = source(in.operands[2], kind, type);
    emit(in.opcode + ".cc." + bits_name(type), {target(in.operands[0], kind, type), carry_row_}, {a, b});
    return;
  }
  if (modifiers.take("f32x2")) {
    arithmetic_double_single(in, modifiers);
    return;
  }
  std::string_view packed = modifiers.take_one_of({"s16x2", "u16x2"});
  if (!packed.empty()) {
    arithmetic_packed(in, modifiers, packed == "s16x2");
    return;
  }
  Type type = type_of(in, modifiers);
  if (is_float(type)) {
    arithmetic_float(in, modifiers, type);
    return;
  }
  Class kind = class_of(type);
  bool unary = in.opcode == "abs" || in.opcode == "neg";
  require(in, unary ? 2 : 3);
  std::string name = in.opcode;
  bool relu = modifiers.take("relu");
  if (modifiers.take("sat"))
    name += ".sat." + sign_name(type);
  else if (name == "add" || name == "sub" || unary)
    name += "." + bits_name(type);
  else
    name += "." + sign_name(type);
  bool minmax = in.opcode == "min" || in.opcode == "max";
  if (type == Type::None || ptx::size_of(type) == 16 || (relu && !(minmax && type == Type::S32)))
    refuse(in, "this form is not implemented");
  RowId a = source(in.operands[1], kind, type);
  if (relu) {
    RowId value = compute(name, kind, {a, source(in.operands[2], kind, type)});
    emit("max.s32", {target(in.operands[0], kind, type)}, {value, constant(kind, 0)});
    return;
  }
  if (unary) {
    emit(name, {target(in.operands[0], kind, type)}, {a});
    return;
  }
  RowId b = source(in.operands[2], kind, type);
  emit(name, {target(in.operands[0], kind, type)}, {a, b});
}

// Pairs of 16-bit integers: half by half.
void Lowering::arithmetic_packed(const Instruction& in, Modifiers& modifiers, bool is_signed_type) {
  require(in, 3);
  if (in.opcode != "add" && in.opcode != "min" && in.opcode != "max")
    refuse(in, "packed integers are not implemented for it");
  bool relu = modifiers.take("relu");
  std::string name = in.opcode + (in.opcode == "add" ? ".b16" : is_signed_type ? ".s16" : ".u16");
  RowId a = source(in.operands[1], Class::B32), b = source(in.operands[2], Class::B32);
  auto half = [&](const char* part) {
    RowId value = compute(name, Class::B16, {compute(part, Class::B16, {a}), compute(part, Class::B16, {b})});
    return relu ? compute("max.s16", Class::B16, {value, constant(Class::B16, 0)}) : value;
  };
  RowId low = half("narrow.w.h"), high = half("high.w.h");
  emit("pack.hh", {target(in.operands[0], Class::B32)}, {low, high});
}

// Two f32 in 64 bits: each half on its own.
void Lowering::arithmetic_double_single(const Instruction& in, Modifiers& modifiers) {
  std::string_view round = modifiers.take_one_of({"rn", "rz", "rm", "rp"});
  bool ftz = modifiers.take("ftz");
  std::size_t sources = in.opcode == "fma" ? 3 : 2;
  if (in.opcode != "add" && in.opcode != "sub" && in.opcode != "mul" && in.opcode != "fma")
    refuse(in, "this form is not implemented");
  require(in, sources + 1);
  std::uint64_t directed = rounding_number(round);
  std::string name = in.opcode + (directed ? ".rnd" : "") + (ftz && !directed ? ".ftz.f32" : ".f32");
  std::vector<RowId> halves[2];
  for (std::size_t i = 1; i <= sources; ++i) {
    RowId pair = source(in.operands[i], Class::B64);
    for (int high = 0; high < 2; ++high) {
      RowId half = compute(high ? "high.x.w" : "narrow.x.w", Class::B32, {pair});
      halves[high].push_back(ftz && directed ? compute("flush.f32", Class::B32, {half}) : half);
    }
  }
  RowId results[2];
  for (int high = 0; high < 2; ++high) {
    results[high] = new_row(Class::B32);
    emit_list(name, {results[high]}, halves[high], directed);
    if (ftz && directed)
      results[high] = compute("flush.f32", Class::B32, {results[high]});
  }
  emit("pack.ww", {target(in.operands[0], Class::B64)}, {results[0], results[1]});
}

RowId Lowering::half_row(RowId pair, bool high) {
  return compute(high ? "high.w.h" : "narrow.w.h", Class::B16, {pair});
}

// min and max with .xorsign.abs for the types and the .NaN that have no vector form.
RowId Lowering::extreme_with_signs(const Instruction& in, Type type, bool nan, RowId a, RowId b) {
  std::uint64_t imm = (in.opcode == "max" ? 1 : 0) | (nan ? 2 : 0);
  if (type == Type::F32)
    return compute("xorsign.f32", Class::B32, {a, b}, imm);
  const char* name = type == Type::F16 || type == Type::F16x2 ? "xorsign.f16" : "xorsign.bf16";
  if (type == Type::F16 || type == Type::BF16)
    return compute(name, Class::B16, {a, b}, imm);
  RowId low = compute(name, Class::B16, {half_row(a, false), half_row(b, false)}, imm);
  RowId high = compute(name, Class::B16, {half_row(a, true), half_row(b, true)}, imm);
  return compute("pack.hh", Class::B32, {low, high});
}

void Lowering::arithmetic_float(const Instruction& in, Modifiers& modifiers, Type type) {
  Class kind = class_of(type);
  std::string_view round = modifiers.take_one_of({"rn", "rz", "rm", "rp", "approx", "full"});
  bool ftz = modifiers.take("ftz"), saturate = modifiers.take("sat"), relu = modifiers.take("relu");
  bool directed = rounding_number(round) != 0;
  bool three = in.opcode == "fma" || in.opcode == "mad";
  bool one = in.opcode == "abs" || in.opcode == "neg" || in.opcode == "rcp" || in.opcode == "sqrt" ||
             in.opcode == "rsqrt" || in.opcode == "sin" || in.opcode == "cos" || in.opcode == "ex2" ||
             in.opcode == "lg2" || in.opcode == "tanh";
  std::size_t sources = one ? 1 : three ? 3 : 2;
  bool minmax = in.opcode == "min" || in.opcode == "max";
  if (minmax && in.operands.size() == 4)
    sources = 3;
  require(in, sources + 1);

  std::string suffix = std::string(ptx::name_of(type));
  std::string base = in.opcode == "mad" ? "fma" : in.opcode;
  if (ftz && type == Type::F64) { // rcp and rsqrt.approx.ftz.f64 only
    RowId from = source(in.operands[1], kind, type);
    emit("gross.f64", {target(in.operands[0], kind, type)}, {from}, base == "rsqrt");
    return;
  }
  if (base == "div" && round == "approx")
    base = "div.approx";
  bool single = type == Type::F32;
  if (type == Type::TF32)
    refuse(in, "type is not implemented");
  bool ftz_inside = ftz && single && !directed && base != "tanh";
  std::string name = base + (directed ? ".rnd" : "");
  if (minmax)
    name += modifiers.take("xorsign") && modifiers.take("abs") ? ".xorsign"
            : modifiers.take("NaN")                            ? ".nan"
                                                               : "";
  // with .NaN, and for short types, there is no row form
  bool nan = minmax && modifiers.take("NaN"), by_sign = name.ends_with(".xorsign") && (nan || !single);
  if (by_sign && (type == Type::F64 || sources != 2))
    refuse(in, "this form is not implemented");
  name += (ftz_inside ? ".ftz." : ".") + suffix;
  bool flush =
      ftz &&
      ((!ftz_inside && (single || type == Type::F16 || type == Type::F16x2 || base == "ex2")) || by_sign);
  flush &= type != Type::F64;
  std::string flush_name = "flush." + suffix;

  bool absolute = minmax && sources == 3 && single && modifiers.take("abs");
  std::vector<RowId> from;
  for (std::size_t i = 1; i <= sources; ++i) {
    RowId row = source(in.operands[i], kind, type);
    if (absolute)
      row = compute("abs.f32", kind, {row});
    from.push_back(flush ? compute(flush_name, kind, {row}) : row);
  }
  RowId to = target(in.operands[0], kind, type);
  if (by_sign) {
    RowId value = extreme_with_signs(in, type, nan, from[0], from[1]);
    out_.ops.back().rows[0] = to;
    (void)value;
    return;
  }
  if (minmax && sources == 3) {
    RowId first = compute(name, kind, {from[0], from[1]});
    emit(name, {to}, {first, from[2]});
    return;
  }
  bool more = flush || saturate || relu;
  RowId value = more ? new_row(kind) : to;
  emit_list(name, {value}, from, rounding_number(round));
  if (saturate || relu) {
    RowId next = flush ? new_row(kind) : to;
    emit((relu ? "relu." : "sat.") + suffix, {next}, {value});
    value = next;
  }
  if (flush)
    emit(flush_name, {to}, {value});
}

void Lowering::carry(const Instruction& in, Modifiers& modifiers) {
  bool out = modifiers.take("cc");
  Type type = type_of(in, modifiers);
  require(in, 3);
  Class kind = class_of(type);
  if (carry_row_ == ~0u)
    carry_row_ = new_row(Class::Pred);
  RowId a = source(in.operands[1], kind, type), b = source(in.operands[2], kind, type);
  RowId to = target(in.operands[0], kind, type);
  if (out)
    emit(in.opcode + ".cc." + bits_name(type), {to, carry_row_}, {a, b, carry_row_});
  else
    emit(in.opcode + "." + bits_name(type), {to}, {a, b, carry_row_});
}

// mul, mad and madc in all their widths.
void Lowering::multiply(const Instruction& in, Modifiers& modifiers) {
  if (modifiers.take("f32x2")) {
    arithmetic_double_single(in, modifiers);
    return;
  }
  bool add = in.opcode != "mul", in_carry = in.opcode == "madc", out_carry = add && modifiers.take("cc");
  std::string_view part = modifiers.take_one_of({"lo", "hi", "wide"});
  Type type = type_of(in, modifiers);
  if (is_float(type)) {
    arithmetic_float(in, modifiers, type);
    return;
  }
  require(in, add ? 4 : 3);
  if (part.empty())
    reject(in.position.line, "an integer product wants .lo, .hi or .wide");
  bool saturate = modifiers.take("sat");
  Class kind = class_of(type), result = part == "wide" ? wider(kind) : kind;
  RowId a = source(in.operands[1], kind, type), b = source(in.operands[2], kind, type);
  std::string product = "mul." + std::string(part) + "." + (part == "lo" ? bits_name(type) : sign_name(type));
  if (!add) {
    emit(product, {target(in.operands[0], result, type)}, {a, b});
    return;
  }
  RowId c = source(in.operands[3], result, type);
  RowId to = target(in.operands[0], result, type);
  if (!in_carry && !out_carry && !saturate && part != "hi") {
    emit("mad" + product.substr(3), {to}, {a, b, c});
    return;
  }
  RowId partial = compute(product, result, {a, b});
  std::string width = result == Class::B64 ? "b64" : result == Class::B32 ? "b32" : "b16";
  if (saturate) {
    emit("add.sat.s32", {to}, {partial, c});
    return;
  }
  if (carry_row_ == ~0u)
    carry_row_ = new_row(Class::Pred);
  std::string name = std::string(in_carry ? "addc" : "add") + (out_carry ? ".cc." : ".") + width;
  if (in_carry && out_carry)
    emit(name, {to, carry_row_}, {partial, c, carry_row_});
  else if (in_carry)
    emit(name, {to}, {partial, c, carry_row_});
  else if (out_carry)
    emit(name, {to, carry_row_}, {partial, c});
  else
    emit(name, {to}, {partial, c});
}

void Lowering::multiply24(const Instruction& in, Modifiers& modifiers) {
  std::string_view part = modifiers.take_one_of({"lo", "hi"});
  Type type = type_of(in, modifiers);
  bool add = in.opcode == "mad24", saturate = modifiers.take("sat");
  require(in, add ? 4 : 3);
  RowId a = source(in.operands[1], Class::B32, type), b = source(in.operands[2], Class::B32, type);
  std::string name = part == "hi" ? "mul24.hi." + sign_name(type) : "mul24.lo.b32";
  RowId to = target(in.operands[0], Class::B32, type);
  if (part != "hi" && is_signed(type)) { // sign bit 23
    RowId eight = constant(Class::B32, 8);
    auto extend = [&](RowId row) {
      return compute("shr.s32", Class::B32, {compute("shl.b32", Class::B32, {row, eight}), eight});
    };
    a = extend(a);
    b = extend(b);
    name = "mul.lo.b32";
  }
  if (!add) {
    emit(name, {to}, {a, b});
    return;
  }
  RowId c = source(in.operands[3], Class::B32, type);
  emit(saturate ? "add.sat.s32" : "add.b32", {to}, {compute(name, Class::B32, {a, b}), c});
}

void Lowering::sad(const Instruction& in, Modifiers& modifiers) {
  Type type = type_of(in, modifiers);
  require(in, 4);
  Class kind = class_of(type);
  RowId a = source(in.operands[1], kind, type), b = source(in.operands[2], kind, type),
        c = source(in.operands[3], kind, type);
  emit("sad." + sign_name(type), {target(in.operands[0], kind, type)}, {a, b, c});
}

void Lowering::logic(const Instruction& in, Modifiers& modifiers) {
  Type type = type_of(in, modifiers);
  Class kind = class_of(type);
  bool unary = in.opcode == "not" || in.opcode == "cnot";
  require(in, unary ? 2 : 3);
  std::string name = in.opcode + "." + (kind == Class::Pred ? "pred" : bits_name(type));
  RowId a = source(in.operands[1], kind, type);
  if (unary) {
    emit(name, {target(in.operands[0], kind, type)}, {a});
    return;
  }
  RowId b = source(in.operands[2], kind, type);
  emit(name, {target(in.operands[0], kind, type)}, {a, b});
}

void Lowering::shift(const Instruction& in, Modifiers& modifiers) {
  Type type = type_of(in, modifiers);
  require(in, 3);
  Class kind = class_of(type);
  RowId a = source(in.operands[1], kind, type), amount = source(in.operands[2], Class::B32, Type::U32);
  std::string name = in.opcode + "." + (in.opcode == "shl" ? bits_name(type) : sign_name(type));
  emit(name, {target(in.operands[0], kind, type)}, {a, amount});
}

void Lowering::count_bits(const Instruction& in, Modifiers& modifiers) {
  bool amount = modifiers.take("shiftamt");
  Type type = type_of(in, modifiers);
  require(in, 2);
  Class kind = class_of(type);
  RowId a = source(in.operands[1], kind, type);
  bool bfind = in.opcode == "bfind";
  std::string name = in.opcode + (amount ? ".shiftamt." : ".") + (bfind ? sign_name(type) : bits_name(type));
  emit(name, {target(in.operands[0], in.opcode == "brev" ? kind : Class::B32, Type::U32)}, {a});
}

void Lowering::bit_field(const Instruction& in, Modifiers& modifiers) {
  Type type = type_of(in, modifiers);
  Class kind = class_of(type);
  bool insert = in.opcode == "bfi", fns = in.opcode == "fns";
  require(in, insert ? 5 : 4);
  RowId a = source(in.operands[1], kind, type);
  RowId b = source(in.operands[2], insert ? kind : Class::B32, type);
  RowId c = source(in.operands[3], Class::B32, Type::U32);
  if (insert) {
    RowId length = source(in.operands[4], Class::B32, Type::U32);
    emit("bfi." + bits_name(type), {target(in.operands[0], kind, type)}, {a, b, c, length});
  } else {
    emit(in.opcode + "." + (fns ? bits_name(type) : sign_name(type)), {target(in.operands[0], kind, type)},
         {a, b, c});
  }
}

void Lowering::bit_mask(const Instruction& in, Modifiers& modifiers) {
  std::string_view mode = modifiers.take_one_of({"clamp", "wrap"});
  Type type = type_of(in, modifiers);
  require(in, 3);
  RowId a = source(in.operands[1], Class::B32, type), b = source(in.operands[2], Class::B32, Type::U32);
  std::string name =
      in.opcode + "." + std::string(mode) + "." + (in.opcode == "bmsk" ? "b32" : sign_name(type));
  emit(name, {target(in.operands[0], Class::B32, type)}, {a, b});
}

void Lowering::permute(const Instruction& in, Modifiers& modifiers) {
  type_of(in, modifiers);
  require(in, 4);
  constexpr std::string_view modes[] = {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
  std::uint64_t mode = 0;
  for (std::uint64_t i = 0; i < 6; ++i)
    if (modifiers.take(modes[i]))
      mode = i + 1;
  RowId a = source(in.operands[1], Class::B32), b = source(in.operands[2], Class::B32),
        c = source(in.operands[3], Class::B32);
  emit("prmt.b32", {target(in.operands[0], Class::B32)}, {a, b, c}, mode);
}

void Lowering::lop3(const Instruction& in, Modifiers& modifiers) {
  type_of(in, modifiers);
  std::string_view boolean = modifiers.take_one_of({"and", "or"});
  require(in, boolean.empty() ? 5 : 6);
  if (in.operands[4].kind != ptx::OperandKind::Immediate)
    reject(in.position.line, "lop3 wants an immediate table");
  RowId a = source(in.operands[1], Class::B32), b = source(in.operands[2], Class::B32),
        c = source(in.operands[3], Class::B32);
  const Operand& to = in.operands[0];
  RowId value = boolean.empty() ? target(to, Class::B32) : new_row(Class::B32);
  emit("lop3.b32", {value}, {a, b, c}, in.operands[4].imm.bits & 0xFF);
  if (boolean.empty())
    return;
  if (!to.paired || to.items.empty())
    reject(in.position.line, "lop3 with a boolean operator wants a predicate to write");
  RowId truth = combine(in, boolean, compute("nonzero.b32", Class::Pred, {value}), in.operands[5]);
  emit("mov.pred", {target(to.items[0], Class::Pred)}, {truth});
  if (to.kind != ptx::OperandKind::Sink)
    emit("mov.b32", {target(to, Class::B32)}, {value});
}

void Lowering::funnel(const Instruction& in, Modifiers& modifiers) {
  std::string_view direction = modifiers.take_one_of({"l", "r"}),
                   mode = modifiers.take_one_of({"clamp", "wrap"});
  type_of(in, modifiers);
  require(in, 4);
  RowId a = source(in.operands[1], Class::B32), b = source(in.operands[2], Class::B32),
        c = source(in.operands[3], Class::B32, Type::U32);
  std::string name = "shf." + std::string(direction) + "." + std::string(mode) + ".b32";
  emit(name, {target(in.operands[0], Class::B32)}, {a, b, c});
}

void Lowering::dot(const Instruction& in, Modifiers& modifiers) {
  std::string_view half = modifiers.take_one_of({"lo", "hi"});
  Type a_type = type_of(in, modifiers), b_type = type_of(in, modifiers);
  require(in, 4);
  RowId a = source(in.operands[1], Class::B32), b = source(in.operands[2], Class::B32),
        c = source(in.operands[3], Class::B32, b_type);
  std::string name = in.opcode + (half.empty() ? "" : "." + std::string(half)) + "." + sign_name(a_type) +
                     "." + sign_name(b_type);
  emit(name, {target(in.operands[0], Class::B32)}, {a, b, c});
}

} // namespace aliquot::simgpu::exec
