// Video instructions: selectors, types and second operations to the form that the handler reads.
#include <cstring>

#include "native/simgpu/exec/lower.hpp"
#include "native/simgpu/exec/video.hpp"

namespace aliquot::simgpu::exec {

using ptx::Instruction;
using ptx::Operand;
using ptx::Type;

namespace {

// "vabsdiff4" into what it does and its lanes.
bool parse_name(std::string_view name, Video& what, std::uint32_t& lanes) {
  lanes = name.back() == '2' ? 2 : name.back() == '4' ? 4 : 1;
  if (lanes != 1)
    name.remove_suffix(1);
  constexpr std::pair<std::string_view, Video> names[] = {
      {"vadd", Video::Add},        {"vsub", Video::Sub},      {"vabsdiff", Video::AbsDiff},
      {"vmin", Video::Min},        {"vmax", Video::Max},      {"vshl", Video::ShiftLeft},
      {"vshr", Video::ShiftRight}, {"vavrg", Video::Average}, {"vset", Video::Set},
      {"vmad", Video::MultiplyAdd}};
  for (auto [word, value] : names)
    if (word == name) {
      what = value;
      return true;
    }
  return false;
}

std::uint32_t part_of(const Instruction& in, std::string_view selector) {
  if (selector.empty())
    return kWholeWord;
  std::uint32_t number = static_cast<std::uint32_t>(selector[1] - '0');
  bool byte = selector[0] == 'b';
  if (selector.size() != 2 || number > (byte ? 3u : 1u))
    refuse(in, "this selector is not implemented");
  return byte ? number : 4 + number;
}

// ".h10" or ".b7654": digits from the highest lane down, a nibble a lane.
std::uint64_t lanes_of(const Instruction& in, std::string_view selector, std::uint32_t lanes, bool second) {
  std::uint64_t sources = 0;
  if (!selector.empty() && selector.size() != lanes + 1)
    refuse(in, "this selector is not implemented");
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    std::uint64_t from = selector.empty() ? lane + (second ? lanes : 0)
                                          : static_cast<std::uint64_t>(selector[lanes - lane] - '0');
    if (from >= 2 * lanes)
      refuse(in, "this selector is not implemented");
    sources |= from << 4 * lane;
  }
  return sources;
}

// The lanes that a SIMD result's mask names: ".h0", ".b310"; all without one.
std::uint64_t mask_of(std::string_view selector, std::uint32_t lanes) {
  if (selector.empty())
    return (1u << lanes) - 1;
  std::uint64_t mask = 0;
  for (char digit : selector.substr(1))
    mask |= std::uint64_t{1} << (digit - '0');
  return mask & ((1u << lanes) - 1);
}

} // namespace

void Lowering::video(const Instruction& in, Modifiers& modifiers) {
  VideoForm form{};
  Video what{};
  std::uint32_t lanes = 1;
  if (!parse_name(in.opcode, what, lanes))
    refuse(in, "instruction is not implemented");
  require(in, 3);
  form.what = static_cast<std::uint64_t>(what) & 15;
  form.lanes = lanes & 7;
  bool set = what == Video::Set, multiply = what == Video::MultiplyAdd;
  constexpr std::string_view comparisons[] = {"eq", "ne", "lt", "le", "gt", "ge"};
  for (std::uint32_t i = 0; i < 6; ++i)
    if (set && modifiers.take(comparisons[i]))
      form.comparison = i & 7;
  form.saturate = modifiers.take("sat");
  form.wrap = modifiers.take("wrap");
  modifiers.take("clamp");
  form.plus_one = modifiers.take("po");
  form.scale = modifiers.take("shr7") ? 7 : modifiers.take("shr15") ? 15 : 0;
  std::string_view second = modifiers.take_one_of({"add", "min", "max"});
  Type types[3] = {Type::None, Type::None, Type::None};
  for (int i = set && lanes == 1 ? 1 : 0; i < 3; ++i) {
    types[i] = modifiers.take_type();
    if (types[i] == Type::None && set && i == 2) { // vset2.cmp.atype.btype
      types[2] = types[1];
      types[1] = types[0];
      types[0] = Type::U32;
      break;
    }
    if (types[i] != Type::U32 && types[i] != Type::S32)
      refuse(in, "type is not implemented");
  }
  form.d_signed = types[0] == Type::S32;
  form.a_signed = types[1] == Type::S32;
  form.b_signed = types[2] == Type::S32;
  const Operand &d = in.operands[0], &a = in.operands[1], &b = in.operands[2];
  auto plain = [&](const Operand& operand, bool& negated) { // the sign is part of the form
    Operand copy = operand;
    negated = copy.negated;
    copy.negated = false;
    return source(copy, Class::B32);
  };
  bool a_negated = false, b_negated = false, c_negated = false;
  RowId a_row = plain(a, a_negated), b_row = plain(b, b_negated);
  RowId c_row = in.operands.size() > 3 ? plain(in.operands[3], c_negated) : constant(Class::B32, 0);
  form.a_negated = a_negated;
  form.b_negated = b_negated;
  form.c_negated = c_negated;
  if ((a_negated || b_negated || c_negated) && !multiply)
    reject(in.position.line, "only vmad negates operands");
  Second then = second == "add"   ? Second::Add
                : second == "min" ? Second::Min
                : second == "max" ? Second::Max
                                  : Second::None;
  if (lanes == 1) {
    form.a_select = part_of(in, a.name);
    form.b_select = part_of(in, b.name);
    form.target = part_of(in, d.name) & 15;
    if (then == Second::None && !d.name.empty())
      then = Second::Merge;
  } else {
    form.a_select = lanes_of(in, a.name, lanes, false) & 0xFFFF;
    form.b_select = lanes_of(in, b.name, lanes, true) & 0xFFFF;
    form.target = mask_of(d.name, lanes) & 15;
  }
  form.second = static_cast<std::uint64_t>(then) & 7;
  std::uint64_t imm;
  std::memcpy(&imm, &form, sizeof imm);
  Operand to = d;
  to.name.clear();
  emit("video", {target(to, Class::B32)}, {a_row, b_row, c_row}, imm);
}

} // namespace aliquot::simgpu::exec
