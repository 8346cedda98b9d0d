// A kernel launch as a command of a stream.
#pragma once

#include <memory>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/code.hpp"
#include "native/simgpu/driver/core/stream.hpp"
#include "native/simgpu/exec/exec.hpp"

namespace aliquot::simgpu::driver {

class KernelCommand final : public Command {
 public:
  KernelCommand(std::shared_ptr<Function> function, exec::Launch launch);
  Outcome run(Stream& stream) noexcept override;
  bool light() const noexcept override { return false; }

 private:
  bool prepare(Context& context) noexcept;
  static void suffer(Context& context, std::uint64_t began_ns, bool done) noexcept;
  void report(Context& context, const exec::Fault& fault) noexcept;

  const std::shared_ptr<Function> function_;
  exec::Launch launch_;
  const std::uint64_t blocks_;
  std::unique_ptr<exec::Grid> grid_; // made when it first runs; kept over a yield
};

// The sticky error that a fault becomes.
CUresult result_of(exec::FaultKind kind) noexcept;

} // namespace aliquot::simgpu::driver
