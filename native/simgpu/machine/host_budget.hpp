// How much host memory simulated VRAM may take.
//
// VRAM costs host memory only once it is touched, but whoever touches it gets no error any more, only the
// kernel's out-of-memory killer. So what is reserved is bounded: per machine home, and over all homes of a
// user.
#pragma once

#include <cstdint>
#include <string_view>

namespace aliquot::simgpu::machine {

struct HostMemory {
  std::uint64_t total = 0;     // of the host, or of the cgroup that bounds this process
  std::uint64_t available = 0; // without pushing others out
};

HostMemory read_host_memory() noexcept;

// "8GiB", "8Gi", "500MB", "1073741824", whole numbers only. False if it is none of these.
bool parse_bytes(std::string_view text, std::uint64_t& bytes) noexcept;

struct BudgetLimits {
  std::uint64_t home = 0; // ALIQUOT_SIMGPU_HOST_BYTES, else a safe part of the host
  std::uint64_t user = 0; // the safe part, or what the variable says if that is more
};

BudgetLimits budget_limits() noexcept;

} // namespace aliquot::simgpu::machine
