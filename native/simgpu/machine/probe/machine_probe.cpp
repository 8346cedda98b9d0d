// Does with the simulated machine what its standard input says, one command a line, one answer a line.
//
//   reserve CARD BYTES       ok | out-of-vram | out-of-host-budget | unavailable
//   release CARD BYTES       ok
//   vram CARD                USED TOTAL
//   acquire CARD             ok
//   yield? CARD              yes | no
//   give CARD                ok
//   spin CARD MS             works on the engine for MS in turns as a driver does; answers the turns it took
//   kernels CARD MS US       the same in kernels of US microseconds, giving the engine back after each
//   launch CARD | copy CARD DIRECTION BYTES
//   fork                     what a forked child gets from reserve, acquire and release
//   time-engine N | time-poll N | time-reserve N   nanoseconds a call
//   usurp PATH               closes the descriptors that it did not open, and opens PATH under their numbers
//   exec                     replaces the program by `sleep`
//   churn SEED               random work until it is killed; answers nothing
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace {

using namespace aliquot::simgpu::machine;

const std::atomic<bool> kNever{false};

const char* word(Status status) {
  switch (status) {
  case Status::Ok:
    return "ok";
  case Status::OutOfVram:
    return "out-of-vram";
  case Status::OutOfHostBudget:
    return "out-of-host-budget";
  case Status::TooManyProcesses:
    return "too-many-processes";
  case Status::BadSetting:
    return "bad-setting";
  case Status::Unavailable:
    return "unavailable";
  }
  return "?";
}

// Holds the engine for `us` of work or until it has to yield, polling as a driver does between chunks of
// blocks.
void work(Machine& machine, std::uint32_t card, std::uint64_t us) {
  const std::uint64_t end = monotonic_ns() + us * 1000;
  while (monotonic_ns() < end && !machine.engine_should_yield(card)) {
    const std::uint64_t pause = monotonic_ns() + 20'000;
    while (monotonic_ns() < pause) {
    }
  }
}

std::uint64_t left_us(std::uint64_t end_ns) {
  const std::uint64_t now = monotonic_ns();
  return now < end_ns ? (end_ns - now) / 1000 : 0;
}

unsigned spin(Machine& machine, std::uint32_t card, std::uint64_t ms, std::uint64_t us) {
  const std::uint64_t end = monotonic_ns() + ms * 1'000'000;
  unsigned turns = 0;
  while (monotonic_ns() < end) {
    machine.engine_acquire(card, kNever);
    ++turns;
    work(machine, card, std::min(us, left_us(end)));
    machine.engine_release(card);
  }
  return turns;
}

std::string fork_report(Machine& machine) {
  int pipe_ends[2];
  if (::pipe(pipe_ends) != 0)
    return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    machine.release(0, 1 << 20);
    std::string report = word(machine.reserve(0, 1));
    report += machine.engine_acquire(0, kNever) ? " held" : " refused";
    const ssize_t written = ::write(pipe_ends[1], report.data(), report.size());
    // Leaves through exit, so that static destructors and the machine's own run in the child too.
    std::exit(written > 0 ? 0 : 1);
  }
  ::close(pipe_ends[1]);
  char text[64] = {};
  [[maybe_unused]] const ssize_t got = ::read(pipe_ends[0], text, sizeof text - 1);
  ::close(pipe_ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return std::string(text) + (WIFEXITED(status) && WEXITSTATUS(status) == 0 ? " exited" : " crashed");
}

template <typename Call>
std::string time_calls(unsigned long count, Call&& call) {
  const std::uint64_t start = monotonic_ns();
  for (unsigned long i = 0; i < count; ++i)
    call();
  return std::to_string(static_cast<double>(monotonic_ns() - start) / static_cast<double>(count));
}

// Allocates, frees and takes turns at random. Anything may be its last instruction.
[[noreturn]] void churn(Machine& machine, unsigned seed) {
  std::mt19937_64 random(seed);
  const auto cards = static_cast<std::uint32_t>(machine.cards().size());
  std::vector<std::uint64_t> held(cards, 0);
  for (;;) {
    const auto card = static_cast<std::uint32_t>(random() % cards);
    const std::uint64_t bytes = random() % (64 << 20);
    switch (random() % 4) {
    case 0:
    case 1:
      if (machine.reserve(card, bytes) == Status::Ok)
        held[card] += bytes;
      break;
    case 2: {
      const std::uint64_t part = std::min(bytes, held[card]);
      machine.release(card, part);
      held[card] -= part;
      break;
    }
    default:
      machine.engine_acquire(card, kNever);
      machine.count_launch(card);
      work(machine, card, random() % 200);
      machine.engine_release(card);
    }
  }
}

std::string obey(Machine& machine, const std::string& name, std::istringstream& rest) {
  std::uint64_t card64 = 0, amount = 0, more = 0;
  rest >> card64 >> amount >> more;
  const auto card = static_cast<std::uint32_t>(card64);
  if (name == "reserve")
    return word(machine.reserve(card, amount));
  if (name == "release")
    return machine.release(card, amount), "ok";
  if (name == "vram")
    return std::to_string(machine.vram(card).used) + " " + std::to_string(machine.vram(card).total);
  if (name == "acquire")
    return machine.engine_acquire(card, kNever) ? "ok" : "refused";
  if (name == "yield?")
    return machine.engine_should_yield(card) ? "yes" : "no";
  if (name == "give")
    return machine.engine_release(card), "ok";
  if (name == "spin")
    return std::to_string(spin(machine, card, amount, 1'000'000));
  if (name == "kernels")
    return std::to_string(spin(machine, card, amount, more));
  if (name == "launch")
    return machine.count_launch(card), "ok";
  if (name == "copy")
    return machine.count_copy(card, static_cast<Copy>(amount), more), "ok";
  if (name == "fork")
    return fork_report(machine);
  return "unknown command";
}

// What a program does that makes itself a daemon.
std::string usurp(std::istringstream& rest) {
  std::string path;
  rest >> path;
  for (int fd = 3; fd < 256; ++fd)
    ::close(fd);
  int last = -1;
  for (int i = 0; i < 32; ++i)
    last = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  return last >= 0 ? "ok" : "refused";
}

std::string measure(Machine& machine, const std::string& name, std::istringstream& rest) {
  unsigned long count = 0;
  rest >> count;
  if (name == "time-engine")
    return time_calls(count, [&] {
      machine.engine_acquire(0, kNever);
      machine.engine_release(0);
    });
  if (name == "time-reserve")
    return time_calls(count, [&] {
      machine.reserve(0, 4096);
      machine.release(0, 4096);
    });
  machine.engine_acquire(0, kNever);
  const std::string result = time_calls(count, [&] { machine.engine_should_yield(0); });
  machine.engine_release(0);
  return result;
}

} // namespace

int main() {
  Status status;
  std::string message;
  const std::shared_ptr<Machine> machine = Machine::open(true, status, message);
  if (machine == nullptr) {
    std::cout << word(status) << " " << message << std::endl;
    return 1;
  }
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream rest(line);
    std::string name;
    rest >> name;
    if (name == "churn") {
      unsigned seed = 0;
      rest >> seed;
      churn(*machine, seed);
    }
    if (name == "usurp") {
      std::cout << usurp(rest) << std::endl;
      continue;
    }
    if (name == "exec")
      ::execlp("sleep", "sleep", "60", nullptr);
    std::cout << (name.rfind("time-", 0) == 0 ? measure(*machine, name, rest) : obey(*machine, name, rest))
              << std::endl;
  }
  return 0;
}
