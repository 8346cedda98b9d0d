// Loads a card with kernels that wait, until its standard input ends; then prints one line of JSON.
//
//   limiter-bench-tenant [--kernel NS[,NS...]] [--depth N] [--streams N] [--graph N] [--sync] [--think NS]
//                        [--period NS] [--burst N --idle NS]
//
// It launches the kernels in turn, up to `depth` ahead, over so many streams, each launch a graph of so many
// kernels if asked for. With --sync it waits for each launch and then thinks; with --period it does so at
// fixed intervals; after each burst it idles. Latency is measured where it waits: from when the launch was
// due until it was seen to have ended. Prints "ready" and begins when a line arrives.
#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <sys/prctl.h>
#include <unistd.h>
#include <vector>

#include "native/limiter/bench/driver.hpp"

namespace aliquot::limiter::bench {
namespace {

// Waits for so many nanoseconds: asleep, but for the last few, which a sleep would miss.
constexpr char kKernel[] = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry wait(.param .u64 ns) {
  .reg .u32 %r<2>; .reg .s64 %rd<4>; .reg .pred %p<3>;
  ld.param.u64 %rd0, [ns];
  mov.u64 %rd1, %globaltimer;
  add.s64 %rd0, %rd0, %rd1;
again:
  mov.u64 %rd1, %globaltimer;
  sub.s64 %rd2, %rd0, %rd1;
  setp.le.s64 %p0, %rd2, 0;
  @%p0 ret;
  setp.lt.s64 %p1, %rd2, 10000;
  @%p1 bra again;
  sub.s64 %rd2, %rd2, 5000;
  min.s64 %rd2, %rd2, 1000000;
  cvt.u32.s64 %r0, %rd2;
  nanosleep.u32 %r0;
  bra again;
}
)";

struct Manner {
  std::vector<std::uint64_t> kernels{1'000'000}; // ns
  std::size_t depth = 64, streams = 1, graph = 0;
  bool sync = false;
  std::uint64_t think = 0, period = 0, burst = 0, idle = 0; // ns, but burst
};

std::vector<std::uint64_t> read_list(const char* text) {
  std::vector<std::uint64_t> found;
  for (char* end = nullptr; *text != '\0'; text = *end == ',' ? end + 1 : end) {
    found.push_back(std::strtoull(text, &end, 10));
    if (end == text || found.back() == 0 || found.back() > 1'000'000'000)
      give_up("a kernel takes 1 ns to 1 s", 0);
  }
  return found.empty() ? std::vector<std::uint64_t>{1'000'000} : found;
}

Manner read_arguments(int count, char** values) {
  Manner manner;
  for (int at = 1; at < count; ++at) {
    const std::string name = values[at];
    if (name == "--sync") {
      manner.sync = true;
      continue;
    }
    if (at + 1 == count)
      give_up(values[at], 0);
    const char* value = values[++at];
    const std::uint64_t number = std::strtoull(value, nullptr, 10);
    if (name == "--kernel")
      manner.kernels = read_list(value);
    else if (name == "--depth")
      manner.depth = std::max<std::size_t>(1, number);
    else if (name == "--streams")
      manner.streams = std::max<std::size_t>(1, number);
    else if (name == "--graph")
      manner.graph = number;
    else if (name == "--think")
      manner.think = number;
    else if (name == "--period")
      manner.period = number;
    else if (name == "--burst")
      manner.burst = number;
    else if (name == "--idle")
      manner.idle = number;
    else
      give_up(values[at - 1], 0);
  }
  return manner;
}

void sleep_until(std::int64_t due_ns) noexcept {
  const timespec due{due_ns / 1'000'000'000, due_ns % 1'000'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr) == EINTR) {
  }
}

bool input_ended() noexcept {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  char ignored[64];
  return poll(&input, 1, 0) > 0 && read(STDIN_FILENO, ignored, sizeof ignored) <= 0;
}

class Tenant {
 public:
  explicit Tenant(Manner manner) : manner_(std::move(manner)) {
    void* library = open_driver();
    find(library, "cuLaunchKernel", launch_);
    find(library, "cuGraphLaunch", graph_launch_);
    find(library, "cuEventRecord", record_);
    find(library, "cuEventSynchronize", wait_);
    load(library);
    make_streams(library);
    make_events(library);
    if (manner_.graph > 0)
      make_graphs(library);
  }

  void run() {
    std::int64_t due = clock_ns(CLOCK_MONOTONIC);
    while (!input_ended()) {
      if (manner_.period > 0) {
        due += static_cast<std::int64_t>(manner_.period);
        sleep_until(due);
      }
      step(manner_.period > 0 ? due : clock_ns(CLOCK_MONOTONIC));
      if (manner_.burst > 0 && launches_ % manner_.burst == 0)
        idle();
    }
    drain();
  }

  void report() {
    std::sort(latencies_.begin(), latencies_.end());
    std::printf("{\"launches\": %" PRIu64 ", \"kernel_ns\": %" PRIu64 ", \"latencies_ns\": [", launches_,
                asked_ns_);
    const char* separator = "";
    for (const std::int64_t each : latencies_) {
      std::printf("%s%" PRId64, separator, each);
      separator = ",";
    }
    std::printf("]}\n");
  }

 private:
  void load(void* library) {
    decltype(&::cuModuleLoadData) load_module;
    decltype(&::cuModuleGetFunction) get_function;
    find(library, "cuModuleLoadData", load_module);
    find(library, "cuModuleGetFunction", get_function);
    CUmodule module = nullptr;
    check(load_module(&module, kKernel), "cuModuleLoadData");
    check(get_function(&function_, module, "wait"), "cuModuleGetFunction");
  }

  void make_streams(void* library) {
    decltype(&::cuStreamCreate) create;
    find(library, "cuStreamCreate", create);
    streams_.resize(manner_.streams);
    for (CUstream& stream : streams_)
      check(create(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  }

  void make_events(void* library) {
    decltype(&::cuEventCreate) create;
    find(library, "cuEventCreate", create);
    events_.resize(manner_.depth);
    for (CUevent& event : events_)
      check(create(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  }

  // One graph for each length of kernel: a chain, captured from a stream as frameworks do it.
  void make_graphs(void* library) {
    decltype(&::cuStreamBeginCapture_v2) begin;
    decltype(&::cuStreamEndCapture) end;
    decltype(&::cuGraphInstantiateWithFlags) instantiate;
    find(library, "cuStreamBeginCapture_v2", begin);
    find(library, "cuStreamEndCapture", end);
    find(library, "cuGraphInstantiateWithFlags", instantiate);
    for (const std::uint64_t ns : manner_.kernels) {
      CUgraph graph = nullptr;
      CUgraphExec executable = nullptr;
      check(begin(streams_[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
      for (std::size_t node = 0; node < manner_.graph; ++node)
        launch_kernel(ns, streams_[0]);
      check(end(streams_[0], &graph), "cuStreamEndCapture");
      check(instantiate(&executable, graph, 0), "cuGraphInstantiate");
      graphs_.push_back(executable);
    }
  }

  void launch_kernel(std::uint64_t ns, CUstream stream) noexcept {
    void* arguments[] = {&ns};
    check(launch_(function_, 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr), "cuLaunchKernel");
  }

  void step(std::int64_t due) {
    const std::size_t place = launches_ % manner_.depth;
    const std::size_t which = launches_ % manner_.kernels.size();
    CUstream stream = streams_[launches_ % streams_.size()];
    if (launches_ >= manner_.depth)
      check(wait_(events_[place]), "cuEventSynchronize");
    if (manner_.graph > 0)
      check(graph_launch_(graphs_[which], stream), "cuGraphLaunch");
    else
      launch_kernel(manner_.kernels[which], stream);
    check(record_(events_[place], stream), "cuEventRecord");
    ++launches_;
    asked_ns_ += manner_.kernels[which] * std::max<std::size_t>(1, manner_.graph);
    if (!manner_.sync && manner_.period == 0)
      return;
    check(wait_(events_[place]), "cuEventSynchronize");
    latencies_.push_back(clock_ns(CLOCK_MONOTONIC) - due);
    if (manner_.think > 0)
      sleep_until(clock_ns(CLOCK_MONOTONIC) + static_cast<std::int64_t>(manner_.think));
  }

  void idle() {
    drain();
    sleep_until(clock_ns(CLOCK_MONOTONIC) + static_cast<std::int64_t>(manner_.idle));
  }

  void drain() noexcept {
    for (std::size_t place = 0; place < std::min<std::size_t>(launches_, manner_.depth); ++place)
      check(wait_(events_[place]), "cuEventSynchronize");
  }

  Manner manner_;
  decltype(&::cuLaunchKernel) launch_ = nullptr;
  decltype(&::cuGraphLaunch) graph_launch_ = nullptr;
  decltype(&::cuEventRecord) record_ = nullptr;
  decltype(&::cuEventSynchronize) wait_ = nullptr;
  CUfunction function_ = nullptr;
  std::vector<CUstream> streams_;
  std::vector<CUevent> events_;
  std::vector<CUgraphExec> graphs_;
  std::vector<std::int64_t> latencies_;
  std::uint64_t launches_ = 0, asked_ns_ = 0;
};

int serve(int count, char** values) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_TIMERSLACK, 1UL); // inherited by the threads in which a simulated card waits
  Tenant tenant(read_arguments(count, values));
  std::printf("ready\n");
  std::fflush(stdout);
  char line[16];
  if (std::fgets(line, sizeof line, stdin) == nullptr)
    return 0;
  tenant.run();
  tenant.report();
  return 0;
}

} // namespace
} // namespace aliquot::limiter::bench

int main(int count, char** values) {
  return aliquot::limiter::bench::serve(count, values);
}
