#include "native/simgpu/driver/core/kernel_command.hpp"

#include "native/common/log.hpp"
#include "native/simgpu/driver/core/driver.hpp"
#include "native/simgpu/driver/core/executor.hpp"

namespace aliquot::simgpu::driver {

CUresult result_of(exec::FaultKind kind) noexcept {
  switch (kind) {
  case exec::FaultKind::None:
    return CUDA_SUCCESS;
  case exec::FaultKind::IllegalAddress:
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  case exec::FaultKind::MisalignedAddress:
    return CUDA_ERROR_MISALIGNED_ADDRESS;
  case exec::FaultKind::InvalidAddressSpace:
    return CUDA_ERROR_INVALID_ADDRESS_SPACE;
  case exec::FaultKind::Trap:
    return CUDA_ERROR_LAUNCH_FAILED;
  case exec::FaultKind::Assert:
    return CUDA_ERROR_ASSERT;
  case exec::FaultKind::IllegalInstruction:
    return CUDA_ERROR_ILLEGAL_INSTRUCTION;
  case exec::FaultKind::InvalidPc:
    return CUDA_ERROR_INVALID_PC;
  case exec::FaultKind::StackOverflow:
    return CUDA_ERROR_HARDWARE_STACK_ERROR;
  case exec::FaultKind::HostMemory:
    return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  }
  return CUDA_ERROR_LAUNCH_FAILED;
}

KernelCommand::KernelCommand(std::shared_ptr<Function> function, exec::Launch launch)
    : function_(std::move(function)), launch_(std::move(launch)),
      blocks_(std::uint64_t{launch_.grid.x} * launch_.grid.y * launch_.grid.z) {}

bool KernelCommand::prepare(Context& context) noexcept {
  if (grid_)
    return true;
  exec::Fault fault;
  fault.kind = exec::FaultKind::HostMemory;
  try {
    // A context outlives its streams, and a stream its commands.
    launch_.print = [&context](std::string_view text) { context.print(text); };
    launch_.heap = context.malloc_heap();
    grid_ = exec::make_grid(std::move(launch_), fault);
  } catch (...) { // `fault` says that the host has no memory, and is reported below
  }
  if (!grid_)
    report(context, fault);
  return grid_ != nullptr;
}

void KernelCommand::report(Context& context, const exec::Fault& fault) noexcept {
  const exec::FaultKind kind = fault.kind == exec::FaultKind::None ? exec::FaultKind::HostMemory : fault.kind;
  context.fail(result_of(kind));
  common::log_line(common::LogLevel::Error, "%s",
                   fault.message.empty() ? "the host has no memory to run a kernel" : fault.message.c_str());
}

Outcome KernelCommand::run(Stream& stream) noexcept {
  Context& context = stream.context();
  CardEngine& engine = context.device().engine;
  const bool fresh = grid_ == nullptr;
  if (!prepare(context))
    return Outcome::Done;
  if (fresh)
    Driver::instance().machine->count_launch(engine.card());
  if (!engine.enter())
    return Outcome::Yielded; // the process is ending
  const exec::Progress progress = Executor::instance().run_grid(*grid_, context, blocks_);
  engine.leave();
  if (progress == exec::Progress::Yielded)
    return Outcome::Yielded;
  if (progress == exec::Progress::Faulted)
    report(context, grid_->fault());
  return Outcome::Done;
}

} // namespace aliquot::simgpu::driver
