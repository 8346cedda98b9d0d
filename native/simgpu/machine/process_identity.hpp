// Telling processes apart, and the living from the dead.
//
// A pid alone is reused; pid and start time are not. exec keeps both, and frees all the memory: the address
// of the initial stack, which exec moves, tells images apart. Across pid namespaces a pid says nothing: a
// process of another namespace is taken to be alive (its slot comes back when a process of its own namespace
// looks).
#pragma once

#include <cstdint>
#include <sys/types.h>

#include "native/common/process_status.hpp"

namespace aliquot::simgpu::machine {

enum class Life : std::uint8_t { Alive, Stopped, Dead };

// pid : 22 bits, namespace hash : 8, image hash : 10, start time : 24. Never 0.
std::uint64_t identity_of(const common::ProcessStatus& status) noexcept;
pid_t identity_pid(std::uint64_t identity) noexcept;

Life life_of(std::uint64_t identity) noexcept;

} // namespace aliquot::simgpu::machine
