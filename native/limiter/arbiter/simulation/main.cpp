// `limiter-share-simulation`: the schedule on a simulated card with simulated programs. JSON on standard
// output.
//
//   limiter-share-simulation [seconds=N] [seed=N] (slice:KEY=VALUE,... (deep|sync:KEY=VALUE,...)...)...
//
// Keys of a slice: request, ceiling (percent), rank, preempts, neighbour (us), window (us), changed (another
// request after half of the time). Of a program, in us: kernel=A or A-B, think, every, burst, pause, from,
// until, stopped, killed. Programs belong to the slice before them; each is a process. With SIMULATION_TRACE
// in the environment it shows what is said.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aliquot/slice_layout.hpp"
#include "native/limiter/arbiter/simulation/process.hpp"

namespace aliquot::limiter::arbiter::simulation {
namespace {

using compute::MessageKind;

struct SliceSetup {
  Terms terms;
  std::uint64_t changed_request_ppm = 0;
  std::vector<Program> programs;
};

struct Setup {
  std::uint64_t seconds = 10;
  std::uint64_t seed = 1;
  std::vector<SliceSetup> slices;
};

// The arbiter around the schedule: messages and grants take their time.
class Arbiter : public Mailbox {
 public:
  Arbiter(Clock& clock, const Delays& delays, std::uint64_t seed)
      : clock_(clock), delays_(delays), random_(seed) {}

  void add(Slice& slice, const Terms& terms) {
    slices_.push_back(&slice);
    schedule_.join(slice.index + 1, terms, {}, clock_.now());
  }
  void add(Process& process) { processes_.push_back(&process); }

  void change(const Slice& slice, const Terms& terms) {
    schedule_.change(slice.index + 1, terms, clock_.now());
    publish();
  }

  void hang_up(const Process& process) {
    clock_.after(random(delays_.message_least, delays_.message_most), [this, &process] {
      schedule_.hang_up(process.slice().index + 1, process.id(), clock_.now());
      publish();
    });
  }

  void send(const Process& from, MessageKind kind, std::uint64_t turn, std::uint64_t value,
            std::uint64_t worked) override {
    auto& sender = const_cast<Process&>(from);
    sender.last_message_at =
        std::max(sender.last_message_at, clock_.now() + random(delays_.message_least, delays_.message_most));
    ++messages;
    if (std::getenv("SIMULATION_TRACE") != nullptr)
      std::fprintf(stderr, "%9.3f process %lu says %u about %lu: %.3f\n", us(clock_.now()), from.id(),
                   unsigned(kind), turn, us(value));
    clock_.at(sender.last_message_at, [this, &from, kind, turn, value, worked] {
      schedule_.tell(from.slice().index + 1, from.id(), kind, turn, value, clock_.now(), worked);
      publish();
    });
  }

  const ShareSchedule& schedule() const { return schedule_; }
  std::uint64_t messages = 0;
  std::uint64_t calls = 0;
  std::size_t most_open = 0; // turns at once, besides those of slices that begin without one

 private:
  static double us(std::uint64_t ns) { return static_cast<double>(ns) / 1000; }
  std::uint64_t random(std::uint64_t least, std::uint64_t most) {
    return std::uniform_int_distribution<std::uint64_t>(least, most)(random_);
  }

  void publish() {
    std::size_t open = 0;
    for (const Member& member : schedule_.members()) {
      open += member.open() && !member.always ? 1 : 0;
      publish_member(member);
    }
    most_open = std::max(most_open, open);
    arm();
  }

  void publish_member(const Member& member) {
    Slice& slice = *slices_[member.id - 1];
    GrantState& page = slice.page;
    const bool changed = page.turn != member.grant.turn || page.ends_ns != member.grant.ends_ns ||
                         page.in_flight_ns != member.grant.in_flight_ns || page.flags != member.grant.flags;
    if (changed && std::getenv("SIMULATION_TRACE") != nullptr)
      std::fprintf(stderr, "%9.3f slice %zu: turn %lu ends %.3f flags %lu in flight %.3f v %.3f\n",
                   us(clock_.now()), slice.index, member.grant.turn,
                   member.grant.ends_ns == kNever ? -1 : us(member.grant.ends_ns), member.grant.flags,
                   us(member.grant.in_flight_ns), double(member.virtual_ns) / 1000);
    page = member.grant;
    for (Process* process : processes_) {
      if (changed && &process->slice() == &slice)
        clock_.after(random(delays_.wake_least, delays_.wake_most), [process] { process->woken(); });
    }
  }

  void arm() {
    const std::uint64_t next = schedule_.next_call();
    if (next == armed_ || next == kNever)
      return;
    armed_ = next;
    clock_.at(next + random(2 * kMicrosecond, 10 * kMicrosecond), [this, next] {
      if (armed_ != next)
        return;
      armed_ = kNever;
      ++calls;
      schedule_.advance(clock_.now());
      publish();
    });
  }

  Clock& clock_;
  Delays delays_;
  std::mt19937_64 random_;
  ShareSchedule schedule_;
  std::vector<Slice*> slices_;
  std::vector<Process*> processes_;
  std::uint64_t armed_ = kNever;
};

[[noreturn]] void refuse(const std::string& what) {
  std::fprintf(stderr, "limiter-share-simulation: what is %s?\n", what.c_str());
  std::exit(2);
}

using Values = std::map<std::string, std::string>;

Values values_of(const std::string& text) {
  Values values;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    const std::size_t equals = item.find('=');
    if (equals == std::string::npos)
      refuse(item);
    values[item.substr(0, equals)] = item.substr(equals + 1);
    at = end + 1;
  }
  return values;
}

double number(const std::string& text) {
  return std::strtod(text.c_str(), nullptr);
}
std::uint64_t micro(const std::string& text) {
  return static_cast<std::uint64_t>(number(text) * 1000);
}
std::uint64_t ppm(const std::string& text) {
  return static_cast<std::uint64_t>(number(text) * 10'000);
}

SliceSetup slice_of(const std::string& text) {
  SliceSetup setup;
  for (const auto& [key, value] : values_of(text)) {
    if (key == "request")
      setup.terms.request_ppm = ppm(value);
    else if (key == "changed")
      setup.changed_request_ppm = ppm(value);
    else if (key == "ceiling")
      setup.terms.ceiling_ppm = ppm(value);
    else if (key == "rank")
      setup.terms.rank = std::strtoull(value.c_str(), nullptr, 10);
    else if (key == "preempts")
      setup.terms.preempts = value != "0";
    else if (key == "neighbour")
      setup.terms.neighbour_in_flight_ns = micro(value);
    else if (key == "window")
      setup.terms.idle_window_ns = micro(value);
    else
      refuse(key);
  }
  return setup;
}

Program program_of(Program::Kind kind, const std::string& text) {
  Program program;
  program.kind = kind;
  const std::map<std::string, std::uint64_t*> times{
      {"think", &program.think},     {"every", &program.every},  {"burst", &program.burst},
      {"pause", &program.pause},     {"from", &program.from},    {"until", &program.until},
      {"stopped", &program.stopped}, {"killed", &program.killed}};
  for (const auto& [key, value] : values_of(text)) {
    if (key == "kernel") {
      const std::size_t dash = value.find('-');
      program.kernel_least = micro(value.substr(0, dash));
      program.kernel_most = dash == std::string::npos ? program.kernel_least : micro(value.substr(dash + 1));
    } else if (const auto time = times.find(key); time != times.end()) {
      *time->second = micro(value);
    } else {
      refuse(key);
    }
  }
  return program;
}

Setup setup_of(int count, char** arguments) {
  Setup setup;
  for (int i = 1; i < count; ++i) {
    const std::string text = arguments[i];
    const std::size_t colon = text.find(':');
    const std::string head = text.substr(0, colon);
    const std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
    if (text.rfind("seconds=", 0) == 0)
      setup.seconds = std::strtoull(text.c_str() + 8, nullptr, 10);
    else if (text.rfind("seed=", 0) == 0)
      setup.seed = std::strtoull(text.c_str() + 5, nullptr, 10);
    else if (head == "slice")
      setup.slices.push_back(slice_of(rest));
    else if ((head == "deep" || head == "sync") && !setup.slices.empty())
      setup.slices.back().programs.push_back(
          program_of(head == "deep" ? Program::Kind::Deep : Program::Kind::Sync, rest));
    else
      refuse(text);
  }
  return setup;
}

class Simulation {
 public:
  explicit Simulation(const Setup& setup)
      : setup_(setup), card_(clock_), arbiter_(clock_, delays_, setup.seed) {
    for (const SliceSetup& each : setup.slices)
      add(each);
    sample();
  }

  void run() {
    for (const auto& process : processes_)
      process->start();
    const std::uint64_t end = setup_.seconds * 1000 * kMillisecond;
    for (std::size_t i = 0; i < slices_.size(); ++i) {
      Terms terms = setup_.slices[i].terms;
      terms.request_ppm = setup_.slices[i].changed_request_ppm;
      if (terms.request_ppm > 0)
        clock_.at(end / 2, [this, i, terms] { arbiter_.change(slices_[i], terms); });
    }
    clock_.run_until(end);
  }

  void print() {
    std::printf(
        "{\"time_ns\": %lu, \"busy_ns\": %lu, \"had_work_ns\": %lu, \"messages\": %lu, \"calls\": %lu, "
        "\"most_open\": %zu, \"slices\": [",
        clock_.now(), card_.busy_ns(), had_work_ns_, arbiter_.messages, arbiter_.calls, arbiter_.most_open);
    for (const Slice& slice : slices_)
      print(slice);
    std::printf("]}\n");
  }

 private:
  static constexpr std::uint64_t kSample = 25 * kMicrosecond;

  void add(const SliceSetup& setup) {
    Slice& slice = slices_.emplace_back();
    slice.index = slices_.size() - 1;
    arbiter_.add(slice, setup.terms);
    for (const Program& program : setup.programs) {
      const std::uint64_t id = processes_.size() + 1;
      processes_.push_back(std::make_unique<Process>(clock_, card_, slice, arbiter_, program, delays_, id,
                                                     setup_.seed * 1000 + id));
      arbiter_.add(*processes_.back());
      Process* process = processes_.back().get();
      if (program.killed != kNever)
        clock_.at(program.killed, [this, process] { arbiter_.hang_up(*process); });
    }
  }

  // How long anyone had work, found by looking often.
  void sample() {
    const bool work =
        std::any_of(processes_.begin(), processes_.end(), [](const auto& each) { return each->has_work(); });
    had_work_ns_ += work ? kSample : 0;
    clock_.after(kSample, [this] { sample(); });
  }

  static std::uint64_t quantile(std::vector<std::uint64_t>& values, double part) {
    if (values.empty())
      return 0;
    std::sort(values.begin(), values.end());
    return values[std::min(values.size() - 1,
                           static_cast<std::size_t>(part * static_cast<double>(values.size())))];
  }

  void print(const Slice& slice) {
    const Record& record = card_.record(slice.index);
    std::vector<std::uint64_t> latencies = slice.latencies;
    const GrantState& page = slice.page;
    std::printf("%s{\"busy_ns\": %lu, \"disposed_ns\": %lu, \"operations\": %lu, \"held_ns\": %lu, "
                "\"waited_ns\": %lu, "
                "\"turns\": %lu, \"share_ppm\": %lu, \"latency_p50_ns\": %lu, \"latency_p99_ns\": %lu, "
                "\"windows\": [",
                slice.index == 0 ? "" : ", ", record.busy_ns, record.disposed_ns, record.operations,
                page.held_ns, page.waited_ns, page.turns, page.share_ppm, quantile(latencies, 0.5),
                quantile(latencies, 0.99));
    for (std::size_t i = 0; i < record.busy_by_window.size(); ++i)
      std::printf("%s%lu", i == 0 ? "" : ", ", record.busy_by_window[i]);
    std::printf("]}");
  }

  Setup setup_;
  Delays delays_;
  Clock clock_;
  Card card_;
  Arbiter arbiter_;
  std::deque<Slice> slices_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::uint64_t had_work_ns_ = 0;
};

} // namespace
} // namespace aliquot::limiter::arbiter::simulation

int main(int count, char** arguments) {
  using namespace aliquot::limiter::arbiter::simulation;
  Simulation simulation(setup_of(count, arguments));
  simulation.run();
  simulation.print();
  return 0;
}
