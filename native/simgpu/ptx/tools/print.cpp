// A module as PTX text again: flat, every name made unique where blocks had hidden one another.
#include <cinttypes>
#include <cstdio>

#include "native/simgpu/ptx/tools/json.hpp"

namespace aliquot::simgpu::ptx::tools {
namespace {

constexpr const char* kSpaces[] = {"",       ".reg",   ".sreg",   ".const", ".global",
                                   ".local", ".param", ".shared", ".tex"};
constexpr const char* kLinkages[] = {"", ".extern ", ".visible ", ".weak ", ".common "};

std::string hexadecimal(std::uint64_t value, int digits) {
  char text[24];
  std::snprintf(text, sizeof text, "%0*" PRIx64, digits, value);
  return text;
}

class Printer {
 public:
  explicit Printer(const Module& module) : module_(module) {}

  std::string print() {
    text_ = ".version " + std::to_string(module_.version_major) + "." +
            std::to_string(module_.version_minor) + "\n.target " + module_.target + "\n.address_size " +
            std::to_string(module_.address_size) + "\n";
    // In the order of symbols. Functions name each other, and variables hold their addresses: all are
    // declared before the first body.
    std::vector<std::size_t> owner(module_.functions.size(), module_.symbols.size());
    std::string aliases;
    for (std::size_t i = 0; i < module_.symbols.size(); ++i) {
      const Symbol& symbol = module_.symbols[i];
      if (symbol.kind == Symbol::Kind::Variable) {
        variable(module_.variables[symbol.index], symbol_name(i), true);
        continue;
      }
      header(module_.functions[symbol.index], symbol_name(i));
      text_ += ";\n";
      std::size_t& first = owner[symbol.index];
      if (first < i)
        aliases += ".alias " + symbol_name(i) + ", " + symbol_name(first) + ";\n";
      else
        first = i;
    }
    text_ += aliases;
    for (std::size_t i = 0; i < module_.functions.size(); ++i)
      if (module_.functions[i].has_body && owner[i] < module_.symbols.size())
        function(module_.functions[i], symbol_name(owner[i]));
    return text_;
  }

 private:
  // Names that leave the module stay; the others may repeat, and get their number.
  std::string symbol_name(std::size_t index) const {
    const Symbol& symbol = module_.symbols[index];
    const Linkage linkage = symbol.kind == Symbol::Kind::Function ? module_.functions[symbol.index].linkage
                                                                  : module_.variables[symbol.index].linkage;
    return linkage == Linkage::Internal ? "$S" + std::to_string(index) : symbol.name;
  }

  void header(const Function& function, const std::string& name) {
    text_ += kLinkages[static_cast<std::size_t>(function.linkage)];
    text_ += function.is_entry ? ".entry " : ".func ";
    if (!function.returns.empty())
      parameters(function.returns, "$R");
    text_ += name;
    parameters(function.parameters, "$P");
    dimensions(".maxntid", function.max_threads);
    dimensions(".reqntid", function.required_threads);
    dimensions(".reqnctapercluster", function.required_cluster);
    number(".minnctapersm", function.min_blocks);
    number(".maxnreg", function.max_registers);
    number(".maxclusterrank", function.max_cluster);
    text_ += function.explicit_cluster ? " .explicitcluster" : "";
    text_ += function.no_return ? " .noreturn" : "";
  }

  void dimensions(const char* word, const Dim3& d) {
    if (d.x != 0 || d.y != 0 || d.z != 0)
      text_ += std::string(" ") + word + " " + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " +
               std::to_string(d.z);
  }

  void number(const char* word, std::uint32_t value) {
    if (value != 0)
      text_ += std::string(" ") + word + " " + std::to_string(value);
  }

  void parameters(const std::vector<Variable>& list, const std::string& prefix) {
    text_ += " (";
    for (std::size_t i = 0; i < list.size(); ++i) {
      text_ += i == 0 ? "" : ", ";
      declaration(list[i], prefix + std::to_string(i));
    }
    text_ += ")";
  }

  void declaration(const Variable& item, const std::string& name) {
    text_ += kSpaces[static_cast<std::size_t>(item.space)];
    if (item.space != Space::Reg)
      text_ += " .align " + std::to_string(item.alignment);
    if (item.vector > 1)
      text_ += " .v" + std::to_string(item.vector);
    (text_ += " .") += name_of(item.type);
    (text_ += " ") += name;
    const std::uint64_t element = std::uint64_t{size_of(item.type)} * item.vector;
    if (item.unsized)
      text_ += "[]";
    else if (item.size != element)
      text_ += "[" + std::to_string(element ? item.size / element : 0) + "]";
  }

  void variable(const Variable& item, const std::string& name, bool with_linkage) {
    if (with_linkage)
      text_ += kLinkages[static_cast<std::size_t>(item.linkage)];
    declaration(item, name);
    if (!item.initial.empty())
      initialiser(item);
    text_ += ";\n";
  }

  void initialiser(const Variable& item) {
    const std::size_t element = size_of(item.type);
    std::size_t next = 0;
    text_ += " = {";
    for (std::size_t at = 0; at < item.initial.size(); at += element) {
      text_ += at == 0 ? "" : ", ";
      if (next < item.relocations.size() && item.relocations[next].at == at)
        relocation(item.relocations[next++]);
      else
        pattern(item, at, element);
    }
    text_ += "}";
  }

  void pattern(const Variable& item, std::size_t at, std::size_t element) {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < element && i < 8; ++i)
      bits |= std::uint64_t{item.initial[at + i]} << 8 * i;
    const bool f32 = item.type == Type::F32, f64 = item.type == Type::F64;
    text_ += (f32 ? "0f" : f64 ? "0d" : "0x") + hexadecimal(bits, f32 ? 8 : f64 ? 16 : 1);
  }

  void relocation(const Relocation& item) {
    const bool masked = item.mask_shift >= 0;
    if (masked)
      text_ += "0x" + hexadecimal(std::uint64_t{0xFF} << 8 * item.mask_shift, 1) + "(";
    text_ += item.generic ? "generic(" : "";
    text_ += symbol_name(item.symbol);
    text_ += item.generic ? ")" : "";
    displacement(item.addend);
    text_ += masked ? ")" : "";
  }

  void displacement(std::int64_t offset) {
    if (offset != 0)
      text_ += "+" + std::to_string(offset);
  }

  void function(const Function& function, const std::string& name) {
    function_ = &function;
    text_ += "\n";
    header(function, name);
    text_ += "\n{\n";
    for (std::size_t i = 0; i < function.registers.size(); ++i)
      if (parameter_name(function, i).empty())
        (text_ += ".reg .") +=
            std::string(name_of(function.registers[i].type)) + " " + register_name(i) + ";\n";
    for (std::size_t i = 0; i < function.variables.size(); ++i)
      variable(function.variables[i], "$V" + std::to_string(i), true);
    std::vector<std::vector<std::size_t>> labels(function.instructions.size() + 1);
    for (std::size_t i = 0; i < function.labels.size(); ++i)
      labels[function.labels[i].target].push_back(i);
    for (std::size_t i = 0; i <= function.instructions.size(); ++i) {
      for (const std::size_t label : labels[i])
        this->label(label);
      if (i < function.instructions.size())
        instruction(function.instructions[i]);
    }
    text_ += "}\n";
  }

  // The name of a register that belongs to a parameter, "" for others. A vector parameter has one a
  // component.
  static std::string parameter_name(const std::vector<Variable>& list,
                                    const std::vector<std::int32_t>& registers, const std::string& prefix,
                                    std::size_t index) {
    constexpr const char* kComponents[] = {".x", ".y", ".z", ".w"};
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto first = static_cast<std::size_t>(registers[i]);
      if (registers[i] >= 0 && index >= first && index < first + list[i].vector)
        return prefix + std::to_string(i) + (list[i].vector > 1 ? kComponents[(index - first) % 4] : "");
    }
    return "";
  }

  static std::string parameter_name(const Function& function, std::size_t index) {
    const std::string name = parameter_name(function.returns, function.return_registers, "$R", index);
    return name.empty() ? parameter_name(function.parameters, function.parameter_registers, "$P", index)
                        : name;
  }

  std::string register_name(std::size_t index) const {
    const std::string name = parameter_name(*function_, index);
    return name.empty() ? "%_" + std::to_string(index) : name;
  }

  std::string label_name(std::size_t index) const { return "$L" + std::to_string(index); }

  void label(std::size_t index) {
    const Label& item = function_->labels[index];
    text_ += label_name(index) + ":";
    if (item.kind == Label::Kind::CallPrototype) {
      text_ += " .callprototype";
      parameters(item.prototype_returns, "$R");
      text_ += " _";
      parameters(item.prototype_parameters, "$P");
      text_ += ";";
    } else if (item.kind != Label::Kind::Code) {
      text_ += item.kind == Label::Kind::BranchTargets ? " .branchtargets" : " .calltargets";
      for (const std::uint32_t& target : item.targets)
        text_ += (&target == item.targets.data() ? " " : ", ") +
                 (item.kind == Label::Kind::BranchTargets ? label_name(target) : symbol_name(target));
      text_ += ";";
    }
    text_ += "\n";
  }

  void instruction(const Instruction& item) {
    if (item.guard.present)
      text_ += (item.guard.negated ? "@!" : "@") + register_name(item.guard.register_index) + " ";
    text_ += item.opcode;
    for (const std::string& modifier : item.modifiers)
      text_ += "." + modifier;
    for (const Operand& operand : item.operands) {
      text_ += &operand == item.operands.data() ? " " : ", ";
      this->operand(operand);
    }
    text_ += ";\n";
  }

  void operand(const Operand& item) {
    const bool minus = item.negated && item.kind == OperandKind::Register &&
                       function_->registers[item.index].type != Type::Pred;
    text_ += minus ? "-" : item.negated ? "!" : "";
    switch (item.kind) {
    case OperandKind::Register:
      text_ += register_name(item.index) + (item.name.empty() ? "" : "." + item.name);
      break;
    case OperandKind::Immediate:
      immediate(item.imm);
      break;
    case OperandKind::Special:
      text_ += item.name;
      break;
    case OperandKind::Local:
      text_ += "$V" + std::to_string(item.index);
      break;
    case OperandKind::Parameter:
      text_ += "$P" + std::to_string(item.index);
      break;
    case OperandKind::Return:
      text_ += "$R" + std::to_string(item.index);
      break;
    case OperandKind::Symbol:
      text_ += symbol_name(item.index);
      break;
    case OperandKind::Label:
      text_ += label_name(item.index);
      break;
    case OperandKind::Address:
      group(item, '[', ']');
      break;
    case OperandKind::Vector:
      group(item, '{', '}');
      break;
    case OperandKind::List:
      group(item, '(', ')');
      break;
    case OperandKind::Sink:
      text_ += "_";
      break;
    }
    if (item.kind != OperandKind::Address)
      displacement(item.offset);
    if (item.paired) {
      text_ += "|";
      operand(item.items.back());
    }
  }

  void group(const Operand& item, char open, char close) {
    const std::size_t count = item.items.size() - (item.paired ? 1 : 0);
    text_ += open;
    for (std::size_t i = 0; i < count; ++i) {
      text_ += i == 0 ? "" : ", ";
      operand(item.items[i]);
      if (i == 0 && item.kind == OperandKind::Address)
        displacement(item.offset);
    }
    text_ += close;
  }

  void immediate(const Immediate& value) {
    switch (value.kind) {
    case Immediate::Kind::Int:
      text_ += std::to_string(static_cast<std::int64_t>(value.bits));
      break;
    case Immediate::Kind::F32:
      text_ += "0f" + hexadecimal(value.bits, 8);
      break;
    case Immediate::Kind::F64:
      text_ += "0d" + hexadecimal(value.bits, 16);
      break;
    }
  }

  const Module& module_;
  const Function* function_ = nullptr;
  std::string text_;
};

} // namespace

std::string to_ptx(const Module& module) {
  return Printer(module).print();
}

} // namespace aliquot::simgpu::ptx::tools
