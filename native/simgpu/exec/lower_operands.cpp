// Operands to rows and results back to registers: registers, immediates, special registers, addresses.
#include "native/simgpu/exec/lower.hpp"

#include <algorithm>
#include <cstring>

namespace aliquot::simgpu::exec {

using ptx::Operand;
using ptx::OperandKind;
using ptx::Type;

// --- Rows ---

RowId Lowering::new_row(Class kind, std::uint32_t words) {
  RowInfo info;
  info.type = kind;
  info.words = words;
  out_.rows.push_back(info);
  return static_cast<RowId>(out_.rows.size() - 1);
}

RowId Lowering::constant(Class kind, std::uint64_t bits) {
  if (kind == Class::B16)
    bits &= 0xFFFF;
  if (kind == Class::B32)
    bits &= 0xFFFFFFFF;
  auto [found, fresh] = constants_.try_emplace({static_cast<std::uint8_t>(kind), bits}, 0);
  if (fresh) {
    found->second = new_row(kind);
    out_.rows.back().kind = RowInfo::Kind::Constant;
    out_.rows.back().bits = bits;
  }
  return found->second;
}

RowId Lowering::launch_special(Class kind, Special which, std::uint64_t addend) {
  auto [found, fresh] = launch_rows_.try_emplace(
      {static_cast<std::uint8_t>(kind), false, static_cast<std::uint32_t>(which), addend}, 0);
  if (fresh) {
    found->second = new_row(kind);
    RowInfo& row = out_.rows.back();
    row.kind = RowInfo::Kind::Launch;
    row.which = static_cast<std::uint32_t>(which);
    row.bits = addend;
  }
  return found->second;
}

RowId Lowering::launch_parameter(Class kind, std::uint32_t offset) {
  auto [found, fresh] = launch_rows_.try_emplace({static_cast<std::uint8_t>(kind), true, offset, 0}, 0);
  if (fresh) {
    found->second = new_row(kind);
    RowInfo& row = out_.rows.back();
    row.kind = RowInfo::Kind::Launch;
    row.parameter = true;
    row.which = offset;
  }
  return found->second;
}

// A special register's value: a row of the kernel's frame where it is constant, else computed on the spot.
RowId Lowering::special_value(Class kind, Special which, std::uint64_t addend) {
  if (function_.is_entry && which <= Special::LastConstant)
    return launch_special(kind, which, addend);
  bool wide = kind == Class::B64;
  if (which >= Special::Clock && !guarded_) // a guarded stretch may not be left
    emit_control("rest", {}, {});
  RowId row = compute(wide ? "special.x" : "special.w", wide ? Class::B64 : Class::B32, {},
                      static_cast<std::uint64_t>(which));
  if (addend)
    row =
        compute(wide ? "add.b64" : "add.b32", class_of_row(row), {row, constant(class_of_row(row), addend)});
  return resize(row, kind, false);
}

RowId Lowering::special(std::string_view name, Class kind) {
  static const std::unordered_map<std::string_view, Special> names = {
      {"%tid.x", Special::TidX},
      {"%tid.y", Special::TidY},
      {"%tid.z", Special::TidZ},
      {"%ntid.x", Special::NtidX},
      {"%ntid.y", Special::NtidY},
      {"%ntid.z", Special::NtidZ},
      {"%ctaid.x", Special::CtaidX},
      {"%ctaid.y", Special::CtaidY},
      {"%ctaid.z", Special::CtaidZ},
      {"%nctaid.x", Special::NctaidX},
      {"%nctaid.y", Special::NctaidY},
      {"%nctaid.z", Special::NctaidZ},
      {"%laneid", Special::LaneId},
      {"%warpid", Special::WarpId},
      {"%nwarpid", Special::NwarpId},
      {"%smid", Special::SmId},
      {"%nsmid", Special::NsmId},
      {"%gridid", Special::GridId},
      {"%lanemask_eq", Special::LaneMaskEq},
      {"%lanemask_le", Special::LaneMaskLe},
      {"%lanemask_lt", Special::LaneMaskLt},
      {"%lanemask_ge", Special::LaneMaskGe},
      {"%lanemask_gt", Special::LaneMaskGt},
      {"%clock", Special::Clock},
      {"%clock_hi", Special::ClockHigh},
      {"%clock64", Special::Clock64},
      {"%globaltimer", Special::GlobalTimer},
      {"%globaltimer_lo", Special::GlobalTimerLow},
      {"%globaltimer_hi", Special::GlobalTimerHigh},
      {"%dynamic_smem_size", Special::DynamicShared},
      {"%total_smem_size", Special::TotalShared},
      {"%aggr_smem_size", Special::TotalShared},
      {"%envreg1", Special::GridWorkspaceHigh},
      {"%envreg2", Special::GridWorkspaceLow},
      // a grid without clusters: every block is a cluster of one
      {"%clusterid.x", Special::CtaidX},
      {"%clusterid.y", Special::CtaidY},
      {"%clusterid.z", Special::CtaidZ},
      {"%nclusterid.x", Special::NctaidX},
      {"%nclusterid.y", Special::NctaidY},
      {"%nclusterid.z", Special::NctaidZ},
      {"%cluster_ctaid.x", Special::Zero},
      {"%cluster_ctaid.y", Special::Zero},
      {"%cluster_ctaid.z", Special::Zero},
      {"%cluster_nctaid.x", Special::One},
      {"%cluster_nctaid.y", Special::One},
      {"%cluster_nctaid.z", Special::One},
      {"%cluster_ctarank", Special::Zero},
      {"%cluster_nctarank", Special::One},
  };
  auto found = names.find(name);
  if (found != names.end())
    return special_value(kind, found->second);
  if (name.substr(0, 7) == "%envreg" || name.substr(0, 3) == "%pm")
    return constant(kind, 0);
  throw LowerError{"line " + std::to_string(line_) + ": special register " + std::string(name) +
                       " is not implemented",
                   true};
}

RowId Lowering::register_row(std::uint32_t index) {
  RowId& row = register_rows_[index];
  if (row == ~0u)
    row = new_row(class_of(function_.registers[index].type));
  return row;
}

bool Lowering::single_definition(std::uint32_t reg) const {
  return definitions_[reg] == 1;
}

// --- Operands ---

RowId Lowering::immediate(const ptx::Immediate& imm, bool negated, Class kind, Type type) {
  std::uint64_t bits = imm.bits;
  bool to_double = type == Type::F64;
  if (imm.kind == ptx::Immediate::Kind::F32 && to_double) {
    float value;
    std::uint32_t low = static_cast<std::uint32_t>(bits);
    std::memcpy(&value, &low, 4);
    double wide = value;
    std::memcpy(&bits, &wide, 8);
  } else if (imm.kind == ptx::Immediate::Kind::F64 && kind == Class::B32) {
    double value;
    std::memcpy(&value, &bits, 8);
    float narrow = static_cast<float>(value);
    std::uint32_t low;
    std::memcpy(&low, &narrow, 4);
    bits = low;
  } else if (imm.kind == ptx::Immediate::Kind::Int && negated) {
    bits = 0 - bits;
  }
  if (negated && imm.kind != ptx::Immediate::Kind::Int)
    bits ^= kind == Class::B64 ? std::uint64_t{1} << 63 : std::uint64_t{1} << 31;
  if (kind == Class::Pred)
    return constant(kind, bits ? 0xFFFFFFFFu : 0);
  return constant(kind, bits);
}

// Address of a variable in its own space, plus `offset`.
RowId Lowering::variable_address(const ptx::Variable& variable, std::uint64_t place, std::int64_t offset,
                                 Class kind) {
  std::uint64_t at = place + static_cast<std::uint64_t>(offset);
  switch (variable.space) {
  case ptx::Space::Local:
    return special_value(kind, Special::LocalBase, at);
  case ptx::Space::Shared:
    if (variable.unsized) {
      std::uint64_t base = context_.dynamic_base[index_];
      if (base == ~std::uint64_t{0})
        return special_value(kind, Special::DynamicSharedBase, static_cast<std::uint64_t>(offset));
      return constant(kind, base + static_cast<std::uint64_t>(offset));
    }
    return constant(kind, at);
  default:
    return constant(kind, at);
  }
}

RowId Lowering::address_of(const Operand& operand, Class kind) {
  if (operand.kind == OperandKind::Local) {
    const ptx::Variable& variable = function_.variables[operand.index];
    if (variable.space == ptx::Space::Param)
      throw LowerError{"line " + std::to_string(line_) + ": the address of call parameter " + variable.name,
                       true};
    std::uint64_t place = variable.space == ptx::Space::Local
                              ? local_offsets_[operand.index]
                              : context_.shared_offsets[index_][operand.index];
    return variable_address(variable, place, operand.offset, kind);
  }
  if (operand.kind == OperandKind::Parameter && function_.is_entry) {
    std::uint64_t at = 0;
    for (std::uint32_t i = 0; i <= operand.index; ++i) {
      const ptx::Variable& p = function_.parameters[i];
      at = (at + p.alignment - 1) / std::max(p.alignment, 1u) * std::max(p.alignment, 1u);
      if (i < operand.index)
        at += p.size;
    }
    return constant(kind, at + static_cast<std::uint64_t>(operand.offset));
  }
  if (operand.kind != OperandKind::Symbol)
    throw LowerError{"line " + std::to_string(line_) + ": this operand has no address", true};
  const ptx::Symbol& symbol = module_.symbols[operand.index];
  if (symbol.kind == ptx::Symbol::Kind::Function)
    return constant(kind, function_token(symbol.index));
  return variable_address(module_.variables[symbol.index], context_.variable_addresses[symbol.index],
                          operand.offset, kind);
}

RowId Lowering::source(const Operand& operand, Class kind, Type type) {
  bool is_signed = type >= Type::S8 && type <= Type::S64;
  switch (operand.kind) {
  case OperandKind::Register: {
    RowId row = resize(register_row(operand.index), kind, is_signed);
    if (!operand.negated)
      return row;
    if (kind == Class::Pred)
      return compute("not.pred", Class::Pred, {row});
    return compute(kind == Class::B64 ? "neg.b64" : kind == Class::B16 ? "neg.b16" : "neg.b32", kind, {row});
  }
  case OperandKind::Immediate:
    return immediate(operand.imm, operand.negated, kind, type);
  case OperandKind::Special:
    return special(operand.name, kind);
  case OperandKind::Local:
  case OperandKind::Parameter:
  case OperandKind::Symbol:
    return address_of(operand, kind);
  case OperandKind::Sink:
    return constant(kind, 0);
  default:
    throw LowerError{"line " + std::to_string(line_) + ": unexpected operand", false};
  }
}

RowId Lowering::predicate(const Operand& operand) {
  return source(operand, Class::Pred, Type::Pred);
}

RowId Lowering::target(const Operand& operand, Class kind, Type type) {
  if (operand.kind == OperandKind::Sink)
    return new_row(kind);
  if (operand.kind != OperandKind::Register)
    throw LowerError{"line " + std::to_string(line_) + ": the result must be a register", false};
  RowId row = register_row(operand.index);
  if (class_of_row(row) == kind)
    return row;
  RowId temporary = new_row(kind);
  pending_.push_back({temporary, row, type >= Type::S8 && type <= Type::S64});
  return temporary;
}

// The same value in a row of another width: zero- or sign-extended, or cut.
RowId Lowering::resize(RowId row, Class to, bool is_signed) {
  Class from = class_of_row(row);
  if (from == to)
    return row;
  static const char* const names[2][3][3] = {
      // to:    B16           B32            B64
      {{nullptr, "widen.u16.w", "widen.u16.x"},
       {"narrow.w.h", nullptr, "widen.u32.x"},
       {"narrow.x.h", "narrow.x.w", nullptr}},
      {{nullptr, "widen.s16.w", "widen.s16.x"},
       {"narrow.w.h", nullptr, "widen.s32.x"},
       {"narrow.x.h", "narrow.x.w", nullptr}},
  };
  auto place = [&](Class kind) -> int {
    if (kind < Class::B16 || kind > Class::B64)
      throw LowerError{"line " + std::to_string(line_) + ": operand of the wrong type", false};
    return static_cast<int>(kind) - static_cast<int>(Class::B16);
  };
  if (out_.rows[row].kind == RowInfo::Kind::Constant && place(from) < place(to)) {
    std::uint64_t bits = out_.rows[row].bits;
    if (is_signed)
      bits = from == Class::B16 ? static_cast<std::uint64_t>(static_cast<std::int16_t>(bits))
                                : static_cast<std::uint64_t>(static_cast<std::int32_t>(bits));
    return constant(to, bits);
  }
  return compute(names[is_signed][place(from)][place(to)], to, {row});
}

void Lowering::finish_targets() {
  std::vector<Pending> pending;
  pending.swap(pending_);
  for (const Pending& p : pending) {
    RowId value = resize(p.from, class_of_row(p.to), p.is_signed);
    out_.ops.back().rows[0] = p.to; // the resize just made is the last operation
    (void)value;
  }
}

// to = value. A register with this one definition becomes another name of a constant row.
void Lowering::assign(const Operand& to, RowId value, Class kind, Type type) {
  const RowInfo& info = out_.rows[value];
  if (to.kind == OperandKind::Register && !guarded_ && info.kind != RowInfo::Kind::Virtual &&
      single_definition(to.index) && register_rows_[to.index] == ~0u &&
      class_of(function_.registers[to.index].type) == info.type) {
    register_rows_[to.index] = value;
    return;
  }
  static const char* const moves[] = {"mov.pred", "mov.b16", "mov.b32", "mov.b64", "mov.b128"};
  RowId row = target(to, kind, type);
  emit(moves[static_cast<int>(kind)], {row}, {value});
}

} // namespace aliquot::simgpu::exec
