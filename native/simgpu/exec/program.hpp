// Decoded functions as the running grid sees them: operations, frame layout, calls. Written once by
// compile(), never changed afterwards, shared by all launches.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "native/simgpu/exec/exec.hpp"
#include "native/simgpu/exec/op.hpp"

namespace aliquot::simgpu::exec {

// Special registers. Those up to kLastUniform are the same for all threads of a block.
enum class Special : std::uint32_t {
  NtidX,
  NtidY,
  NtidZ,
  NctaidX,
  NctaidY,
  NctaidZ,
  CtaidX,
  CtaidY,
  CtaidZ,
  NwarpId,
  NsmId,
  GridId,
  DynamicShared,
  TotalShared,
  DynamicSharedBase,
  GridWorkspaceHigh, // halves of the address of Launch::grid_workspace
  GridWorkspaceLow,
  Zero,
  One,
  LastUniform = One,
  TidX,
  TidY,
  TidZ,
  LaneId,
  WarpId,
  LaneMaskEq,
  LaneMaskLe,
  LaneMaskLt,
  LaneMaskGe,
  LaneMaskGt,
  LocalBase, // of the thread's local memory in this activation
  LastConstant = LocalBase,
  SmId,
  Clock,
  ClockHigh,
  Clock64,
  GlobalTimer,
  GlobalTimerLow,
  GlobalTimerHigh,
};

// A row that holds a constant of the code.
struct ConstantRow {
  std::uint32_t offset;
  std::uint8_t width; // bytes a lane; 0: a predicate
  std::uint64_t bits;
};

// A row of a kernel's frame that the launch, the block or the warp decides; written before the warp starts.
struct LaunchRow {
  std::uint32_t offset;
  std::uint8_t width;
  bool parameter;       // else special
  std::uint32_t which;  // byte offset in the parameter block, or Special
  std::uint64_t addend; // to a special
};

// Flag of LaunchRow::which: the parameter is one byte, in a 16-bit row.
inline constexpr std::uint32_t kByteParameter = 0x80000000u;
inline constexpr std::uint64_t kMostParameterBytes = 32768;

struct FrameSlot {
  std::uint32_t offset, bytes;
};

struct Function {
  std::string name;
  std::vector<Op> ops;
  std::uint32_t frame_bytes = 0;
  std::vector<ConstantRow> constants;
  std::vector<LaunchRow> launch_rows;
  std::vector<FrameSlot> parameters, returns; // words
  std::uint32_t local_bytes = 0;              // of one activation, a thread
  bool is_kernel = false;
  std::uint32_t index = 0;
};

enum class SystemFunction : std::uint8_t { None, Vprintf, AssertFail, Malloc, Free };

struct CallSite {
  const Function* callee = nullptr; // null: indirect, or a system function
  SystemFunction system = SystemFunction::None;
  std::vector<FrameSlot> arguments, results; // words in the caller's frame
};

struct Kernel {
  const Function* function = nullptr;
  std::uint32_t local_bytes = 0; // a thread, calls included
  std::string refusal;           // why it cannot run: it reaches an instruction that is not implemented
};

// What a function's address is in device code.
inline constexpr std::uint64_t kFunctionWindow = std::uint64_t{7} << 48;
inline std::uint64_t function_token(std::uint32_t index) {
  return kFunctionWindow + std::uint64_t{index} * 16 + 16;
}
// Generic addresses of the kernel's parameters (cvta.param).
inline constexpr std::uint64_t kParameterWindow = std::uint64_t{3} << 48;
// Where a kernel of a cooperative launch sees Launch::grid_workspace.
inline constexpr std::uint64_t kGridWindow = std::uint64_t{4} << 48;

class CompiledProgram final : public Program {
 public:
  const std::vector<KernelInfo>& kernels() const noexcept override { return kernel_infos; }
  std::vector<std::uint8_t> initial_bytes(std::size_t global) const override {
    return global < initial.size() ? initial[global] : std::vector<std::uint8_t>{};
  }

  const Function* function_of_token(std::uint64_t token) const noexcept {
    std::uint64_t slot = (token - kFunctionWindow) / 16 - 1;
    return token > kFunctionWindow && token % 16 == 0 && slot < functions.size() &&
                   !functions[slot]->ops.empty()
               ? functions[slot].get()
               : nullptr;
  }

  std::vector<std::unique_ptr<Function>> functions; // same indices as the module's
  std::vector<std::unique_ptr<CallSite>> calls;
  std::vector<std::unique_ptr<std::vector<const Op*>>> branch_tables;
  std::vector<KernelInfo> kernel_infos;
  std::vector<Kernel> kernels_;
  std::vector<std::vector<std::uint8_t>> initial;
  std::uint32_t sites = 1;
};

} // namespace aliquot::simgpu::exec
