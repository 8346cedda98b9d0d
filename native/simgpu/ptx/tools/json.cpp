// A module as JSON: every field of ast.hpp under its own name.
#include "native/simgpu/ptx/tools/json.hpp"

#include <type_traits>

namespace aliquot::simgpu::ptx::tools {
namespace {

// All of them before the templates that call them.
std::string json(const Operand& operand);
std::string json(const Instruction& instruction);
std::string json(const Register& item);
std::string json(const Relocation& item);
std::string json(const Variable& item);
std::string json(const Label& item);
std::string json(const Dim3& item);
std::string json(const Function& item);
std::string json(const Symbol& item);
std::string json(const Immediate& value);
template <typename T>
std::string json(const std::vector<T>& items);

std::string json(std::string_view text) {
  return quoted(text);
}
std::string json(const std::string& text) {
  return quoted(text);
}
std::string json(bool value) {
  return value ? "true" : "false";
}
template <typename T>
  requires std::is_integral_v<T>
std::string json(T value) {
  return std::to_string(value);
}
std::string json(Type type) {
  return quoted(name_of(type));
}

std::string json(Space space) {
  constexpr const char* kNames[] = {"none",  "reg",   "sreg",   "const", "global",
                                    "local", "param", "shared", "tex"};
  return quoted(kNames[static_cast<std::size_t>(space)]);
}

std::string json(Linkage linkage) {
  constexpr const char* kNames[] = {"internal", "extern", "visible", "weak", "common"};
  return quoted(kNames[static_cast<std::size_t>(linkage)]);
}

std::string json(OperandKind kind) {
  constexpr const char* kNames[] = {"register", "immediate", "special", "local",  "parameter", "return",
                                    "symbol",   "label",     "address", "vector", "list",      "sink"};
  return quoted(kNames[static_cast<std::size_t>(kind)]);
}

std::string json(Label::Kind kind) {
  constexpr const char* kNames[] = {"code", "branchtargets", "calltargets", "callprototype"};
  return quoted(kNames[static_cast<std::size_t>(kind)]);
}

// Collects "name": value pairs.
class Object {
 public:
  template <typename T>
  Object& field(std::string_view name, const T& value) {
    text_ += text_.size() > 1 ? "," : "";
    text_ += quoted(name) + ":" + json(value);
    return *this;
  }
  std::string close() { return text_ + "}"; }

 private:
  std::string text_ = "{";
};

std::string json(const Immediate& value) {
  constexpr const char* kNames[] = {"int", "f32", "f64"};
  return Object()
      .field("kind", std::string_view(kNames[static_cast<std::size_t>(value.kind)]))
      .field("bits", value.bits)
      .close();
}

std::string json(const Operand& operand) {
  Object object;
  object.field("kind", operand.kind);
  if (operand.negated)
    object.field("negated", true);
  if (operand.kind < OperandKind::Address && operand.kind != OperandKind::Immediate &&
      operand.kind != OperandKind::Special)
    object.field("index", operand.index);
  if (operand.offset != 0)
    object.field("offset", operand.offset);
  if (operand.kind == OperandKind::Immediate)
    object.field("imm", operand.imm);
  if (!operand.name.empty())
    object.field("name", operand.name);
  if (!operand.items.empty())
    object.field("items", operand.items);
  if (operand.paired)
    object.field("paired", true);
  return object.close();
}

std::string json(const Instruction& instruction) {
  Object object;
  object.field("opcode", instruction.opcode).field("modifiers", instruction.modifiers);
  object.field("operands", instruction.operands).field("line", instruction.position.line);
  if (instruction.guard.present)
    object.field("guard", instruction.guard.register_index).field("guard_negated", instruction.guard.negated);
  return object.close();
}

std::string json(const Register& item) {
  return Object().field("name", item.name).field("type", item.type).close();
}

std::string json(const Relocation& item) {
  return Object()
      .field("at", item.at)
      .field("width", item.width)
      .field("symbol", item.symbol)
      .field("addend", item.addend)
      .field("generic", item.generic)
      .field("mask_shift", item.mask_shift)
      .close();
}

std::string json(const Variable& item) {
  Object object;
  object.field("name", item.name).field("space", item.space).field("type", item.type);
  object.field("vector", item.vector).field("alignment", item.alignment).field("size", item.size);
  object.field("unsized", item.unsized).field("linkage", item.linkage);
  if (!item.initial.empty())
    object.field("initial", item.initial);
  if (!item.relocations.empty())
    object.field("relocations", item.relocations);
  return object.close();
}

std::string json(const Label& item) {
  Object object;
  object.field("name", item.name).field("target", item.target).field("kind", item.kind);
  if (!item.targets.empty())
    object.field("targets", item.targets);
  if (item.kind == Label::Kind::CallPrototype)
    object.field("returns", item.prototype_returns).field("parameters", item.prototype_parameters);
  return object.close();
}

std::string json(const Dim3& item) {
  return "[" + json(item.x) + "," + json(item.y) + "," + json(item.z) + "]";
}

std::string json(const Function& item) {
  Object object;
  object.field("name", item.name).field("is_entry", item.is_entry).field("has_body", item.has_body);
  object.field("no_return", item.no_return).field("linkage", item.linkage).field("returns", item.returns);
  object.field("parameters", item.parameters).field("registers", item.registers);
  object.field("parameter_registers", item.parameter_registers);
  object.field("return_registers", item.return_registers).field("variables", item.variables);
  object.field("labels", item.labels).field("instructions", item.instructions);
  object.field("max_threads", item.max_threads).field("required_threads", item.required_threads);
  object.field("min_blocks", item.min_blocks).field("max_registers", item.max_registers);
  object.field("required_cluster", item.required_cluster).field("max_cluster", item.max_cluster);
  return object.field("explicit_cluster", item.explicit_cluster).close();
}

std::string json(const Symbol& item) {
  const bool variable = item.kind == Symbol::Kind::Variable;
  return Object()
      .field("kind", std::string_view(variable ? "variable" : "function"))
      .field("name", item.name)
      .field("index", item.index)
      .close();
}

template <typename T>
std::string json(const std::vector<T>& items) {
  std::string text = "[";
  for (const T& item : items) {
    text += text.size() > 1 ? "," : "";
    text += json(item);
  }
  return text + "]";
}

} // namespace

std::string quoted(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      result += '\\';
    if (byte >= 0x20 && byte < 0x7F)
      result += c;
    else
      (result += "\\u00") += {kHex[byte >> 4], kHex[byte & 15]};
  }
  return result + "\"";
}

std::string to_json(const Module& module) {
  return Object()
      .field("version", std::vector<std::uint32_t>{module.version_major, module.version_minor})
      .field("target", module.target)
      .field("sm", module.sm)
      .field("address_size", module.address_size)
      .field("variables", module.variables)
      .field("functions", module.functions)
      .field("symbols", module.symbols)
      .close();
}

} // namespace aliquot::simgpu::ptx::tools
