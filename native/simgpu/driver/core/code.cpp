#include "native/simgpu/driver/core/code.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "native/common/log.hpp"
#include "native/simgpu/driver/core/driver.hpp"
#include "native/simgpu/driver/core/host_memory.hpp"
#include "native/simgpu/driver/core/memory_gate.hpp"
#include "native/simgpu/image/image.hpp"

namespace aliquot::simgpu::driver {
namespace {

CUresult result_of(image::Status status) noexcept {
  switch (status) {
  case image::Status::Ok:
    return CUDA_SUCCESS;
  case image::Status::NoPtx:
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  case image::Status::Invalid:
  case image::Status::Unsupported:
    break;
  }
  return CUDA_ERROR_INVALID_IMAGE;
}

// Of a module that could not be compiled.
CUresult result_of(const exec::CompileResult& failed) noexcept {
  return failed.unsupported ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_PTX;
}

CUresult refuse(const Code& code, const std::string& kernel) {
  common::log_line(common::LogLevel::Warning, "%s: %s", kernel.c_str(), code.refusal().c_str());
  return CUDA_ERROR_NO_BINARY_FOR_GPU;
}

// As .maxnreg does, for all kernels of a module. 0: not at all.
void limit_registers(ptx::Module& module, std::uint32_t most) noexcept {
  for (ptx::Function& function : module.functions)
    if (most != 0 && (function.max_registers == 0 || function.max_registers > most))
      function.max_registers = most;
}

bool parse_all(const image::Contents& contents, ptx::Module& module, ptx::ParseError& error) {
  std::vector<ptx::Module> modules(contents.ptx.size());
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (!ptx::parse(contents.ptx[i].text, modules[i], error))
      return false;
    limit_registers(modules[i], contents.ptx[i].max_registers);
  }
  if (modules.size() > 1)
    return ptx::link(std::move(modules), module, error);
  module = std::move(modules.front());
  return true;
}

} // namespace

bool JitLog::read(unsigned count, const CUjit_option* options, void** values) noexcept {
  if (count == 0)
    return true;
  constexpr unsigned most = 256; // more than there are kinds; a larger count is not one
  if (options == nullptr || values == nullptr || count > most)
    return false;
  for (unsigned i = 0; i < count; ++i) {
    // Sizes are passed in the pointer itself, and the size used is written back over it.
    switch (options[i]) {
    case CU_JIT_ERROR_LOG_BUFFER:
      error_.text = static_cast<char*>(values[i]);
      break;
    case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
      error_.bytes = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(values[i]));
      error_.bytes_option = &values[i];
      break;
    case CU_JIT_INFO_LOG_BUFFER:
      info_.text = static_cast<char*>(values[i]);
      break;
    case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
      info_.bytes = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(values[i]));
      info_.bytes_option = &values[i];
      break;
    case CU_JIT_MAX_REGISTERS:
      max_registers_ = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(values[i]));
      break;
    default:
      break; // tuning of a compiler that is not there
    }
  }
  if (!error_.usable() || !info_.usable())
    return false;
  error_.put("");
  info_.put("");
  return true;
}

bool JitLog::Buffer::usable() const noexcept {
  return text == nullptr || bytes == 0 || host_range_is_mapped(text, bytes);
}

void JitLog::Buffer::put(const std::string& message) noexcept {
  std::size_t filled = 0;
  if (text != nullptr && bytes != 0) {
    filled = std::min(message.size(), bytes - 1);
    std::memcpy(text, message.data(), filled);
    text[filled] = '\0';
  }
  if (bytes_option != nullptr)
    *bytes_option = reinterpret_cast<void*>(static_cast<std::uintptr_t>(filled));
}

void JitLog::error(const std::string& message) noexcept {
  error_.put(message);
  common::log_line(common::LogLevel::Warning, "%s", message.c_str());
}

void JitLog::info(const std::string& message) noexcept {
  info_.put(message);
}

std::shared_ptr<const Code> Code::read(const void* image, std::size_t known_bytes, std::uint32_t capability,
                                       JitLog& log, CUresult& error) {
  auto code = read_lazily(image, known_bytes, capability, log, error);
  if (!code || code->refusal().empty())
    return code;
  error = CUDA_ERROR_NO_BINARY_FOR_GPU;
  log.error(code->refusal());
  return nullptr;
}

std::shared_ptr<const Code> Code::read_lazily(const void* image, std::size_t known_bytes,
                                              std::uint32_t capability, JitLog& log, CUresult& error) {
  image::Contents contents;
  const image::Status status = image::read(image, known_bytes, capability, contents);
  if (status == image::Status::Ok)
    return parse(contents, log, error);
  error = result_of(status);
  if (status != image::Status::NoPtx || !contents.fat_binary || contents.cubin_sms.empty()) {
    log.error(contents.message);
    return nullptr;
  }
  auto code = std::make_shared<Code>();
  code->entry_names_ = std::move(contents.cubin_kernels);
  code->refusal_ = std::move(contents.message);
  error = CUDA_SUCCESS;
  return code;
}

std::shared_ptr<const Code> Code::parse(const image::Contents& contents, JitLog& log, CUresult& error) {
  auto code = std::make_shared<Code>();
  ptx::ParseError problem;
  if (contents.ptx.empty() || !parse_all(contents, code->module_, problem)) {
    error = CUDA_ERROR_INVALID_PTX;
    log.error("PTX line " + std::to_string(problem.position.line) + ": " + problem.message);
    return nullptr;
  }
  limit_registers(code->module_, log.max_registers());
  code->globals_ = exec::globals_of(code->module_);
  for (const ptx::Function& function : code->module_.functions)
    if (function.is_entry && function.has_body)
      code->entry_names_.push_back(function.name);
  error = CUDA_SUCCESS;
  return code;
}

bool Code::has_entry(const std::string& name) const noexcept {
  return std::find(entry_names_.begin(), entry_names_.end(), name) != entry_names_.end();
}

CUresult Code::info(const std::string& entry, const exec::KernelInfo*& found) const {
  if (!refusal_.empty())
    return refuse(*this, entry);
  const std::lock_guard guard(sample_mutex_);
  if (!sample_) {
    exec::CompileResult compiled =
        exec::compile(module_, std::vector<std::uint64_t>(globals_.size(), kBlockBytes));
    if (!compiled.program) {
      common::log_line(common::LogLevel::Warning, "%s", compiled.message.c_str());
      return result_of(compiled);
    }
    sample_ = std::move(compiled.program);
  }
  for (const exec::KernelInfo& each : sample_->kernels())
    if (each.name == entry) {
      found = &each;
      return CUDA_SUCCESS;
    }
  return CUDA_ERROR_NOT_FOUND;
}

Function::Function(std::shared_ptr<LoadedModule> module_, std::shared_ptr<const exec::Program> program_,
                   std::size_t index_)
    : module(module_), context(module_->context), program(std::move(program_)), index(index_) {}

const exec::KernelInfo& Function::info() const noexcept {
  return program->kernels()[index];
}

std::shared_ptr<LoadedModule> LoadedModule::load(const std::shared_ptr<Context>& context,
                                                 const std::shared_ptr<const Code>& code, JitLog& log,
                                                 CUresult& error) {
  if (!code->refusal().empty()) {
    error = CUDA_ERROR_NO_BINARY_FOR_GPU;
    log.error(code->refusal());
    return nullptr;
  }
  auto module = std::make_shared<LoadedModule>(context, code);
  error = module->place_code();
  if (error == CUDA_SUCCESS)
    error = module->place_globals();
  if (error == CUDA_SUCCESS) {
    std::vector<std::uint64_t> addresses;
    for (const Global& global : module->globals_)
      addresses.push_back(global.address);
    exec::CompileResult compiled = exec::compile(code->module(), addresses);
    module->program_ = compiled.program;
    if (!compiled.program) {
      error = result_of(compiled);
      log.error(compiled.message);
    }
  }
  if (error == CUDA_SUCCESS && exec::uses_device_heap(code->module()))
    error = context->make_malloc_heap();
  if (error == CUDA_SUCCESS)
    error = module->fill_globals();
  if (error != CUDA_SUCCESS) {
    module->unload();
    return nullptr;
  }
  module->handle = Driver::instance().modules.insert(module);
  context->add_module(module);
  return module;
}

// One machine instruction for each of PTX: 16 bytes from compute capability 7.0 on (CUDA Binary Utilities,
// "Instruction Set Reference"; what expands and what is optimised away about balance).
CUresult LoadedModule::place_code() {
  constexpr std::uint64_t instruction_bytes = 16;
  std::uint64_t bytes = 0;
  for (const ptx::Function& function : code->module().functions)
    bytes += function.instructions.size() * instruction_bytes;
  if (bytes == 0)
    return CUDA_SUCCESS;
  code_memory_ = {context->device().heap.allocate(bytes), bytes};
  return code_memory_.address != 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult LoadedModule::place_globals() {
  Driver& driver = Driver::instance();
  Device& device = context->device();
  for (const exec::GlobalInfo& info : code->globals()) {
    const std::uint64_t bytes = std::max<std::uint64_t>(info.size, 1);
    // Past the largest card no size is worth asking for, and rounding up cannot overflow below it.
    const std::uint64_t address = bytes > device.model.vram_bytes ? 0 : device.heap.allocate(bytes);
    if (address == 0)
      return CUDA_ERROR_OUT_OF_MEMORY;
    globals_.push_back({address, info.size});
    Allocation allocation;
    allocation.address = address;
    allocation.bytes = bytes;
    allocation.kind = MemoryKind::Module;
    allocation.card = device.card;
    allocation.context_id = context->id();
    allocation.context = context->handle;
    driver.allocations.insert(std::move(allocation));
  }
  return CUDA_SUCCESS;
}

CUresult LoadedModule::fill_globals() {
  const InsideGate inside;
  const AddressSpace& space = Driver::instance().space;
  for (std::size_t i = 0; i < globals_.size(); ++i) {
    const std::vector<std::uint8_t> bytes = program_->initial_bytes(i);
    std::uint8_t* at = space.bytes_at(globals_[i].address);
    const std::size_t given = std::min<std::size_t>(bytes.size(), globals_[i].bytes);
    if (given != 0)
      std::memcpy(at, bytes.data(), given);
    // A small block is discarded page by page when it is freed, so its ends may hold another's bytes. What is
    // larger than a block comes fresh, and is not to be touched just to hold zeros.
    if (globals_[i].bytes <= kBlockBytes / 2)
      std::memset(at + given, 0, globals_[i].bytes - given);
  }
  return CUDA_SUCCESS;
}

void LoadedModule::unload() noexcept try {
  Driver& driver = Driver::instance();
  if (handle != nullptr)
    driver.modules.erase(handle);
  std::map<std::string, std::shared_ptr<Function>> functions;
  {
    const std::lock_guard guard(mutex_);
    functions.swap(functions_);
  }
  for (const auto& [name, function] : functions)
    driver.functions.erase(function->handle);
  if (const Global taken = std::exchange(code_memory_, {}); taken.address != 0)
    context->device().heap.free(taken.address, taken.bytes);
  for (const Global& global : globals_)
    if (const auto erased = driver.allocations.erase(global.address, [](const Allocation&) { return true; }))
      driver.give_back(*erased);
  globals_.clear();
} catch (...) { // no memory for a list of what to free: the rest stays charged until the process ends
}

std::shared_ptr<Function> LoadedModule::function(const std::string& name) {
  const std::lock_guard guard(mutex_);
  if (const auto known = functions_.find(name); known != functions_.end())
    return known->second;
  const auto& kernels = program_->kernels();
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    if (kernels[i].name != name)
      continue;
    auto function = std::make_shared<Function>(shared_from_this(), program_, i);
    function->handle = Driver::instance().functions.insert(function);
    functions_.emplace(name, function);
    return function;
  }
  return nullptr;
}

std::vector<std::shared_ptr<Function>> LoadedModule::functions() {
  std::vector<std::shared_ptr<Function>> all;
  for (const std::string& name : code->entry_names())
    if (auto each = function(name))
      all.push_back(std::move(each));
  return all;
}

// NVRTC declares no variable .visible, and cards find them: so any will do, a visible one first.
bool LoadedModule::global(const std::string& name, Global& found) const noexcept {
  const auto& infos = code->globals();
  bool any = false;
  for (std::size_t i = 0; i < infos.size() && i < globals_.size(); ++i) {
    if (infos[i].name != name || (any && !infos[i].visible))
      continue;
    found = globals_[i];
    any = true;
    if (infos[i].visible)
      break;
  }
  return any;
}

Kernel::Kernel(std::shared_ptr<Library> library_, std::string name_)
    : library(library_), code(library_->code), name(std::move(name_)) {}

std::shared_ptr<Function> Kernel::in(const std::shared_ptr<Context>& context, CUresult& error) {
  if (!code->refusal().empty()) {
    error = refuse(*code, name);
    return nullptr;
  }
  const std::shared_ptr<Library> owner = library.lock();
  if (!owner) {
    error = CUDA_ERROR_INVALID_HANDLE;
    return nullptr;
  }
  const std::shared_ptr<LoadedModule> module = owner->in(context, error);
  if (!module)
    return nullptr;
  std::shared_ptr<Function> function = module->function(name);
  error = function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
  return function;
}

std::shared_ptr<LoadedModule> Library::in(const std::shared_ptr<Context>& context, CUresult& error) {
  const std::lock_guard guard(mutex_);
  error = CUDA_SUCCESS;
  if (const auto known = modules_.find(context->id()); known != modules_.end())
    if (auto module = known->second.lock())
      return module;
  JitLog log;
  auto module = LoadedModule::load(context, code, log, error);
  if (module) {
    module->of_library = true;
    modules_[context->id()] = module;
  }
  return module;
}

std::shared_ptr<Kernel> Library::kernel(const std::string& name) {
  if (!code->has_entry(name))
    return nullptr;
  const std::lock_guard guard(mutex_);
  auto& kernel = kernels_[name];
  if (!kernel) {
    kernel = std::make_shared<Kernel>(shared_from_this(), name);
    kernel->handle = Driver::instance().kernels.insert(kernel);
  }
  return kernel;
}

void Library::unload() noexcept {
  const std::lock_guard guard(mutex_);
  for (const auto& [id, weak] : modules_)
    if (const auto module = weak.lock()) {
      module->context->synchronize();
      module->context->forget_module(module.get());
      module->unload();
    }
  for (const auto& [name, kernel] : kernels_)
    Driver::instance().kernels.erase(kernel->handle);
  modules_.clear();
  kernels_.clear();
}

} // namespace aliquot::simgpu::driver
