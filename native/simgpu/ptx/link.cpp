// Joins modules as a linker does: names that leave a module meet, everything else is carried over as it is.
#include <algorithm>
#include <unordered_map>

#include "native/simgpu/ptx/ast.hpp"
#include "native/simgpu/ptx/lexer.hpp"

namespace aliquot::simgpu::ptx {
namespace {

// How strongly a definition holds its name: a stronger one replaces a weaker one, two strong ones clash.
enum class Strength : std::uint8_t { Declared, Common, Weak, Strong };

Strength strength(const Variable& variable) {
  switch (variable.linkage) {
  case Linkage::Extern:
    return Strength::Declared;
  case Linkage::Common:
    return Strength::Common;
  case Linkage::Weak:
    return Strength::Weak;
  default:
    return Strength::Strong;
  }
}

Strength strength(const Function& function) {
  if (!function.has_body)
    return Strength::Declared;
  return function.linkage == Linkage::Weak ? Strength::Weak : Strength::Strong;
}

// A function that is only declared looks for its definition in other modules whatever its linkage says, as
// does an `.extern` one that is defined here after all.
bool leaves_module(const Function& function) {
  return function.linkage != Linkage::Internal || !function.has_body;
}

class Linker {
 public:
  explicit Linker(Module& out) : out_(out) {}

  void add(Module&& module);
  void finish();

 private:
  void check_address_size(const Module& module);
  std::uint32_t place(Module& module, const Symbol& symbol);
  std::uint32_t append(Module& module, const Symbol& symbol);
  void meet(Variable& old, Variable& fresh);
  void meet(std::uint32_t index, Function& fresh);
  void remap_from(std::size_t first_variable, std::size_t first_function);
  void remap(std::vector<Operand>& operands) const;
  void remap(Function& function) const;

  Module& out_;
  std::unordered_map<std::string, std::uint32_t> names_; // symbols that leave their module, in out_.symbols
  std::vector<std::uint32_t> map_;                       // symbol of the module under way -> symbol of out_
  std::vector<bool> from_here_;                          // for each: did its content come from this module?
  std::vector<std::uint32_t> replaced_variables_, replaced_functions_;
  bool first_ = true;
};

[[noreturn]] void disagree(const std::string& name, const char* how, std::uint32_t line) {
  throw Failure(line, "'" + name + "' " + how);
}

void Linker::check_address_size(const Module& module) {
  if (!first_ && out_.address_size != module.address_size)
    throw Failure(0, "modules of different .address_size cannot be linked");
  const bool newer = std::pair(module.version_major, module.version_minor) >
                     std::pair(out_.version_major, out_.version_minor);
  if (first_ || newer) {
    out_.version_major = module.version_major;
    out_.version_minor = module.version_minor;
  }
  if (first_ || module.sm > out_.sm) {
    out_.sm = module.sm;
    out_.target = module.target;
  }
  out_.address_size = module.address_size;
  first_ = false;
}

void Linker::add(Module&& module) {
  check_address_size(module);
  const std::size_t first_variable = out_.variables.size(), first_function = out_.functions.size();
  map_.clear();
  replaced_variables_.clear();
  replaced_functions_.clear();
  // Two names of one function (.alias) stay two names of one function.
  std::unordered_map<std::uint32_t, std::uint32_t> placed;
  for (const Symbol& symbol : module.symbols) {
    const bool alias =
        symbol.kind == Symbol::Kind::Function && module.functions[symbol.index].name != symbol.name;
    map_.push_back(alias ? 0 : place(module, symbol));
    if (symbol.kind == Symbol::Kind::Function && !alias)
      placed[symbol.index] = map_.back();
  }
  for (std::size_t i = 0; i < module.symbols.size(); ++i) {
    const Symbol& symbol = module.symbols[i];
    if (symbol.kind == Symbol::Kind::Function && module.functions[symbol.index].name != symbol.name)
      map_[i] = placed.at(symbol.index);
  }
  remap_from(first_variable, first_function);
}

// The symbol of `out_` that stands for `symbol`, made or met.
std::uint32_t Linker::place(Module& module, const Symbol& symbol) {
  const bool is_function = symbol.kind == Symbol::Kind::Function;
  const bool leaves = is_function ? leaves_module(module.functions[symbol.index])
                                  : module.variables[symbol.index].linkage != Linkage::Internal;
  if (!leaves)
    return append(module, symbol);
  const auto found = names_.find(symbol.name);
  if (found == names_.end()) {
    const std::uint32_t index = append(module, symbol);
    names_.emplace(symbol.name, index);
    return index;
  }
  const Symbol& old = out_.symbols[found->second];
  if (old.kind != symbol.kind)
    disagree(symbol.name, "is a variable in one module and a function in another",
             is_function ? module.functions[symbol.index].position.line
                         : module.variables[symbol.index].position.line);
  if (is_function)
    meet(old.index, module.functions[symbol.index]);
  else
    meet(out_.variables[old.index], module.variables[symbol.index]);
  return found->second;
}

std::uint32_t Linker::append(Module& module, const Symbol& symbol) {
  Symbol made = symbol;
  if (symbol.kind == Symbol::Kind::Function) {
    made.index = static_cast<std::uint32_t>(out_.functions.size());
    out_.functions.push_back(std::move(module.functions[symbol.index]));
  } else {
    made.index = static_cast<std::uint32_t>(out_.variables.size());
    out_.variables.push_back(std::move(module.variables[symbol.index]));
  }
  out_.symbols.push_back(std::move(made));
  return static_cast<std::uint32_t>(out_.symbols.size() - 1);
}

void Linker::meet(Variable& old, Variable& fresh) {
  const Strength was = strength(old), is = strength(fresh);
  if (was == Strength::Strong && is == Strength::Strong)
    disagree(fresh.name, "is defined in two modules", fresh.position.line);
  if (old.space != fresh.space)
    disagree(fresh.name, "is in different state spaces in two modules", fresh.position.line);
  const bool sizes_count =
      !old.unsized && !fresh.unsized && (was != Strength::Common || is != Strength::Common);
  if (sizes_count && old.size != fresh.size)
    disagree(fresh.name, "has different sizes in two modules", fresh.position.line);
  const std::uint32_t alignment = std::max(old.alignment, fresh.alignment);
  const bool larger_common = was == Strength::Common && is == Strength::Common && fresh.size > old.size;
  const bool sized_now = was == is && was == Strength::Declared && old.unsized && !fresh.unsized;
  if (is > was || larger_common || sized_now) {
    old = std::move(fresh);
    replaced_variables_.push_back(static_cast<std::uint32_t>(&old - out_.variables.data()));
  }
  old.alignment = alignment;
}

bool same_parameters(const std::vector<Variable>& a, const std::vector<Variable>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Variable& x, const Variable& y) {
    return x.size == y.size && x.unsized == y.unsized && x.space == y.space;
  });
}

void Linker::meet(std::uint32_t index, Function& fresh) {
  Function& old = out_.functions[index];
  const Strength was = strength(old), is = strength(fresh);
  if (was == Strength::Strong && is == Strength::Strong)
    disagree(fresh.name, "is defined in two modules", fresh.position.line);
  // numba declares a C function without a result as one that returns a value, which it does not look at; a
  // linker of machine code would not know.
  const bool no_result = old.returns.empty() || fresh.returns.empty();
  if (old.is_entry != fresh.is_entry || (!no_result && !same_parameters(old.returns, fresh.returns)) ||
      !same_parameters(old.parameters, fresh.parameters))
    disagree(fresh.name, "has different parameters in two modules", fresh.position.line);
  if (is <= was)
    return;
  old = std::move(fresh);
  replaced_functions_.push_back(index);
}

// What came from the module under way still counts symbols as that module did.
void Linker::remap_from(std::size_t first_variable, std::size_t first_function) {
  for (std::size_t i = first_variable; i < out_.variables.size(); ++i)
    replaced_variables_.push_back(static_cast<std::uint32_t>(i));
  for (std::size_t i = first_function; i < out_.functions.size(); ++i)
    replaced_functions_.push_back(static_cast<std::uint32_t>(i));
  for (std::vector<std::uint32_t>* list : {&replaced_variables_, &replaced_functions_}) {
    std::sort(list->begin(), list->end());
    list->erase(std::unique(list->begin(), list->end()), list->end());
  }
  for (const std::uint32_t i : replaced_variables_)
    for (Relocation& relocation : out_.variables[i].relocations)
      relocation.symbol = map_[relocation.symbol];
  for (const std::uint32_t i : replaced_functions_)
    remap(out_.functions[i]);
}

void Linker::remap(Function& function) const {
  for (Label& label : function.labels)
    if (label.kind == Label::Kind::CallTargets)
      for (std::uint32_t& target : label.targets)
        target = map_[target];
  for (Instruction& instruction : function.instructions)
    remap(instruction.operands);
}

void Linker::remap(std::vector<Operand>& operands) const {
  for (Operand& operand : operands) {
    if (operand.kind == OperandKind::Symbol)
      operand.index = map_[operand.index];
    remap(operand.items);
  }
}

// Kernels are found by name, so no two may share one: those that never left their module give way.
void Linker::finish() {
  std::unordered_map<std::string, std::size_t> taken;
  for (const Function& function : out_.functions)
    if (function.is_entry && function.linkage != Linkage::Internal)
      taken[function.name] = 0;
  for (Symbol& symbol : out_.symbols) {
    if (symbol.kind != Symbol::Kind::Function)
      continue;
    Function& function = out_.functions[symbol.index];
    if (!function.is_entry || function.linkage != Linkage::Internal)
      continue;
    const std::string name = function.name;
    while (!taken.emplace(function.name, 0).second)
      function.name = name + "$" + std::to_string(++taken[name]);
    symbol.name = function.name;
  }
}

} // namespace

bool link(std::vector<Module> modules, Module& linked, ParseError& error) {
  try {
    linked = {};
    Linker linker(linked);
    for (Module& module : modules)
      linker.add(std::move(module));
    linker.finish();
    return true;
  } catch (const Failure& failure) {
    error = {{failure.line}, failure.what()};
  } catch (const std::exception&) {
    error = {{0}, "not enough host memory to link these modules"};
  }
  linked = {};
  return false;
}

} // namespace aliquot::simgpu::ptx
