// What /proc says of a process: the one reader of /proc/PID/stat and /proc/PID/comm.
//
// Who holds what, and how an identity is packed into a word, is for those who keep the word. Nothing here
// allocates or throws.
#pragma once

#include <cstdint>
#include <sys/types.h>

namespace aliquot::common {

// Fields of /proc/PID/stat, by their numbers in proc(5).
struct ProcessStatus {
  pid_t pid = 0;
  char state = 0;                // 3; 0: there is no such process
  std::uint64_t threads = 0;     // 20
  std::uint64_t start_ticks = 0; // 22: clock ticks from boot
  std::uint64_t stack_start = 0; // 28: 0 where the kernel does not tell us, or the memory is gone

  // Holds no memory any more. A leader that ended while its other threads go on looks like a zombie, too.
  bool ended() const noexcept { return state == 0 || ((state == 'Z' || state == 'X') && threads <= 1); }
};

// False where it cannot be told, as of another user's process on a /proc that hides them.
bool read_process_status(pid_t pid, ProcessStatus& status) noexcept;

// The inode of our pid namespace, 0 where it could not be read. A pid means something within one only.
std::uint64_t pid_namespace_inode() noexcept;

// The program's name, for people; empty where it could not be read.
void read_command_name(pid_t pid, char (&name)[32]) noexcept;

} // namespace aliquot::common
