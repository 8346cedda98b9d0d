// Processes of one slice allocate and free at random while some of them are killed; what is left must be
// exact.
//
//   limiter-storm LIMIT PROCESSES THREADS ROUNDS SEED [CONTEXT]
//
// Runs on whatever libcuda.so.1 the loader finds, so it is started with the limiter preloaded, on a slice of
// LIMIT bytes. In odd rounds half of the processes are killed at a random moment. Then the survivors keep
// what they hold, and a newcomer takes all that is left: it must get exactly the rest. A round that does not
// end in time is hung. Where a driver takes CONTEXT bytes for each process, all make their contexts before
// the slice is full. Prints one line of JSON; the status is 1 where anything was over, lost or hung.
#include <atomic>
#include <cinttypes>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <dlfcn.h>
#include <new>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aliquot/cuda_abi.h"

namespace {

constexpr unsigned kMaxProcesses = 64;
constexpr unsigned kMaxThreads = 16;
constexpr unsigned kMaxHeld = 64;
constexpr std::uint64_t kUnit = std::uint64_t{2} << 20u; // what a card hands out, so that nothing is rounded
constexpr double kPatienceSeconds = 10;

// Shared by the parent and its workers. What a worker notes here is never more than what it really holds.
struct Board {
  std::atomic<bool> stop, leave, take_rest;
  std::atomic<std::uint64_t> total, most; // right only while nobody was killed
  std::atomic<std::uint64_t> held[kMaxProcesses];
  std::atomic<bool> begin;
  std::atomic<unsigned> ready, idle; // threads
  std::atomic<std::uint64_t> taken_by_newcomer;
  std::atomic<unsigned> wrong_codes; // answers that are neither success nor out of memory
};

struct Driver {
  decltype(&::cuInit) init;
  decltype(&::cuDevicePrimaryCtxRetain) retain;
  decltype(&::cuCtxSetCurrent) set_current;
  decltype(&::cuMemAlloc_v2) allocate;
  decltype(&::cuMemFree_v2) free;
};

template <typename Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr)
    std::_Exit(3);
}

struct Worker {
  Driver driver;
  CUcontext context;
  Board* board;
  unsigned number;
  std::uint64_t seed;
};

double seconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void rest(long microseconds) {
  const timespec wait{0, microseconds * 1000};
  nanosleep(&wait, nullptr);
}

std::uint64_t next_random(std::uint64_t& state) {
  state ^= state >> 12u;
  state ^= state << 25u;
  state ^= state >> 27u;
  return state * 0x2545F4914F6CDD1Du;
}

Driver start_driver(CUcontext& context) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr)
    std::_Exit(3);
  Driver driver{};
  find(library, "cuInit", driver.init);
  find(library, "cuDevicePrimaryCtxRetain", driver.retain);
  find(library, "cuCtxSetCurrent", driver.set_current);
  find(library, "cuMemAlloc_v2", driver.allocate);
  find(library, "cuMemFree_v2", driver.free);
  if (driver.init(0) != CUDA_SUCCESS || driver.retain(&context, 0) != CUDA_SUCCESS)
    std::_Exit(4);
  driver.set_current(context);
  return driver;
}

void raise_to(std::atomic<std::uint64_t>& word, std::uint64_t value) {
  std::uint64_t seen = word.load();
  while (seen < value && !word.compare_exchange_weak(seen, value)) {
  }
}

struct Held {
  CUdeviceptr address;
  std::uint64_t bytes;
};

// One allocation: noted after the driver gave it.
bool take(Worker& worker, std::uint64_t bytes, Held& held) {
  const CUresult answer = worker.driver.allocate(&held.address, bytes);
  if (answer != CUDA_SUCCESS) {
    if (answer != CUDA_ERROR_OUT_OF_MEMORY)
      ++worker.board->wrong_codes;
    return false;
  }
  held.bytes = bytes;
  worker.board->held[worker.number].fetch_add(bytes);
  raise_to(worker.board->most, worker.board->total.fetch_add(bytes) + bytes);
  return true;
}

// And taken off the note before it is given back.
void give(Worker& worker, const Held& held) {
  worker.board->total.fetch_sub(held.bytes);
  worker.board->held[worker.number].fetch_sub(held.bytes);
  if (worker.driver.free(held.address) != CUDA_SUCCESS)
    ++worker.board->wrong_codes;
}

void* work(void* argument) {
  Worker worker = *static_cast<Worker*>(argument);
  worker.driver.set_current(worker.context);
  Held held[kMaxHeld];
  unsigned count = 0;
  ++worker.board->ready;
  while (!worker.board->begin.load())
    rest(50);
  while (!worker.board->stop.load(std::memory_order_relaxed)) {
    const std::uint64_t dice = next_random(worker.seed);
    if (count < kMaxHeld && dice % 2 == 0) {
      count += take(worker, kUnit * (1 + dice / 2 % 8), held[count]);
    } else if (count > 0) {
      const unsigned which = static_cast<unsigned>(dice / 2 % count);
      give(worker, held[which]);
      held[which] = held[--count];
    }
  }
  ++worker.board->idle;
  while (!worker.board->leave.load(std::memory_order_relaxed))
    rest(200);
  while (count > 0)
    give(worker, held[--count]);
  return nullptr;
}

[[noreturn]] void run_worker(Board* board, unsigned number, unsigned threads, std::uint64_t seed) {
  Worker workers[kMaxThreads];
  pthread_t handles[kMaxThreads];
  CUcontext context = nullptr;
  const Driver driver = start_driver(context);
  for (unsigned i = 0; i < threads; ++i) {
    workers[i] = {driver, context, board, number, (seed + 1) * 1000003 + i * 7919 + number};
    if (pthread_create(&handles[i], nullptr, work, &workers[i]) != 0)
      std::_Exit(5);
  }
  for (unsigned i = 0; i < threads; ++i)
    pthread_join(handles[i], nullptr);
  std::_Exit(0);
}

// Takes the rest of the slice, unit by unit.
[[noreturn]] void run_newcomer(Board* board) {
  CUcontext context = nullptr;
  Worker worker{start_driver(context), context, board, 0, 1};
  CUdeviceptr address = 0;
  ++board->ready;
  while (!board->take_rest.load())
    rest(100);
  while (worker.driver.allocate(&address, kUnit) == CUDA_SUCCESS)
    board->taken_by_newcomer.fetch_add(kUnit);
  std::_Exit(0);
}

// True once it has ended by itself.
bool wait_for(pid_t process) {
  for (const double begin = seconds(); seconds() - begin < kPatienceSeconds; rest(100)) {
    if (waitpid(process, nullptr, WNOHANG) == process)
      return true;
  }
  kill(process, SIGKILL);
  waitpid(process, nullptr, 0);
  return false;
}

bool wait_until(const std::atomic<unsigned>& counter, unsigned wanted) {
  for (const double begin = seconds(); seconds() - begin < kPatienceSeconds; rest(50)) {
    if (counter.load() >= wanted)
      return true;
  }
  return false;
}

struct Outcome {
  std::uint64_t over = 0, lost = 0, unaccounted = 0;
  unsigned hung = 0, wrong_codes = 0;
};

struct Storm {
  std::uint64_t limit, context;
  unsigned processes, threads;
  Board* board;

  void round(unsigned number, std::uint64_t& seed, Outcome& outcome) const;
  pid_t start_newcomer() const;
  unsigned kill_half(pid_t (&workers)[kMaxProcesses], std::uint64_t& seed) const;
};

unsigned Storm::kill_half(pid_t (&workers)[kMaxProcesses], std::uint64_t& seed) const {
  for (unsigned i = 0; i < processes / 2; ++i) {
    rest(static_cast<long>(next_random(seed) % 300));
    kill(workers[i], SIGKILL);
  }
  for (unsigned i = 0; i < processes / 2; ++i) {
    waitpid(workers[i], nullptr, 0);
    board->held[i].store(0);
  }
  return processes / 2;
}

pid_t Storm::start_newcomer() const {
  const pid_t newcomer = fork();
  if (newcomer == 0)
    run_newcomer(board);
  return newcomer;
}

void Storm::round(unsigned number, std::uint64_t& seed, Outcome& outcome) const {
  new (board) Board{};
  pid_t workers[kMaxProcesses];
  pid_t newcomer = context != 0 ? start_newcomer() : -1;
  bool hung = context != 0 && !wait_until(board->ready, 1);
  for (unsigned i = 0; i < processes; ++i) {
    workers[i] = fork();
    if (workers[i] == 0)
      run_worker(board, i, threads, next_random(seed) + i);
  }
  if (context == 0)
    board->begin.store(true);
  hung = !wait_until(board->ready, processes * threads + (context != 0)) || hung;
  board->begin.store(true);
  rest(static_cast<long>(next_random(seed) % 3000));
  const unsigned killed = number % 2 == 1 ? kill_half(workers, seed) : 0;
  rest(500);
  board->stop.store(true);
  hung = !wait_until(board->idle, (processes - killed) * threads) || hung;
  std::uint64_t held = 0;
  for (unsigned i = killed; i < processes; ++i)
    held += board->held[i].load();
  if (context == 0)
    newcomer = start_newcomer();
  board->take_rest.store(true);
  hung = !wait_for(newcomer) || hung;
  const std::uint64_t all = held + board->taken_by_newcomer.load() + (processes - killed + 1) * context;
  board->leave.store(true);
  for (unsigned i = killed; i < processes; ++i)
    hung = !wait_for(workers[i]) || hung;
  const std::uint64_t most = board->most.load() + (processes + (context != 0)) * context;
  if (killed == 0 && most > limit)
    outcome.over += most - limit;
  if (all > limit)
    outcome.unaccounted += all - limit;
  if (all < limit)
    outcome.lost += limit - all;
  outcome.hung += hung;
  outcome.wrong_codes += board->wrong_codes.load();
}

} // namespace

int main(int count, char** arguments) {
  if (count != 6 && count != 7)
    return 2;
  void* shared = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED)
    return 2;
  const Storm storm{
      std::strtoull(arguments[1], nullptr, 10), count == 7 ? std::strtoull(arguments[6], nullptr, 10) : 0,
      static_cast<unsigned>(std::strtoul(arguments[2], nullptr, 10)),
      static_cast<unsigned>(std::strtoul(arguments[3], nullptr, 10)), static_cast<Board*>(shared)};
  const auto rounds = static_cast<unsigned>(std::strtoul(arguments[4], nullptr, 10));
  std::uint64_t seed = std::strtoull(arguments[5], nullptr, 10) | 1u;
  if (storm.processes > kMaxProcesses || storm.threads > kMaxThreads || storm.limit % kUnit != 0)
    return 2;
  Outcome outcome;
  for (unsigned number = 0; number < rounds; ++number)
    storm.round(number, seed, outcome);
  std::printf("{\"rounds\": %u, \"bytes_over\": %" PRIu64 ", \"bytes_lost\": %" PRIu64
              ", \"bytes_unaccounted\": %" PRIu64 ", \"hung_rounds\": %u, \"wrong_codes\": %u}\n",
              rounds, outcome.over, outcome.lost, outcome.unaccounted, outcome.hung, outcome.wrong_codes);
  return outcome.over + outcome.lost + outcome.unaccounted + outcome.hung + outcome.wrong_codes != 0;
}
