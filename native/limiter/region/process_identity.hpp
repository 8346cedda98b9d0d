// Who a process is, so that a pid that was given out again is told apart, and whether it still lives.
#pragma once

#include <cstdint>

namespace aliquot::limiter {

struct ProcessIdentity {
  std::uint32_t pid = 0;
  std::uint64_t start_ticks = 0;     // field 22 of /proc/PID/stat (proc(5)); 0 where it could not be read
  std::uint64_t namespace_inode = 0; // of the pid namespace; 0 where it could not be read
};

ProcessIdentity identify_self() noexcept;

// Surely gone, or a zombie, which holds no device memory any more. False where it cannot be told. Both
// processes must be of the same pid namespace.
bool is_dead(std::uint32_t pid, std::uint64_t start_ticks) noexcept;

// What a slot's owner word says.
struct OwnerWord {
  std::uint32_t pid = 0;
  std::uint32_t pid_namespace = 0; // index into the account's table plus 1; 0: unknown
  std::uint64_t start_ticks = 0;
  bool claiming = false; // the slot is being taken and holds nothing yet

  std::uint64_t pack() const noexcept;
  static OwnerWord unpack(std::uint64_t word) noexcept;
};

} // namespace aliquot::limiter
