#include "native/simgpu/driver/core/kernel_command.hpp"

#include <algorithm>
#include <ctime>

#include "native/common/log.hpp"
#include "native/simgpu/driver/core/driver.hpp"
#include "native/simgpu/driver/core/executor.hpp"
#include "native/simgpu/machine/faults.hpp"

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

namespace {

constexpr std::uint64_t kRestNs = 2'000'000;

// What the card reports when a kernel does wrong: the Xid that the vendor's "XID Errors" guide gives it.
void report_xid(const Context& context, exec::FaultKind kind) noexcept {
  std::uint32_t xid = 13; // graphics engine exception
  switch (kind) {
  case exec::FaultKind::None:
  case exec::FaultKind::HostMemory:
    return; // the card has no part in it
  case exec::FaultKind::IllegalAddress:
    xid = 31; // memory management fault
    break;
  case exec::FaultKind::Trap:
  case exec::FaultKind::Assert:
    xid = 43; // the program stopped itself
    break;
  default:
    break;
  }
  machine::Machine& machine = *Driver::instance().machine;
  machine.report_kernel_fault(context.device().card, xid);
}

} // namespace

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
  report_xid(context, kind);
  common::log_line(common::LogLevel::Error, "%s",
                   fault.message.empty() ? "the host has no memory to run a kernel" : fault.message.c_str());
}

// What a card does beside running the kernel, on demand: hangs, and runs slower than its clock could.
void KernelCommand::suffer(Context& context, std::uint64_t began_ns, bool done) noexcept {
  machine::Machine& machine = *Driver::instance().machine;
  const std::uint32_t card = context.device().card;
  const auto rest = [&](std::uint64_t ns) { // the engine stays ours: somebody has to say that we live
    const timespec nap{0, static_cast<long>(ns)};
    nanosleep(&nap, nullptr);
    machine.engine_should_yield(card);
    return !context.failed() && !Executor::instance().shutting_down();
  };
  const std::uint32_t percent = machine.faults().throttle(card).clock_percent;
  if (percent < 100) {
    const std::uint64_t now = now_ns(), end = now + (now - began_ns) * (100 - percent) / percent;
    for (std::uint64_t at = now; at < end && rest(std::min(end - at, kRestNs)); at = now_ns()) {
    }
  }
  while (done && machine.faults().hangs(card, machine.identity()) && rest(kRestNs))
    machine.faults().watchdog(card);
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
  const bool well = Driver::instance().machine->faults().is_well(engine.card());
  const std::uint64_t began = well ? 0 : now_ns();
  const exec::Progress progress = Executor::instance().run_grid(*grid_, context, blocks_);
  if (!well || !Driver::instance().machine->faults().is_well(engine.card()))
    suffer(context, began == 0 ? now_ns() : began, progress == exec::Progress::Done);
  engine.leave();
  if (progress == exec::Progress::Yielded)
    return Outcome::Yielded;
  if (progress == exec::Progress::Faulted)
    report(context, grid_->fault());
  return Outcome::Done;
}

} // namespace aliquot::simgpu::driver
