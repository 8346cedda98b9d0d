// Device code: from an image to something that can be launched.
//
//   Code          what an image holds: the parsed PTX, one for all contexts
//   LoadedModule  Code in one context: its variables have addresses, its kernels can run
//   Library       Code that is loaded into each context when it is first used there
//   Function      a kernel of a LoadedModule (CUfunction); Kernel, one of a Library (CUkernel)
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/context.hpp"
#include "native/simgpu/exec/exec.hpp"
#include "native/simgpu/ptx/ast.hpp"

namespace aliquot::simgpu::image {
struct Contents;
}

namespace aliquot::simgpu::driver {

class Library;

// The text buffers a client hands in with CU_JIT_INFO_LOG_BUFFER and CU_JIT_ERROR_LOG_BUFFER.
class JitLog {
 public:
  JitLog() = default;
  // Reads the options; false where a value cannot be.
  bool read(unsigned count, const CUjit_option* options, void** values) noexcept;
  // Puts `message` into the client's error buffer and on the log.
  void error(const std::string& message) noexcept;
  void info(const std::string& message) noexcept;
  // CU_JIT_MAX_REGISTERS, the one other option that changes what a program sees; 0: not given.
  unsigned max_registers() const noexcept { return max_registers_; }

 private:
  struct Buffer {
    char* text = nullptr;
    std::size_t bytes = 0;
    void** bytes_option = nullptr; // takes how much was filled, as the vendor's driver does
    bool usable() const noexcept;
    void put(const std::string& message) noexcept;
  };
  Buffer error_, info_;
  unsigned max_registers_ = 0;
};

class Code {
 public:
  // Null and `error` where the image cannot be used. `known_bytes` as in image::read.
  static std::shared_ptr<const Code> read(const void* image, std::size_t known_bytes,
                                          std::uint32_t capability, JitLog& log, CUresult& error);
  // The same, for what is loaded when it is used: a fat binary of machine code alone gives its kernels'
  // names, and load() and info() fail. A program may never use it, and others may be in the same program.
  static std::shared_ptr<const Code> read_lazily(const void* image, std::size_t known_bytes,
                                                 std::uint32_t capability, JitLog& log, CUresult& error);

  const ptx::Module& module() const noexcept { return module_; }
  const std::vector<exec::GlobalInfo>& globals() const noexcept { return globals_; }
  // Entry functions with a body, in the order of the module.
  const std::vector<std::string>& entry_names() const noexcept { return entry_names_; }
  bool has_entry(const std::string& name) const noexcept;
  // Why no card here can run it; empty where one can.
  const std::string& refusal() const noexcept { return refusal_; }
  // Facts about a kernel without a context to load it into; a log line says why the code does not compile.
  CUresult info(const std::string& entry, const exec::KernelInfo*& found) const;

 private:
  static std::shared_ptr<const Code> parse(const image::Contents& contents, JitLog& log, CUresult& error);

  ptx::Module module_;
  std::vector<exec::GlobalInfo> globals_;
  std::vector<std::string> entry_names_;
  std::string refusal_;
  mutable std::mutex sample_mutex_;
  mutable std::shared_ptr<const exec::Program> sample_; // compiled with no real addresses, for its facts
};

// Settings of a kernel that cuFuncSetAttribute and cuKernelSetAttribute change.
struct KernelSettings {
  std::atomic<int> max_dynamic_shared_bytes{0};
  std::atomic<int> shared_carveout{-1};
  std::atomic<int> cache_config{CU_FUNC_CACHE_PREFER_NONE};
  std::atomic<int> cluster[3] = {0, 0, 0};
  std::atomic<int> cluster_must_be_set{0}, non_portable_cluster{0}, cluster_scheduling{0};
};

class Function {
 public:
  Function(std::shared_ptr<LoadedModule> module_, std::shared_ptr<const exec::Program> program_,
           std::size_t index_);

  const exec::KernelInfo& info() const noexcept;

  const std::weak_ptr<LoadedModule> module;
  const std::shared_ptr<Context> context;
  const std::shared_ptr<const exec::Program> program;
  const std::size_t index; // into Program::kernels()
  void* handle = nullptr;
  KernelSettings settings;

  // Parameters set by the calls that came before cuLaunchKernel (cuParamSet*, cuFuncSetBlockShape).
  std::mutex legacy_mutex;
  std::vector<std::uint8_t> legacy_parameters;
  unsigned legacy_block[3] = {1, 1, 1};
  unsigned legacy_shared = 0;
};

class LoadedModule : public std::enable_shared_from_this<LoadedModule> {
 public:
  struct Global {
    std::uint64_t address = 0, bytes = 0;
  };

  static std::shared_ptr<LoadedModule> load(const std::shared_ptr<Context>& context,
                                            const std::shared_ptr<const Code>& code, JitLog& log,
                                            CUresult& error);
  // Ends its functions' handles and frees its variables.
  void unload() noexcept;

  std::shared_ptr<Function> function(const std::string& name);
  // All kernels, in the order of the module.
  std::vector<std::shared_ptr<Function>> functions();
  bool global(const std::string& name, Global& found) const noexcept;

  const std::shared_ptr<Context> context;
  const std::shared_ptr<const Code> code;
  void* handle = nullptr;
  bool of_library = false;

  LoadedModule(std::shared_ptr<Context> context_, std::shared_ptr<const Code> code_)
      : context(std::move(context_)), code(std::move(code_)) {}

 private:
  CUresult place_code();
  CUresult place_globals();
  CUresult fill_globals();

  std::shared_ptr<const exec::Program> program_;
  Global code_memory_; // what its machine code would take
  std::vector<Global> globals_;
  std::mutex mutex_; // guards functions_
  std::map<std::string, std::shared_ptr<Function>> functions_;
};

class Kernel {
 public:
  Kernel(std::shared_ptr<Library> library_, std::string name_);
  // The kernel in `context`, loading the library there if it is not yet.
  std::shared_ptr<Function> in(const std::shared_ptr<Context>& context, CUresult& error);

  const std::weak_ptr<Library> library;
  const std::shared_ptr<const Code> code;
  const std::string name;
  void* handle = nullptr;
  KernelSettings settings;
};

class Library : public std::enable_shared_from_this<Library> {
 public:
  explicit Library(std::shared_ptr<const Code> code_) : code(std::move(code_)) {}

  std::shared_ptr<LoadedModule> in(const std::shared_ptr<Context>& context, CUresult& error);
  std::shared_ptr<Kernel> kernel(const std::string& name);
  void unload() noexcept;

  const std::shared_ptr<const Code> code;
  void* handle = nullptr;

 private:
  std::mutex mutex_;                                             // guards the rest
  std::map<std::uint64_t, std::weak_ptr<LoadedModule>> modules_; // by context id
  std::map<std::string, std::shared_ptr<Kernel>> kernels_;
};

} // namespace aliquot::simgpu::driver
