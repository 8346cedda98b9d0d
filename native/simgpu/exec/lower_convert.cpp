// mov, cvt and cvt.pack: composed of steps that widen, clamp, convert and narrow rows.
#include <algorithm>
#include <string>

#include "native/simgpu/exec/lower_types.hpp"
#include "native/simgpu/exec/numbers.hpp"

namespace aliquot::simgpu::exec {

using ptx::Instruction;
using ptx::Operand;
using ptx::OperandKind;
using ptx::Type;

namespace {

std::uint32_t bits_of(Type type) {
  return ptx::size_of(type) * 8;
}

// The immediate of "encode" (ops_small.cpp).
std::uint64_t encoding(Small format, std::string_view round, bool finite, bool relu) {
  std::uint64_t how = round == "rna" ? 4 : rounding_number(round);
  return static_cast<std::uint64_t>(format) | how << 8 | std::uint64_t{finite} << 16 |
         std::uint64_t{relu} << 17;
}

Class half_of(Class kind) {
  return kind == Class::B128 ? Class::B64 : kind == Class::B64 ? Class::B32 : Class::B16;
}
const char* pack_name(Class half) {
  return half == Class::B64 ? "pack.xx" : half == Class::B32 ? "pack.ww" : "pack.hh";
}

} // namespace

void Lowering::mov(const Instruction& in, Modifiers& modifiers) {
  Type type = modifiers.take_type();
  require(in, 2);
  const Operand& to = in.operands[0];
  const Operand& from = in.operands[1];
  if (to.kind == OperandKind::Vector && from.kind == OperandKind::Vector) {
    if (to.items.size() != from.items.size())
      reject(in.position.line, "mov of vectors of different lengths");
    std::vector<RowId> values;
    for (const Operand& item : from.items)
      values.push_back(source(item, class_of(type), type));
    for (std::size_t i = 0; i < values.size(); ++i)
      assign(to.items[i], values[i], class_of_row(values[i]), type);
  } else if (to.kind == OperandKind::Vector) {
    unpack(in, to, from, type);
  } else if (from.kind == OperandKind::Vector) {
    pack(in, to, from, type);
  } else {
    assign(to, source(from, class_of(type), type), class_of(type), type);
  }
}

// d = {a, b, ...}: a first, in the lowest bits.
void Lowering::pack(const Instruction& in, const Operand& to, const Operand& from, Type type) {
  Class whole = class_of(type);
  std::size_t parts = from.items.size();
  if (parts != 2 && parts != 4)
    refuse(in, "mov of this many parts is not implemented");
  Class half = half_of(whole);
  bool bytes = whole == Class::B16 || (whole == Class::B32 && parts == 4);
  Class part = parts == 4 && !bytes ? half_of(half) : bytes ? Class::B16 : half;
  std::vector<RowId> rows;
  for (const Operand& item : from.items)
    rows.push_back(source(item, part));
  if (parts == 4) {
    const char* name = bytes ? "pack.bb" : pack_name(part);
    Class pair = bytes ? Class::B16 : half;
    rows = {compute(name, pair, {rows[0], rows[1]}), compute(name, pair, {rows[2], rows[3]})};
  }
  emit(whole == Class::B16 ? "pack.bb" : pack_name(half), {target(to, whole)}, {rows[0], rows[1]});
}

void Lowering::unpack(const Instruction& in, const Operand& to, const Operand& from, Type type) {
  std::size_t parts = to.items.size();
  Class whole = class_of(type);
  if ((parts != 2 && parts != 4) || type == Type::None)
    refuse(in, "mov into this many parts is not implemented");
  RowId value = source(from, whole);
  auto split = [&](RowId row, Class kind, RowId& low, RowId& high) {
    low = new_row(half_of(kind));
    high = new_row(half_of(kind));
    if (kind == Class::B128) {
      emit("unpack.q", {low, high}, {row});
    } else if (kind == Class::B16) {
      emit("widen.u8.h", {low}, {row});
      emit("high.h.b", {high}, {row});
    } else {
      emit(kind == Class::B64 ? "narrow.x.w" : "narrow.w.h", {low}, {row});
      emit(kind == Class::B64 ? "high.x.w" : "high.w.h", {high}, {row});
    }
  };
  std::vector<RowId> rows(2);
  split(value, whole, rows[0], rows[1]);
  if (parts == 4) {
    std::vector<RowId> four(4);
    split(rows[0], half_of(whole), four[0], four[1]);
    split(rows[1], half_of(whole), four[2], four[3]);
    rows = four;
  }
  for (std::size_t i = 0; i < parts; ++i)
    if (to.items[i].kind != OperandKind::Sink)
      assign(to.items[i], rows[i], class_of_row(rows[i]));
}

// --- cvt ---

RowId Lowering::convert_integer(RowId value, Type from, Type to) {
  if (bits_of(from) == 8)
    value = compute(is_signed(from) ? "widen.s8.h" : "widen.u8.h", Class::B16, {value});
  value = resize(value, class_of(to), is_signed(from));
  if (bits_of(to) == 8 && bits_of(from) >= 8)
    value = compute(is_signed(to) ? "widen.s8.h" : "widen.u8.h", Class::B16, {value});
  return value;
}

// Clamps to the range of `to` while still in the width of `from`.
RowId Lowering::clamp_integer(RowId value, Type from, Type to) {
  std::uint32_t from_bits = bits_of(from), to_bits = bits_of(to);
  Class kind = class_of(from);
  if (from_bits == 8) {
    value = compute(is_signed(from) ? "widen.s8.h" : "widen.u8.h", Class::B16, {value});
    from_bits = 16;
  }
  std::string name = (is_signed(from) ? "s" : "u") + std::to_string(from_bits);
  std::uint32_t top = is_signed(to) ? to_bits - 1 : to_bits; // value bits of the target
  std::uint32_t own = is_signed(from) ? from_bits - 1 : from_bits;
  if (is_signed(from) && (!is_signed(to) || to_bits < from_bits)) {
    std::uint64_t least = is_signed(to) ? ~std::uint64_t{0} << (to_bits - 1) : 0;
    value = compute("max." + name, kind, {value, constant(kind, least)});
  }
  if (top < own)
    value = compute("min." + name, kind, {value, constant(kind, (std::uint64_t{1} << top) - 1)});
  return value;
}

RowId Lowering::to_float(const Instruction& in, RowId value, Type from, Type to, std::string_view round,
                         bool ftz) {
  bool directed = rounding_number(round) != 0;
  if (!is_float(from)) {
    Type wide = bits_of(from) < 32 ? (is_signed(from) ? Type::S32 : Type::U32) : from;
    value = convert_integer(value, from, wide);
    // for 16-bit targets through f64, which holds 32-bit integers; larger ones overflow to infinity either
    // way
    bool brief = to == Type::F16 || to == Type::BF16;
    Type middle = brief ? Type::F64 : to;
    std::string name = "cvt." + std::string(brief && bits_of(wide) == 64 ? "odd." : "") +
                       std::string(directed && !brief ? "rnd." : "") + std::string(ptx::name_of(middle)) +
                       "." + sign_name(wide);
    value = compute(name, class_of(middle), {value}, rounding_number(round));
    return brief ? to_float(in, value, Type::F64, to, round, false) : value;
  }
  if (ftz && from == Type::F32)
    value = compute("flush.f32", Class::B32, {value});
  if (from == to)
    return value;
  if (from == Type::F16 || from == Type::BF16) {
    value = compute("cvt.f32." + std::string(ptx::name_of(from)), Class::B32, {value});
    return to == Type::F32 ? value : to_float(in, value, Type::F32, to, round, false);
  }
  // Toward zero from f64 too: f32 on the way would make an infinity of what is only too large for f32.
  if ((to == Type::F16 || to == Type::BF16) &&
      (round == "rm" || round == "rp" || (round == "rz" && from == Type::F64)))
    return compute(from == Type::F64 ? "encode.h.f64" : "encode.h.f32", Class::B16, {value},
                   encoding(to == Type::F16 ? Small::F16 : Small::BF16, round, false, false));
  if (to == Type::F16 || to == Type::BF16) {
    if (from == Type::F64)
      value = compute("cvt.odd.f32.f64", Class::B32, {value});
    return compute("cvt." + std::string(round == "rz" ? "rz." : "") + std::string(ptx::name_of(to)) + ".f32",
                   Class::B16, {value});
  }
  if (to == Type::TF32)
    return compute("cvt.rna.tf32.f32", Class::B32, {value});
  bool narrow = from == Type::F64 && directed;
  value = compute(std::string(narrow ? "cvt.rnd." : "cvt.") + std::string(ptx::name_of(to)) + "." +
                      std::string(ptx::name_of(from)),
                  class_of(to), {value}, rounding_number(round));
  return ftz && to == Type::F32 ? compute("flush.f32", Class::B32, {value}) : value;
}

RowId Lowering::to_integer(const Instruction& in, RowId value, Type from, Type to, std::string_view round) {
  if (round.empty())
    reject(in.position.line, "cvt from floating point to integer wants .rni, .rzi, .rmi or .rpi");
  if (from == Type::F16 || from == Type::BF16) {
    value = compute("cvt.f32." + std::string(ptx::name_of(from)), Class::B32, {value});
    from = Type::F32;
  }
  // Short targets through 32 bits of their sign, which clamps; then clamped again to their own range.
  Type wide = bits_of(to) < 32 ? Type::S32 : to;
  std::string name =
      "cvt." + std::string(round) + "." + sign_name(wide) + "." + std::string(ptx::name_of(from));
  RowId result = compute(name, class_of(wide), {value});
  if (wide == to)
    return result;
  result = convert_integer(clamp_integer(result, wide, to), wide, to);
  if (from != Type::F64 || is_signed(to))
    return result;
  RowId wrong = compute("testp.notanumber.f64", Class::Pred, {value}); // its s32 is below an unsigned range
  std::uint64_t of_nan = std::uint64_t{1} << (bits_of(to) - 1);
  return compute("selp.b16", Class::B16, {constant(Class::B16, of_nan), result, wrong});
}

void Lowering::cvt(const Instruction& in, Modifiers& modifiers) {
  if (modifiers.take("pack")) {
    cvt_pack(in, modifiers);
    return;
  }
  std::string_view integral = modifiers.take_one_of({"rni", "rzi", "rmi", "rpi"});
  std::string_view round = modifiers.take_one_of({"rn", "rz", "rm", "rp", "rna"});
  bool ftz = modifiers.take("ftz"), saturate = modifiers.take("sat"), relu = modifiers.take("relu");
  bool finite = modifiers.take("satfinite");
  if (cvt_small(in, modifiers, round, finite, relu))
    return;
  Type to = modifiers.take_type(), from = modifiers.take_type();
  if ((to == Type::F16x2 || to == Type::BF16x2) && from == Type::F32) {
    require(in, 3); // the first source goes to the upper half
    Type half = to == Type::F16x2 ? Type::F16 : Type::BF16;
    RowId high = to_float(in, source(in.operands[1], Class::B32, from), from, half, round, ftz);
    RowId low = to_float(in, source(in.operands[2], Class::B32, from), from, half, round, ftz);
    if (relu) {
      high = compute("relu." + std::string(ptx::name_of(half)), Class::B16, {high});
      low = compute("relu." + std::string(ptx::name_of(half)), Class::B16, {low});
    }
    emit("pack.hh", {target(in.operands[0], Class::B32)}, {low, high});
    return;
  }
  require(in, 2);
  if (to == Type::None || from == Type::None)
    refuse(in, "cvt between these types is not implemented");
  RowId value = source(in.operands[1], class_of(from), from);
  if (is_float(to)) {
    if (is_float(from) && !integral.empty()) {
      // to an integral value: in the wider of both types if one is f16
      Type work = from == Type::F16 || from == Type::BF16 ? Type::F32 : from;
      value = to_float(in, value, from, work, "", ftz);
      value = compute("cvt." + std::string(integral) + "." + std::string(ptx::name_of(work)) + "." +
                          std::string(ptx::name_of(work)),
                      class_of(work), {value});
      from = work;
    }
    value = to_float(in, value, from, to, round, ftz);
    if (saturate)
      value = compute("sat." + std::string(ptx::name_of(to)), class_of(to), {value});
    if (relu)
      value = compute("relu." + std::string(ptx::name_of(to)), class_of(to), {value});
  } else if (is_float(from)) {
    if (ftz && from == Type::F32)
      value = compute("flush.f32", Class::B32, {value});
    value = to_integer(in, value, from, to, integral);
  } else {
    if (saturate)
      value = clamp_integer(value, from, to);
    value = convert_integer(value, from, to);
  }
  assign(in.operands[0], value, class_of(to), to);
}

namespace {

struct SmallName {
  std::string_view name;
  Small format;
};
// Formats that exist in registers as pairs only.
constexpr SmallName kPairs[] = {{"e4m3x2", Small::E4M3}, {"e5m2x2", Small::E5M2}, {"e2m3x2", Small::E2M3},
                                {"e3m2x2", Small::E3M2}, {"e2m1x2", Small::E2M1}, {"ue8m0x2", Small::UE8M0}};

const SmallName* take_pair(Modifiers& modifiers) {
  for (const SmallName& pair : kPairs)
    if (modifiers.take(pair.name))
      return &pair;
  return nullptr;
}

} // namespace

// Conversions of pairs of 8-bit and smaller numbers; and those to 16 bits and tf32 with .satfinite, or to
// tf32 in other roundings than .rna. False: none of these.
bool Lowering::cvt_small(const Instruction& in, Modifiers& modifiers, std::string_view round, bool finite,
                         bool relu) {
  const SmallName* pair = take_pair(modifiers);
  if (!pair) {
    Modifiers look = modifiers;
    Type to = look.take_type(), from = look.take_type();
    bool tf32 = to == Type::TF32 && (finite || relu || round != "rna");
    if (from != Type::F32 || !(finite || tf32))
      return false;
    modifiers = look;
    bool two = to == Type::F16x2 || to == Type::BF16x2;
    require(in, two ? 3 : 2);
    Small format = to == Type::TF32                         ? Small::TF32
                   : to == Type::F16 || to == Type::F16x2   ? Small::F16
                   : to == Type::BF16 || to == Type::BF16x2 ? Small::BF16
                                                            : Small::E4M3;
    if (format == Small::E4M3)
      refuse(in, "this form is not implemented");
    bool wide = to == Type::TF32;
    auto convert = [&](const Operand& operand) {
      return compute(wide ? "encode.f32" : "encode.h.f32", wide ? Class::B32 : Class::B16,
                     {source(operand, Class::B32, from)}, encoding(format, round, finite, relu));
    };
    RowId first = convert(in.operands[1]);
    if (two)
      emit("pack.hh", {target(in.operands[0], Class::B32)}, {convert(in.operands[2]), first});
    else
      assign(in.operands[0], first, class_of_row(first), to);
    return true;
  }
  bool nibbles = pair->format == Small::E2M1;
  Type other = modifiers.take_type();
  bool to_pair = std::find(in.modifiers.begin(), in.modifiers.end(), std::string(pair->name)) <
                 std::find(in.modifiers.begin(), in.modifiers.end(), std::string(ptx::name_of(other)));
  bool brain = other == Type::BF16x2;
  if (other != Type::F16x2 && !brain && !(to_pair && other == Type::F32))
    refuse(in, "cvt between these types is not implemented");
  const char* half_to_f32 = brain ? "cvt.f32.bf16" : "cvt.f32.f16";
  if (to_pair) {
    bool from_single = other == Type::F32;
    require(in, from_single ? 3 : 2);
    std::uint64_t imm = encoding(pair->format, round, finite, relu);
    auto code = [&](bool high) {
      RowId value = from_single ? source(in.operands[high ? 1 : 2], Class::B32, Type::F32)
                                : compute(half_to_f32, Class::B32,
                                          {half_row(source(in.operands[1], Class::B32), high)});
      return compute("encode.h.f32", Class::B16, {value}, imm);
    };
    RowId low = code(false), high = code(true);
    RowId both = compute(nibbles ? "pack.nibbles" : "pack.bb", Class::B16, {low, high});
    assign(in.operands[0], both, Class::B16);
    return true;
  }
  require(in, 2);
  RowId codes = source(in.operands[1], Class::B16);
  RowId mask = constant(Class::B16, nibbles ? 15 : 0xFF);
  auto value = [&](bool high) {
    RowId code =
        high ? compute("shr.u16", Class::B16, {codes, constant(Class::B32, nibbles ? 4 : 8)}) : codes;
    RowId wide = compute("decode", Class::B32, {compute("and.b16", Class::B16, {code, mask})},
                         static_cast<std::uint64_t>(pair->format));
    RowId half = compute(brain ? "cvt.bf16.f32" : "cvt.f16.f32", Class::B16, {wide});
    return relu ? compute(brain ? "relu.bf16" : "relu.f16", Class::B16, {half}) : half;
  };
  RowId low = value(false), high = value(true);
  emit("pack.hh", {target(in.operands[0], Class::B32)}, {low, high});
  return true;
}

// cvt.pack.sat.ctype.s32 d, a, b{, c}: two clamped values, below what c holds.
void Lowering::cvt_pack(const Instruction& in, Modifiers& modifiers) {
  modifiers.take("sat");
  std::string_view to = modifiers.take_one_of({"u2", "s2", "u4", "s4", "u8", "s8", "u16", "s16"});
  bool from_s32 = modifiers.take("s32"), third = modifiers.take("b32");
  // Two of 16 bits fill the result; of smaller ones a third operand gives the rest (PTX ISA, cvt.pack).
  if (to.empty() || !from_s32 || third == (to.size() == 3))
    refuse(in, "this form is not implemented");
  require(in, third ? 4 : 3);
  std::uint32_t width = to.size() == 3 ? 16 : static_cast<std::uint32_t>(to[1] - '0');
  std::uint32_t value_bits = to[0] == 's' ? width - 1 : width;
  std::uint64_t least = to[0] == 's' ? ~std::uint64_t{0} << value_bits : 0;
  std::uint64_t most = (std::uint64_t{1} << value_bits) - 1, keep = (std::uint64_t{1} << width) - 1;
  auto part = [&](const Operand& operand) {
    RowId row = source(operand, Class::B32, Type::S32);
    row = compute("max.s32", Class::B32, {row, constant(Class::B32, least)});
    row = compute("min.s32", Class::B32, {row, constant(Class::B32, most)});
    return compute("and.b32", Class::B32, {row, constant(Class::B32, keep)});
  };
  RowId a = part(in.operands[1]), b = part(in.operands[2]);
  RowId high = compute("shl.b32", Class::B32, {a, constant(Class::B32, width)});
  RowId value = compute("or.b32", Class::B32, {high, b});
  if (third) {
    RowId rest =
        compute("shl.b32", Class::B32, {source(in.operands[3], Class::B32), constant(Class::B32, 2 * width)});
    value = compute("or.b32", Class::B32, {value, rest});
  }
  assign(in.operands[0], value, Class::B32);
}

} // namespace aliquot::simgpu::exec
