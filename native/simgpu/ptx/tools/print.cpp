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
    // In the order of symbols, in which each was first declared; functions may name each other and variables
    // may hold their addresses, so they are declared first.
    for (const Symbol& symbol : module_.symbols)
      if (symbol.kind == Symbol::Kind::Function)
        prototype(module_.functions[symbol.index]);
      else
        variable(module_.variables[symbol.index], true);
    for (const Symbol& symbol : module_.symbols)
      if (symbol.kind == Symbol::Kind::Function && module_.functions[symbol.index].has_body)
        function(module_.functions[symbol.index]);
    return text_;
  }

 private:
  void prototype(const Function& function) {
    header(function);
    text_ += ";\n";
  }

  void header(const Function& function) {
    text_ += kLinkages[static_cast<std::size_t>(function.linkage)];
    text_ += function.is_entry ? ".entry " : ".func ";
    if (!function.returns.empty())
      parameters(function.returns);
    text_ += function.name;
    parameters(function.parameters);
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

  void parameters(const std::vector<Variable>& list) {
    text_ += " (";
    for (const Variable& item : list) {
      text_ += &item == list.data() ? "" : ", ";
      declaration(item);
    }
    text_ += ")";
  }

  void declaration(const Variable& item) {
    text_ += kSpaces[static_cast<std::size_t>(item.space)];
    if (item.space != Space::Reg)
      text_ += " .align " + std::to_string(item.alignment);
    if (item.vector > 1)
      text_ += " .v" + std::to_string(item.vector);
    (text_ += " .") += name_of(item.type);
    (text_ += " ") += item.name;
    const std::uint64_t element = std::uint64_t{size_of(item.type)} * item.vector;
    if (item.unsized)
      text_ += "[]";
    else if (item.size != element)
      text_ += "[" + std::to_string(element ? item.size / element : 0) + "]";
  }

  void variable(const Variable& item, bool module_scope) {
    if (module_scope)
      text_ += kLinkages[static_cast<std::size_t>(item.linkage)];
    declaration(item);
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
    text_ += module_.symbols[item.symbol].name;
    text_ += item.generic ? ")" : "";
    displacement(item.addend);
    text_ += masked ? ")" : "";
  }

  void displacement(std::int64_t offset) {
    if (offset != 0)
      text_ += "+" + std::to_string(offset);
  }

  void function(const Function& function) {
    function_ = &function;
    text_ += "\n";
    header(function);
    text_ += "\n{\n";
    for (std::size_t i = 0; i < function.registers.size(); ++i)
      if (!is_parameter(function, i))
        (text_ += ".reg .") +=
            std::string(name_of(function.registers[i].type)) + " " + register_name(i) + ";\n";
    for (const Variable& item : function.variables)
      variable(item, item.linkage == Linkage::Extern);
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

  static bool is_parameter(const Function& function, std::size_t index) {
    for (const auto* list : {&function.parameter_registers, &function.return_registers})
      for (const std::int32_t item : *list)
        if (item == static_cast<std::int32_t>(index))
          return true;
    return false;
  }

  std::string register_name(std::size_t index) const {
    const std::string& name = function_->registers[index].name;
    return is_parameter(*function_, index) ? name : "%_" + std::to_string(index);
  }

  std::string label_name(std::size_t index) const { return "$L" + std::to_string(index); }

  void label(std::size_t index) {
    const Label& item = function_->labels[index];
    text_ += label_name(index) + ":";
    if (item.kind == Label::Kind::CallPrototype) {
      text_ += " .callprototype";
      parameters(item.prototype_returns);
      text_ += " _";
      parameters(item.prototype_parameters);
      text_ += ";";
    } else if (item.kind != Label::Kind::Code) {
      text_ += item.kind == Label::Kind::BranchTargets ? " .branchtargets" : " .calltargets";
      for (const std::uint32_t& target : item.targets)
        text_ +=
            (&target == item.targets.data() ? " " : ", ") +
            (item.kind == Label::Kind::BranchTargets ? label_name(target) : module_.symbols[target].name);
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
    text_ += item.negated ? "!" : "";
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
      text_ += function_->variables[item.index].name;
      break;
    case OperandKind::Parameter:
      text_ += function_->parameters[item.index].name;
      break;
    case OperandKind::Return:
      text_ += function_->returns[item.index].name;
      break;
    case OperandKind::Symbol:
      text_ += module_.symbols[item.index].name;
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
