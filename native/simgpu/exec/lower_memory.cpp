// Loads, stores, atomics, address spaces and parameters.
#include <algorithm>
#include <string>

#include "native/simgpu/exec/lower_types.hpp"

namespace aliquot::simgpu::exec {

using ptx::Instruction;
using ptx::Operand;
using ptx::OperandKind;
using ptx::Space;
using ptx::Type;

namespace {

std::uint64_t window_of(Space space) {
  return space == Space::Shared  ? kSharedWindow
         : space == Space::Local ? kLocalWindow
         : space == Space::Param ? kParameterWindow
                                 : 0;
}

std::vector<Operand> lanes_of(const Operand& operand) {
  return operand.kind == OperandKind::Vector ? operand.items : std::vector<Operand>{operand};
}

// Container of one element as the memory handlers know it.
Class element_class(Type type) {
  return class_of(type) == Class::Pred ? Class::B16 : class_of(type);
}

} // namespace

Space Lowering::take_space(Modifiers& modifiers) {
  if (modifiers.take_any({"shared::cta", "shared::cluster", "shared"}))
    return Space::Shared;
  if (modifiers.take("local"))
    return Space::Local;
  if (modifiers.take_any({"param", "param::entry", "param::func"}))
    return Space::Param;
  if (modifiers.take("const"))
    return Space::Const;
  if (modifiers.take("global"))
    return Space::Global;
  return Space::None;
}

// Cache and ordering hints change nothing here: every access goes to memory, in program order of its thread.
// Those that a spin loop may wait on are noted.
void Lowering::skip_hints(Modifiers& modifiers, bool& spins) {
  spins = modifiers.take_any({"volatile", "relaxed", "acquire", "mmio"});
  while (modifiers.take_any({"release", "acq_rel", "weak",    "sc",    "sys",     "gpu",     "cta",
                             "cluster", "ca",      "cg",      "cs",    "lu",      "cv",      "wb",
                             "wt",      "nc",      "unified", "noftz", "release", "relaxed", "acquire"})) {
  }
  modifiers.skip_prefix("L1::");
  modifiers.skip_prefix("L2::");
  modifiers.skip_prefix("level::");
}

// The row and displacement of "[base + offset]", in the space that the instruction or the symbol names.
Lowering::Address Lowering::address(const Instruction& in, const Operand& operand, Space space) {
  if (operand.kind != OperandKind::Address || operand.items.empty())
    reject(in.position.line, "expected an address in brackets");
  const Operand& base = operand.items[0];
  Address result{0, operand.offset, space, false, &base};
  Space own = Space::None;
  if (base.kind == OperandKind::Local)
    own = function_.variables[base.index].space;
  else if (base.kind == OperandKind::Symbol &&
           module_.symbols[base.index].kind == ptx::Symbol::Kind::Variable)
    own = module_.variables[module_.symbols[base.index].index].space;
  if (space == Space::None && (own == Space::Shared || own == Space::Local))
    result.space = own;
  bool window = result.space == Space::Shared || result.space == Space::Local;
  if (!window)
    result.space = result.space == Space::Param ? Space::Param : Space::Global;
  Class kind = Class::B64;
  if (base.kind == OperandKind::Register)
    kind = class_of(function_.registers[base.index].type);
  else if (result.space == Space::Shared)
    kind = Class::B32;
  if (kind == Class::B16 || kind == Class::Pred || kind == Class::B128)
    reject(in.position.line, "an address must be 32 or 64 bits wide");
  result.row = source(base, kind);
  result.is_near = window && kind == Class::B32;
  if (!window && kind == Class::B32)
    result.row = resize(result.row, Class::B64, false);
  return result;
}

// A 64-bit generic address: windows added, displacement included.
RowId Lowering::generic_address(const Instruction& in, const Operand& operand, Space space) {
  Address at = address(in, operand, space);
  RowId row = resize(at.row, Class::B64, false);
  std::uint64_t add = window_of(at.space) + static_cast<std::uint64_t>(at.offset);
  return add ? compute("add.b64", Class::B64, {row, constant(Class::B64, add)}) : row;
}

// --- Parameters ---

// Where "[param + n]" is among the words of a call or of this device function. False: a kernel's parameter.
bool Lowering::parameter_place(const Operand& operand, RowId& words, std::int64_t& offset) {
  if (operand.kind != OperandKind::Address || operand.items.empty())
    throw LowerError{"line " + std::to_string(line_) + ": expected an address in brackets", false};
  const Operand& base = operand.items[0];
  offset = operand.offset + base.offset;
  std::uint64_t size = 0;
  if (base.kind == OperandKind::Local && function_.variables[base.index].space == Space::Param) {
    const ptx::Variable& variable = function_.variables[base.index];
    if (variable.size > 4096)
      throw LowerError{"parameter " + variable.name + " is larger than 4 KiB", true};
    if (variable_words_[base.index] == ~0u)
      variable_words_[base.index] =
          new_row(Class::Words, static_cast<std::uint32_t>((variable.size + 3) / 4));
    words = variable_words_[base.index];
    size = variable.size;
  } else if (base.kind == OperandKind::Parameter && !function_.is_entry) {
    words = out_.parameters[base.index];
    size = function_.parameters[base.index].size;
  } else if (base.kind == OperandKind::Return) {
    words = out_.returns[base.index];
    size = function_.returns[base.index].size;
  } else {
    return false;
  }
  if (offset < 0 || static_cast<std::uint64_t>(offset) >= size)
    throw LowerError{"line " + std::to_string(line_) + ": access outside the parameter", false};
  return true;
}

namespace {
void check_inside(std::int64_t offset, std::uint32_t bytes, std::uint32_t words, std::uint32_t line) {
  if (bytes == 0)
    throw LowerError{"line " + std::to_string(line) + ": a parameter access without a type", false};
  if (static_cast<std::uint64_t>(offset) + bytes > std::uint64_t{words} * 4)
    throw LowerError{"line " + std::to_string(line) + ": access outside the parameter", false};
  if (static_cast<std::uint64_t>(offset) % std::min(bytes, 4u) != 0)
    throw LowerError{"line " + std::to_string(line) + ": misaligned parameter access", false};
}
} // namespace

void Lowering::load_parameter(const Instruction& in, const std::vector<Operand>& to, const Operand& from,
                              Type type) {
  RowId words = 0;
  std::int64_t offset = 0;
  std::uint32_t bytes = ptx::size_of(type);
  Class kind = element_class(type);
  if (parameter_place(from, words, offset)) {
    for (std::size_t i = 0; i < to.size(); ++i, offset += bytes) {
      check_inside(offset, bytes, out_.rows[words].words, line_);
      const char* name = kind == Class::B64 ? "param.ld.x" : kind == Class::B32 ? "param.ld.w" : "param.ld.h";
      RowId row = target(to[i], kind, type);
      emit(name, {row}, {words}, static_cast<std::uint64_t>(offset));
      if (bytes == 1)
        emit(is_signed(type) ? "widen.s8.h" : "widen.u8.h", {row}, {row});
    }
    return;
  }
  const Operand& base = from.items[0];
  if (!function_.is_entry)
    refuse(in, "ld.param through a register in a device function is not implemented");
  if (base.kind == OperandKind::Register) { // an address within the parameters
    RowId at = compute("add.b64", Class::B64,
                       {resize(register_row(base.index), Class::B64, false),
                        constant(Class::B64, kParameterWindow + static_cast<std::uint64_t>(from.offset))});
    for (std::size_t i = 0; i < to.size(); ++i) {
      std::string name = "ld.global.b" + std::to_string(bytes * 8);
      RowId row = target(to[i], kind, type);
      emit(name, {row}, {at}, i * bytes).extra = context_.sites++;
      if (is_signed(type) && bytes == 1)
        emit("widen.s8.h", {row}, {row});
    }
    return;
  }
  std::uint64_t start =
      out_.rows[address_of(base, Class::B64)].bits + static_cast<std::uint64_t>(from.offset);
  if (start > kMostParameterBytes)
    reject(in.position.line, "access outside the parameter");
  for (std::size_t i = 0; i < to.size(); ++i) {
    RowId value = launch_parameter(kind, static_cast<std::uint32_t>(start + i * bytes) |
                                             (bytes == 1 ? kByteParameter : 0));
    if (type == Type::S8)
      value = compute("widen.s8.h", Class::B16, {value});
    assign(to[i], value, kind, type);
  }
}

void Lowering::store_parameter(const Instruction& in, const Operand& to, const std::vector<Operand>& from,
                               Type type) {
  RowId words = 0;
  std::int64_t offset = 0;
  std::uint32_t bytes = ptx::size_of(type);
  if (!parameter_place(to, words, offset))
    refuse(in, "st.param to a kernel's parameter");
  const char* name = bytes == 8   ? "param.st.x"
                     : bytes == 4 ? "param.st.w"
                     : bytes == 2 ? "param.st.h"
                                  : "param.st.b";
  for (std::size_t i = 0; i < from.size(); ++i, offset += bytes) {
    check_inside(offset, bytes, out_.rows[words].words, line_);
    emit(name, {words}, {source(from[i], element_class(type), type)}, static_cast<std::uint64_t>(offset));
  }
}

// --- ld and st ---

namespace {
std::string access_name(const char* what, Space space, std::size_t lanes, Type type, bool is_near) {
  std::string name = std::string(what) + (space == Space::Shared  ? ".shared"
                                          : space == Space::Local ? ".local"
                                                                  : ".global");
  if (lanes > 1)
    name += ".v" + std::to_string(lanes);
  return name + ".b" + std::to_string(ptx::size_of(type) * 8) + (is_near ? ".near" : "");
}
} // namespace

void Lowering::ld(const Instruction& in, Modifiers& modifiers) {
  bool spins = false;
  Space space = take_space(modifiers);
  skip_hints(modifiers, spins);
  modifiers.take_any({"v2", "v4", "v8"});
  Type type = modifiers.take_type();
  require(in, 2);
  std::vector<Operand> to = lanes_of(in.operands[0]);
  if (space == Space::Param) {
    load_parameter(in, to, in.operands[1], type);
    return;
  }
  if (ptx::size_of(type) == 0 || to.size() > 8)
    refuse(in, "this form is not implemented");
  if (spins)
    emit("mark.spin", {}, {});
  Address at = address(in, in.operands[1], space);
  Class kind = element_class(type);
  if (kind == Class::B128) {
    for (std::size_t i = 0; i < to.size(); ++i) {
      RowId low = new_row(Class::B64), high = new_row(Class::B64);
      emit(access_name("ld", at.space, 2, Type::B64, at.is_near), {low, high}, {at.row},
           static_cast<std::uint64_t>(at.offset) + i * 16)
          .extra = context_.sites++;
      emit("pack.xx", {target(to[i], Class::B128)}, {low, high});
    }
    return;
  }
  std::vector<RowId> results;
  for (const Operand& item : to)
    results.push_back(target(item, kind, type));
  for (std::size_t begin = 0; begin < results.size(); begin += 4) {
    std::size_t count = std::min<std::size_t>(results.size() - begin, 4);
    std::vector<RowId> part(results.begin() + static_cast<std::ptrdiff_t>(begin),
                            results.begin() + static_cast<std::ptrdiff_t>(begin + count));
    emit_list(access_name("ld", at.space, count, type, at.is_near), part, {at.row},
              static_cast<std::uint64_t>(at.offset) + begin * ptx::size_of(type))
        .extra = context_.sites++;
  }
  if (type == Type::S8)
    for (RowId row : results)
      emit("widen.s8.h", {row}, {row});
}

// st.async and red.async: the access now, then its bytes complete on the barrier at the last operand.
void Lowering::complete(const Instruction& in, Space space, std::uint64_t bytes) {
  RowId barrier = generic_address(in, in.operands.back(), space);
  constexpr std::uint64_t complete_tx = 5; // ops_async.cpp, Change
  emit("mbarrier.change", {new_row(Class::B64)}, {barrier, constant(Class::B32, bytes)}, complete_tx);
}

void Lowering::st(const Instruction& in, Modifiers& modifiers) {
  bool spins = false;
  bool async = modifiers.take("async") && modifiers.take("mbarrier::complete_tx::bytes");
  Space space = take_space(modifiers);
  skip_hints(modifiers, spins);
  modifiers.take_any({"v2", "v4", "v8"});
  Type type = modifiers.take_type();
  require(in, 2);
  std::vector<Operand> from = lanes_of(in.operands[1]);
  if (space == Space::Param) {
    store_parameter(in, in.operands[0], from, type);
    return;
  }
  if (ptx::size_of(type) == 0 || from.size() > 8)
    refuse(in, "this form is not implemented");
  Address at = address(in, in.operands[0], space);
  Class kind = element_class(type);
  std::vector<RowId> values;
  for (const Operand& item : from)
    values.push_back(source(item, kind, type));
  if (kind == Class::B128) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      RowId low = new_row(Class::B64), high = new_row(Class::B64);
      emit("unpack.q", {low, high}, {values[i]});
      emit(access_name("st", at.space, 2, Type::B64, at.is_near), {}, {at.row, low, high},
           static_cast<std::uint64_t>(at.offset) + i * 16)
          .extra = context_.sites++;
    }
    return;
  }
  for (std::size_t begin = 0; begin < values.size(); begin += 4) {
    std::size_t count = std::min<std::size_t>(values.size() - begin, 4);
    std::vector<RowId> sources = {at.row};
    sources.insert(sources.end(), values.begin() + static_cast<std::ptrdiff_t>(begin),
                   values.begin() + static_cast<std::ptrdiff_t>(begin + count));
    emit_list(access_name("st", at.space, count, type, at.is_near), {}, sources,
              static_cast<std::uint64_t>(at.offset) + begin * ptx::size_of(type))
        .extra = context_.sites++;
  }
  if (async && in.operands.size() > 2)
    complete(in, space, values.size() * ptx::size_of(type));
}

// --- Atomics ---

// One access: the name of the operation that changes memory at `at` by `b` (and `c`).
RowId Lowering::atom_one(const Instruction& in, std::string_view what, Type type, RowId at, RowId b, RowId c,
                         RowId to) {
  std::string name = "atom." + std::string(what) + ".";
  bool extreme = what == "min" || what == "max", ordered = extreme || what == "inc" || what == "dec";
  bool is_float = type >= Type::F16 && type <= Type::F64;
  std::string width = std::to_string(ptx::size_of(type) * 8);
  bool brief = type >= Type::F16 && type <= Type::BF16x2;
  if (is_float && what == "add" && type != Type::TF32) {
    name += ptx::name_of(type);
  } else if (brief && extreme) {
    emit("atom.extreme." + std::string(ptx::name_of(type)), {to}, {at, b}, what == "max");
    return to;
  } else if (ordered && !is_float) {
    name += (is_signed(type) ? "s" : "u") + width;
  } else if (is_float && what != "exch" && what != "cas") {
    refuse(in, "this form is not implemented");
  } else {
    name += "b" + width;
  }
  if (what == "cas")
    emit(name, {to}, {at, b, c}).extra = context_.sites++;
  else
    emit(name, {to}, {at, b}).extra = context_.sites++;
  return to;
}

// A vector is as many accesses, each atomic for itself (PTX ISA, atom).
void Lowering::atom_vector(const Instruction& in, Modifiers&, std::string_view what, Type type, RowId at,
                           bool red) {
  const Operand& values = in.operands[red ? 1 : 2];
  Class kind = class_of(type);
  if (values.kind != OperandKind::Vector || (what != "add" && what != "min" && what != "max"))
    refuse(in, "this form is not implemented");
  std::vector<Operand> results = red ? std::vector<Operand>{} : lanes_of(in.operands[0]);
  if (!red && results.size() != values.items.size())
    reject(in.position.line, "vectors of different lengths");
  std::vector<RowId> sources;
  for (const Operand& item : values.items)
    sources.push_back(source(item, kind, type));
  for (std::size_t i = 0; i < sources.size(); ++i) {
    RowId place = i ? compute("add.b64", Class::B64, {at, constant(Class::B64, i * ptx::size_of(type))}) : at;
    atom_one(in, what, type, place, sources[i], 0, red ? new_row(kind) : target(results[i], kind, type));
  }
}

void Lowering::atom(const Instruction& in, Modifiers& modifiers) {
  bool red = in.opcode == "red", spins = false;
  bool async = red && modifiers.take("async") && modifiers.take("mbarrier::complete_tx::bytes");
  Space space = take_space(modifiers);
  std::string_view what =
      modifiers.take_one_of({"add", "min", "max", "and", "or", "xor", "inc", "dec", "exch", "cas"});
  skip_hints(modifiers, spins);
  std::string_view vector = modifiers.take_one_of({"v2", "v4", "v8"});
  Type type = modifiers.take_type();
  if (ptx::size_of(type) == 0 || what.empty() || type == Type::Pred)
    refuse(in, "this form is not implemented");
  std::size_t first = red ? 0 : 1;
  require(in, first + (what == "cas" ? 3 : 2));
  Class kind = class_of(type);
  RowId at = generic_address(in, in.operands[first], space);
  if (!vector.empty()) {
    atom_vector(in, modifiers, what, type, at, red);
    return;
  }
  RowId b = source(in.operands[first + 1], kind, type);
  RowId c = what == "cas" ? source(in.operands[first + 2], kind, type) : 0;
  atom_one(in, what, type, at, b, c, red ? new_row(kind) : target(in.operands[0], kind, type));
  if (async && in.operands.size() > 2)
    complete(in, space, ptx::size_of(type));
}

// --- Address spaces ---

void Lowering::cvta(const Instruction& in, Modifiers& modifiers) {
  bool to_space = modifiers.take("to");
  Space space = take_space(modifiers);
  Type type = modifiers.take_type();
  require(in, 2);
  Class kind = class_of(type);
  std::uint64_t window = window_of(space);
  const Operand& from = in.operands[1];
  RowId value = source(from, kind);
  if (kind == Class::B32 || window == 0) {
    if (kind == Class::B32 && window)
      refuse(in, "32-bit generic addresses are not implemented");
    assign(in.operands[0], value, kind);
    return;
  }
  RowId add = constant(Class::B64, to_space ? 0 - window : window);
  emit("add.b64", {target(in.operands[0], Class::B64)}, {value, add});
}

// Constants lie in device memory: an address is one of them if it is inside a .const variable of the module.
void Lowering::isspacep(const Instruction& in, Modifiers& modifiers) {
  Space space = take_space(modifiers);
  if (space == Space::None && modifiers.take("param::entry"))
    space = Space::Param;
  require(in, 2);
  RowId address = source(in.operands[1], Class::B64);
  RowId constants = constant(Class::Pred, 0);
  for (std::size_t i = 0; i < module_.variables.size(); ++i) {
    const ptx::Variable& variable = module_.variables[i];
    if (variable.space != Space::Const || (space != Space::Const && space != Space::Global))
      continue;
    RowId offset =
        compute("add.b64", Class::B64, {address, constant(Class::B64, 0 - context_.variable_addresses[i])});
    RowId inside = compute("setp.lt.u64", Class::Pred, {offset, constant(Class::B64, variable.size)});
    constants = compute("or.pred", Class::Pred, {constants, inside});
  }
  RowId to = target(in.operands[0], Class::Pred);
  if (space == Space::Const) {
    emit("mov.pred", {to}, {constants});
    return;
  }
  RowId there = compute("isspacep", Class::Pred, {address}, window_of(space) >> 48);
  emit("and.pred", {to}, {there, compute("not.pred", Class::Pred, {constants})});
}

void Lowering::prefetch(const Instruction&, Modifiers& modifiers) {
  bool spins = false;
  take_space(modifiers);
  modifiers.skip_prefix("tensormap");
  skip_hints(modifiers, spins);
  modifiers.take_any({"L1", "L2", "tensormap"});
}

// Cache policies mean nothing here; a program only passes them on.
void Lowering::policy(const Instruction& in, Modifiers& modifiers) {
  bool spins = false;
  modifiers.take_any({"fractional", "range", "cvt"});
  take_space(modifiers);
  skip_hints(modifiers, spins);
  modifiers.skip_prefix("L2");
  modifiers.take_type();
  require(in, 1);
  assign(in.operands[0], constant(Class::B64, 0), Class::B64, Type::B64);
}

void Lowering::fence(const Instruction&, Modifiers& modifiers) {
  while (modifiers.take_any({"sc", "acq_rel", "acquire", "release", "cta", "cluster", "gpu", "gl", "sys",
                             "proxy", "async", "alias", "mbarrier_init", "global", "shared::cta",
                             "shared::cluster", "async.global", "shared"})) {
  }
  modifiers.skip_prefix("tensormap");
  modifiers.skip_prefix("async::");
  modifiers.skip_prefix("sync_restrict::");
  emit("fence", {}, {});
}

void Lowering::nothing(const Instruction&, Modifiers& modifiers) {
  while (modifiers.take_any({"wait", "launch_dependents", "inc", "dec", "sync", "aligned", "mask"}) ||
         modifiers.take_type() != Type::None) {
  }
}

} // namespace aliquot::simgpu::exec
