// Kernels from PTX on host cores: a warp at a time, 32 lanes a step.
//
// `compile` turns a parsed module into operations over register rows of 32 lanes; `Grid` runs one launch of
// one kernel, resumably, on as many host threads as call it. This layer knows no CUDA API, no streams, no
// other processes and no clock: the driver gives it memory, tells it when to yield, and turns its faults into
// errors.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "native/simgpu/exec/device_heap.hpp"
#include "native/simgpu/ptx/ast.hpp"

namespace aliquot::simgpu::exec {

// Generic-address windows for memory that belongs to a block or a thread. Bit 48 and up never occur in a
// user-space address on x86-64 or AArch64 with 48-bit addresses, so they cannot meet a device or host
// pointer.
inline constexpr std::uint64_t kSharedWindow = std::uint64_t{1} << 48;
inline constexpr std::uint64_t kLocalWindow = std::uint64_t{2} << 48;
inline constexpr std::uint32_t kWarpLanes = 32;

// A stretch of device-visible addresses. The bytes of device address `a` lie at host address `a + delta`.
struct Range {
  std::uint64_t begin = 0, end = 0; // device addresses, end exclusive; empty = nothing mapped
  std::int64_t delta = 0;
  bool writable = true;
};

// What a kernel may touch. The interpreter caches ranges for the length of one Grid::run call.
// Called from several threads at once.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual Range find(std::uint64_t address) const noexcept = 0;
};

enum class FaultKind : std::uint8_t {
  None,
  IllegalAddress,      // CUDA_ERROR_ILLEGAL_ADDRESS
  MisalignedAddress,   // CUDA_ERROR_MISALIGNED_ADDRESS
  InvalidAddressSpace, // CUDA_ERROR_INVALID_ADDRESS_SPACE
  Trap,                // trap; CUDA_ERROR_LAUNCH_FAILED
  Assert,              // __assertfail; CUDA_ERROR_ASSERT
  IllegalInstruction,  // CUDA_ERROR_ILLEGAL_INSTRUCTION
  InvalidPc,           // CUDA_ERROR_INVALID_PC: indirect call to what is no function
  StackOverflow,       // CUDA_ERROR_HARDWARE_STACK_ERROR
  HostMemory, // the host could not give the memory to run this launch: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
};

struct Fault {
  FaultKind kind = FaultKind::None;
  std::uint64_t address = 0;
  std::uint32_t block[3] = {}, thread[3] = {};
  std::string message; // kernel, PTX line, what was touched; one line, for the log
};

struct Dim3 {
  std::uint32_t x = 1, y = 1, z = 1;
};

struct Parameter {
  std::uint32_t offset = 0, size = 0, alignment = 1; // bytes in the parameter block
};

struct KernelInfo {
  std::string name;
  std::vector<Parameter> parameters;
  std::uint32_t parameter_bytes = 0;
  std::uint32_t registers = 0; // 32-bit registers a thread, estimated from live ranges, 1..255
  std::uint32_t static_shared_bytes = 0;
  std::uint32_t local_bytes = 0; // a thread
  std::uint32_t const_bytes = 0;
  std::uint32_t max_threads = 1024; // from .maxntid / .reqntid
  Dim3 required_threads{0, 0, 0};   // .reqntid, zeros where not given
};

// A module-scope .global or .const variable, for which the driver gives device memory before `compile`.
struct GlobalInfo {
  std::string name;
  std::uint64_t size = 0;
  std::uint32_t alignment = 1;
  bool constant = false;
  bool visible = true; // cuModuleGetGlobal finds it
};

// The variables that need device memory, in the order in which `compile` wants their addresses.
std::vector<GlobalInfo> globals_of(const ptx::Module& module);

// Bytes that a global holds at load; relocations applied with the addresses given (same order as globals_of).
// `function_tokens` are what a function's address is (see Program::function_token).
class Program;

struct CompileResult {
  std::shared_ptr<const Program> program; // null on error
  std::string message;                    // what is not understood or unresolved, with PTX line; for the log
  bool unsupported = false;               // valid PTX that we do not implement, rather than invalid PTX
};

// Decodes a module. `global_addresses[i]` is the device address of globals_of(module)[i].
CompileResult compile(const ptx::Module& module, const std::vector<std::uint64_t>& global_addresses);

// What compile() would refuse in the module's functions, an instruction each, with lines. Empty: nothing.
std::vector<std::string> refusals(const ptx::Module& module);
// The instructions that have any form at all, by their names.
std::vector<std::string_view> instructions();

// Whether a kernel of the module may call device malloc or free, and so wants Launch::heap.
bool uses_device_heap(const ptx::Module& module);

class Program {
 public:
  virtual ~Program() = default;
  virtual const std::vector<KernelInfo>& kernels() const noexcept = 0;
  // Initial bytes of global i, relocations applied; empty means zeros.
  virtual std::vector<std::uint8_t> initial_bytes(std::size_t global) const = 0;
};

struct Launch {
  std::shared_ptr<const Program> program;
  std::size_t kernel = 0; // index into Program::kernels()
  Dim3 grid, block;
  std::uint32_t dynamic_shared_bytes = 0;
  std::vector<std::uint8_t> parameters; // KernelInfo::parameter_bytes
  bool cooperative = false;             // grid-wide barrier allowed: all blocks are resident at once
  // With `cooperative`: where cooperative groups keep their grid-wide barrier (grid_workspace in
  // cooperative_groups/details/driver_abi.h). Kernels find it through %envreg1 and %envreg2, which are 0
  // otherwise.
  alignas(8) mutable std::array<std::uint8_t, 16> grid_workspace{};
  std::uint32_t sm_count = 1;        // %nsmid
  std::uint32_t clock_khz = 1000000; // %clock, %clock64
  std::uint32_t resident_blocks = 0; // how many a card holds at once: so many may sleep; 0: by block size
  bool report_waits = false;         // run() returns Waiting; otherwise it naps until something can go on
  DeviceHeap* heap = nullptr;        // of device malloc and free; without one malloc returns null
  std::function<void(std::string_view)> print; // device printf; may be called from several threads
};

enum class Progress : std::uint8_t {
  Done,    // this thread finds nothing more to do; the grid is complete when all threads have returned Done
  Yielded, // `stop` was set: blocks that were under way are kept and resumed by the next run
  Faulted, // fault() tells; other threads return Faulted soon
  // Only with Launch::report_waits: everything that this thread could run sleeps (nanosleep, or a loop that
  // does nothing but read a timer) until Grid::wake_ns(). Run again then, or earlier. The kernel is under way
  // and holds the card; only the host thread is free.
  Waiting,
};

// One launch under way. Several host threads may call run at once, each with its own Worker.
class Grid {
 public:
  virtual ~Grid() = default;
  virtual Progress run(class Worker& worker, const Memory& memory,
                       const std::atomic<bool>& stop) noexcept = 0;
  virtual bool complete() const noexcept = 0; // every block has finished
  virtual Fault fault() const = 0;
  // CLOCK_MONOTONIC in ns when the first sleeping block wakes; 0 where none sleeps. Any thread may ask.
  virtual std::uint64_t wake_ns() const noexcept = 0;
  virtual std::uint64_t lane_instructions() const noexcept = 0; // executed so far, active lanes only
};

// Scratch memory of one host thread (register rows, shared memory of the block it runs); reused between
// grids.
class Worker {
 public:
  virtual ~Worker() = default;
};
std::unique_ptr<Worker> make_worker();

// Null and `fault` where the launch cannot be set up (host memory).
std::unique_ptr<Grid> make_grid(Launch launch, Fault& fault);

// The vector instruction set chosen at load: "avx512", "avx2" or "baseline". ALIQUOT_SIMGPU_ISA may ask for a
// lower one, for tests and measurements.
std::string_view isa() noexcept;

} // namespace aliquot::simgpu::exec
