// compile(): a parsed module to a program. Lays out shared memory, lowers each function, and turns the result
// into operations with frame offsets and handler addresses.
#include <algorithm>
#include <cstring>
#include <new>
#include <set>

#include "native/simgpu/exec/lower.hpp"

namespace aliquot::simgpu::exec {
namespace {

using ptx::Space;
using ptx::Variable;

constexpr std::uint32_t kRecursionReserve = 32 << 10; // local bytes a thread for calls of unknown depth
constexpr std::uint64_t kMostShared = std::uint64_t{1} << 20;

bool needs_device_memory(const Variable& variable) {
  return (variable.space == Space::Global || variable.space == Space::Const) &&
         variable.linkage != ptx::Linkage::Extern;
}

std::uint64_t aligned(std::uint64_t at, std::uint32_t alignment) {
  std::uint64_t a = std::max(alignment, 1u);
  return (at + a - 1) / a * a;
}

void collect_symbols(const ptx::Operand& operand, std::set<std::uint32_t>& symbols) {
  if (operand.kind == ptx::OperandKind::Symbol)
    symbols.insert(operand.index);
  for (const ptx::Operand& item : operand.items)
    collect_symbols(item, symbols);
}

class Compiler {
 public:
  Compiler(const ptx::Module& module, const std::vector<std::uint64_t>& addresses)
      : module_(module), addresses_(addresses), program_(std::make_shared<CompiledProgram>()) {
    context_.module = &module;
  }

  std::vector<std::string> refusals() {
    std::vector<std::string> found;
    prepare();
    context_.refusals = &found;
    for (std::uint32_t i = 0; i < module_.functions.size(); ++i) {
      try {
        if (module_.functions[i].has_body)
          Lowering(context_, i).run();
      } catch (const LowerError& error) {
        found.push_back("function " + module_.functions[i].name + ", " + error.message);
      }
    }
    return found;
  }

  std::shared_ptr<const Program> run() {
    prepare();
    for (std::uint32_t i = 0; i < module_.functions.size(); ++i) {
      program_->functions.push_back(std::make_unique<Function>());
      program_->functions[i]->index = i;
      program_->functions[i]->name = module_.functions[i].name;
      program_->functions[i]->is_kernel = module_.functions[i].is_entry;
    }
    lowered_.resize(module_.functions.size());
    for (std::uint32_t i = 0; i < module_.functions.size(); ++i)
      if (module_.functions[i].has_body)
        lower(i);
    for (std::uint32_t i = 0; i < module_.functions.size(); ++i)
      if (module_.functions[i].has_body && !refusals_.contains(i))
        finish(i);
    for (std::uint32_t i = 0; i < module_.functions.size(); ++i)
      if (module_.functions[i].is_entry && module_.functions[i].has_body)
        add_kernel(i);
    check_any_kernel_runs();
    place_initial_bytes();
    program_->sites = context_.sites;
    return program_;
  }

 private:
  void prepare() {
    place_globals();
    for (std::uint32_t i = 0; i < module_.functions.size(); ++i)
      find_references(i);
    place_shared();
  }

  void place_globals() {
    context_.variable_addresses.assign(module_.variables.size(), 0);
    std::size_t next = 0;
    for (std::size_t i = 0; i < module_.variables.size(); ++i) {
      const Variable& variable = module_.variables[i];
      if (!needs_device_memory(variable))
        continue;
      if (next >= addresses_.size())
        throw LowerError{"no address was given for " + variable.name, false};
      context_.variable_addresses[i] = addresses_[next++];
    }
  }

  void find_references(std::uint32_t index) {
    std::set<std::uint32_t> symbols;
    bool indirect = false;
    for (const ptx::Instruction& instruction : module_.functions[index].instructions) {
      for (const ptx::Operand& operand : instruction.operands)
        collect_symbols(operand, symbols);
      indirect |=
          instruction.opcode == "call" &&
          std::none_of(instruction.operands.begin(), instruction.operands.end(),
                       [](const ptx::Operand& operand) { return operand.kind == ptx::OperandKind::Symbol; });
    }
    references_.emplace_back();
    indirect_.push_back(indirect);
    for (std::uint32_t symbol : symbols) {
      const ptx::Symbol& s = module_.symbols[symbol];
      references_.back().push_back(symbol);
      if (s.kind == ptx::Symbol::Kind::Function)
        continue;
      const Variable& variable = module_.variables[s.index];
      bool missing = variable.linkage == ptx::Linkage::Extern && variable.space != Space::Shared;
      if (missing)
        throw LowerError{"unresolved extern variable " + variable.name, false};
    }
  }

  // Variables that device functions use lie at the same offset in every kernel; those of one kernel after
  // them.
  void place_shared() {
    std::uint64_t common = 0;
    std::vector<bool> placed(module_.variables.size(), false);
    auto place = [&](std::uint64_t& end, const Variable& variable) {
      std::uint64_t at = aligned(end, variable.alignment);
      end = at + variable.size;
      if (end > kMostShared)
        throw LowerError{"shared variables of more than 1 MiB", false};
      return at;
    };
    context_.shared_offsets.resize(module_.functions.size());
    context_.dynamic_base.assign(module_.functions.size(), ~std::uint64_t{0});
    shared_end_.assign(module_.functions.size(), 0);
    auto place_function = [&](std::uint32_t f, std::uint64_t& end) {
      for (std::uint32_t symbol : references_[f]) {
        const ptx::Symbol& s = module_.symbols[symbol];
        if (s.kind == ptx::Symbol::Kind::Function || placed[s.index])
          continue;
        const Variable& variable = module_.variables[s.index];
        if (variable.space != Space::Shared || variable.unsized)
          continue;
        context_.variable_addresses[s.index] = place(end, variable);
        placed[s.index] = true;
        // other kernels that use it too must keep clear of it
        placed_.push_back({s.index, end});
      }
      for (const Variable& variable : module_.functions[f].variables) {
        bool here = variable.space == Space::Shared && !variable.unsized;
        context_.shared_offsets[f].push_back(here ? place(end, variable) : 0);
      }
    };
    for (std::uint32_t f = 0; f < module_.functions.size(); ++f)
      if (!module_.functions[f].is_entry)
        place_function(f, common);
    for (std::uint32_t f = 0; f < module_.functions.size(); ++f) {
      if (!module_.functions[f].is_entry)
        continue;
      bool calls =
          indirect_[f] || std::any_of(references_[f].begin(), references_[f].end(), [&](std::uint32_t s) {
            return module_.symbols[s].kind == ptx::Symbol::Kind::Function;
          });
      std::uint64_t end = calls ? common : 0;
      for (std::uint32_t symbol : references_[f])
        for (const Placed& p : placed_)
          if (module_.symbols[symbol].kind == ptx::Symbol::Kind::Variable &&
              module_.symbols[symbol].index == p.variable)
            end = std::max(end, p.end);
      place_function(f, end);
      shared_end_[f] = static_cast<std::uint32_t>(end);
      context_.dynamic_base[f] = (end + 15) & ~std::uint64_t{15};
    }
  }

  // What is not implemented stops only the kernels that reach it; what is wrong stops the module.
  void lower(std::uint32_t index) {
    try {
      lowered_[index] = Lowering(context_, index).run();
      allocate(lowered_[index]);
    } catch (LowerError& error) {
      error.message = "function " + module_.functions[index].name + ", " + error.message;
      if (!error.unsupported)
        throw;
      lowered_[index] = Lowered{};
      refusals_[index] = error.message;
    }
  }

  // The first refusal among `index` and all that it calls; empty if there is none.
  std::string refusal_of(std::uint32_t index) const {
    std::vector<std::uint32_t> left = {index};
    std::set<std::uint32_t> seen = {index};
    while (!left.empty()) {
      std::uint32_t at = left.back();
      left.pop_back();
      auto found = refusals_.find(at);
      if (found != refusals_.end())
        return found->second;
      for (std::uint32_t symbol : references_[at])
        if (module_.symbols[symbol].kind == ptx::Symbol::Kind::Function &&
            seen.insert(module_.symbols[symbol].index).second)
          left.push_back(module_.symbols[symbol].index);
    }
    return {};
  }

  // A module of which no kernel can run is refused as a whole, at load.
  void check_any_kernel_runs() const {
    if (refusals_.empty())
      return;
    for (const Kernel& kernel : program_->kernels_)
      if (kernel.refusal.empty())
        return;
    throw LowerError{refusals_.begin()->second, true};
  }

  void finish(std::uint32_t index) {
    Lowered& code = lowered_[index];
    Function& function = *program_->functions[index];
    function.frame_bytes = code.frame_bytes;
    function.local_bytes = code.local_bytes;
    for (const RowInfo& row : code.rows)
      add_fixed_row(function, row);
    auto slot = [](const Lowered& in, RowId row) {
      const RowInfo& info = in.rows[row];
      return FrameSlot{info.offset, row_bytes(info.type, info.words)};
    };
    for (RowId row : code.parameters)
      function.parameters.push_back(slot(code, row));
    for (RowId row : code.returns)
      function.returns.push_back(slot(code, row));
    std::vector<const CallSite*> sites;
    for (const IrCall& call : code.calls) {
      auto site = std::make_unique<CallSite>();
      site->callee =
          call.callee >= 0 ? program_->functions[static_cast<std::size_t>(call.callee)].get() : nullptr;
      site->system = call.system;
      for (RowId row : call.arguments)
        site->arguments.push_back(slot(code, row));
      for (RowId row : call.results)
        site->results.push_back(slot(code, row));
      sites.push_back(site.get());
      program_->calls.push_back(std::move(site));
    }
    function.ops.resize(code.ops.size());
    for (std::size_t i = 0; i < code.ops.size(); ++i)
      finish_op(code, code.ops[i], function, function.ops[i], sites);
  }

  void finish_op(const Lowered& code, const IrOp& from, Function& function, Op& op,
                 const std::vector<const CallSite*>& sites) {
    op = Op{};
    op.run[0] = from.entry->run[0];
    op.run[1] = from.entry->run[1];
    op.imm = from.imm;
    op.extra = from.extra;
    op.line = from.line;
    for (unsigned i = 0; i < from.operands; ++i)
      op.r[i] = code.rows[from.rows[i]].offset;
    auto at = [&](std::uint32_t block) { return &function.ops[code.block_start[block]]; };
    if (from.target >= 0)
      op.target = at(static_cast<std::uint32_t>(from.target));
    if (from.call >= 0)
      op.pointer = sites[static_cast<std::size_t>(from.call)];
    if (from.table >= 0) {
      auto table = std::make_unique<std::vector<const Op*>>();
      for (std::uint32_t block : code.tables[static_cast<std::size_t>(from.table)])
        table->push_back(at(block));
      op.pointer = table->data();
      op.r[1] = static_cast<std::uint32_t>(table->size());
      program_->branch_tables.push_back(std::move(table));
    }
  }

  static void add_fixed_row(Function& function, const RowInfo& row) {
    std::uint8_t width = static_cast<std::uint8_t>(row.type == Class::Pred ? 0 : lane_bytes(row.type));
    if (row.kind == RowInfo::Kind::Constant)
      function.constants.push_back({row.offset, width, row.bits});
    else if (row.kind == RowInfo::Kind::Launch)
      function.launch_rows.push_back({row.offset, width, row.parameter, row.which, row.bits});
  }

  // Local bytes of a thread in `index` and all that it calls.
  std::uint32_t local_bytes(std::uint32_t index, std::vector<std::uint8_t>& path, std::uint32_t depth) {
    if (path[index] || depth > 200)
      return kRecursionReserve;
    path[index] = 1;
    std::uint32_t most = indirect_[index] ? kRecursionReserve : 0;
    for (std::uint32_t symbol : references_[index]) {
      const ptx::Symbol& s = module_.symbols[symbol];
      if (s.kind == ptx::Symbol::Kind::Function && module_.functions[s.index].has_body &&
          !module_.functions[s.index].is_entry)
        most = std::max(most, deep_local(s.index, path, depth + 1));
    }
    path[index] = 0;
    return program_->functions[index]->local_bytes + most;
  }
  std::uint32_t deep_local(std::uint32_t index, std::vector<std::uint8_t>& path, std::uint32_t depth) {
    auto [found, fresh] = local_.try_emplace(index, 0);
    if (path[index])
      return kRecursionReserve;
    if (fresh || found->second == 0) {
      std::uint32_t bytes = local_bytes(index, path, depth);
      local_[index] = bytes;
      return bytes;
    }
    return found->second;
  }

  void add_kernel(std::uint32_t index) {
    const ptx::Function& from = module_.functions[index];
    KernelInfo info;
    info.name = from.name;
    std::uint64_t at = 0;
    for (const Variable& parameter : from.parameters) {
      at = aligned(at, parameter.alignment);
      info.parameters.push_back({static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(parameter.size),
                                 std::max(parameter.alignment, 1u)});
      at += parameter.size;
      if (at > kMostParameterBytes)
        throw LowerError{"kernel " + from.name + " has more than 32764 bytes of parameters", false};
    }
    info.parameter_bytes = static_cast<std::uint32_t>(at);
    info.static_shared_bytes = shared_end_[index];
    std::vector<std::uint8_t> path(module_.functions.size(), 0);
    info.local_bytes = (local_bytes(index, path, 0) + 15) & ~15u;
    for (const Variable& variable : module_.variables)
      if (variable.space == Space::Const)
        info.const_bytes += static_cast<std::uint32_t>(variable.size);
    auto product = [](const ptx::Dim3& d) { return d.x * std::max(d.y, 1u) * std::max(d.z, 1u); };
    if (from.max_threads.x)
      info.max_threads = std::min(product(from.max_threads), 1024u);
    if (from.required_threads.x) {
      info.max_threads = std::min(product(from.required_threads), 1024u);
      info.required_threads = {from.required_threads.x, std::max(from.required_threads.y, 1u),
                               std::max(from.required_threads.z, 1u)};
    }
    // A compiler for a card would spill before a block of the largest allowed size no longer fits in its
    // 65,536 registers; live ranges of PTX as written are longer than after its scheduling.
    std::uint32_t fitting = 65536 / std::max(info.max_threads, 32u) & ~7u;
    const std::uint32_t allowed = from.max_registers != 0 ? from.max_registers : 255u;
    info.registers = std::min({lowered_[index].registers, fitting, allowed, 255u});
    program_->kernels_.push_back({program_->functions[index].get(), info.local_bytes, refusal_of(index)});
    program_->kernel_infos.push_back(std::move(info));
  }

  std::uint64_t symbol_address(std::uint32_t symbol) const {
    const ptx::Symbol& s = module_.symbols[symbol];
    if (s.kind == ptx::Symbol::Kind::Function)
      return function_token(s.index);
    const Variable& variable = module_.variables[s.index];
    return context_.variable_addresses[s.index] + (variable.space == Space::Shared ? kSharedWindow : 0);
  }

  void place_initial_bytes() {
    for (const Variable& variable : module_.variables) {
      if (!needs_device_memory(variable))
        continue;
      std::vector<std::uint8_t> bytes = variable.initial;
      if (!variable.relocations.empty())
        bytes.resize(variable.size);
      for (const ptx::Relocation& relocation : variable.relocations) {
        std::uint64_t value =
            symbol_address(relocation.symbol) + static_cast<std::uint64_t>(relocation.addend);
        if (relocation.mask_shift >= 0)
          value = value >> (8 * relocation.mask_shift) & 0xFF;
        if (relocation.width <= 8 && relocation.at + relocation.width <= bytes.size())
          std::memcpy(bytes.data() + relocation.at, &value, relocation.width);
      }
      program_->initial.push_back(std::move(bytes));
    }
  }

  struct Placed {
    std::uint32_t variable;
    std::uint64_t end;
  };
  const ptx::Module& module_;
  const std::vector<std::uint64_t>& addresses_;
  std::shared_ptr<CompiledProgram> program_;
  ModuleContext context_;
  std::vector<std::vector<std::uint32_t>> references_; // by function: symbols
  std::vector<bool> indirect_;
  std::vector<std::uint32_t> shared_end_;
  std::vector<Placed> placed_;
  std::vector<Lowered> lowered_;
  std::map<std::uint32_t, std::string> refusals_; // by function
  std::map<std::uint32_t, std::uint32_t> local_;
};

} // namespace

std::vector<GlobalInfo> globals_of(const ptx::Module& module) {
  std::vector<GlobalInfo> globals;
  for (const Variable& variable : module.variables)
    if (needs_device_memory(variable))
      globals.push_back({variable.name, variable.size, std::max(variable.alignment, 1u),
                         variable.space == Space::Const, variable.linkage != ptx::Linkage::Internal});
  return globals;
}

std::vector<std::string> refusals(const ptx::Module& module) {
  std::vector<std::uint64_t> addresses(globals_of(module).size(), 0);
  try {
    return Compiler(module, addresses).refusals();
  } catch (const LowerError& error) {
    return {error.message};
  }
}

std::vector<std::string_view> instructions() {
  return Lowering::instructions();
}

CompileResult compile(const ptx::Module& module, const std::vector<std::uint64_t>& global_addresses) {
  CompileResult result;
  try {
    result.program = Compiler(module, global_addresses).run();
  } catch (const LowerError& error) {
    result.message = error.message;
    result.unsupported = error.unsupported;
  } catch (const std::bad_alloc&) {
    result.message = "the host has no memory to decode the module";
  }
  return result;
}

} // namespace aliquot::simgpu::exec
