// Telling processes apart, and the living from the dead.
//
// A pid alone is reused; pid and start time are not. exec keeps both, and frees all the memory: the address
// of the initial stack, which exec moves, tells images apart. Across pid namespaces a pid says nothing: a
// process of another namespace is taken to be alive (its slot comes back when a process of its own namespace
// looks).
#pragma once

#include <cstdint>
#include <sys/types.h>

namespace aliquot::simgpu::machine {

struct ProcessFacts {
  pid_t pid = 0;
  char state = 0;                // as in /proc/<pid>/stat; 0: there is no such process
  std::uint64_t start_ticks = 0; // clock ticks since boot
  std::uint64_t image = 0;       // address of the initial stack; 0: not ours to know
};

enum class Life : std::uint8_t { Alive, Stopped, Dead };

// Reads /proc. False if it cannot be read for another reason than that the process is gone.
bool read_process(pid_t pid, ProcessFacts& facts) noexcept;

// pid : 22 bits, namespace hash : 8, image hash : 10, start time : 24. Never 0.
std::uint64_t identity_of(const ProcessFacts& facts) noexcept;
pid_t identity_pid(std::uint64_t identity) noexcept;

Life life_of(std::uint64_t identity) noexcept;

// The name of the program, for people.
void read_command(pid_t pid, char (&command)[32]) noexcept;

} // namespace aliquot::simgpu::machine
