// A card in simulated time: it runs what is submitted in order, one context at a time, and records who was
// busy when.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

namespace aliquot::limiter::arbiter::simulation {

// Events in the order of their times.
class Clock {
 public:
  using Action = std::function<void()>;

  std::uint64_t now() const { return now_; }
  void at(std::uint64_t time, Action action);
  void after(std::uint64_t delay, Action action) { at(now_ + delay, std::move(action)); }
  void run_until(std::uint64_t end);

 private:
  struct Event {
    std::uint64_t time;
    std::uint64_t number;
    Action action;
    bool operator<(const Event& other) const {
      return time != other.time ? time > other.time : number > other.number;
    }
  };
  std::priority_queue<Event> events_;
  std::uint64_t now_ = 0;
  std::uint64_t count_ = 0;
};

// What the card did for a slice, from its own record.
struct Record {
  std::uint64_t busy_ns = 0;
  // Busy, and the gaps between two of its operations in which no other slice's ran.
  std::uint64_t disposed_ns = 0;
  std::uint64_t operations = 0;
  std::vector<std::uint64_t> busy_by_window; // for each kWindow of time
};

class Card {
 public:
  static constexpr std::uint64_t kSwitch = 10'000; // to another context, as in the sharing study
  static constexpr std::uint64_t kWindow = 250'000'000;

  explicit Card(Clock& clock) : clock_(clock) {}

  void submit(std::size_t slice, std::uint64_t process, std::uint64_t duration, Clock::Action ended);
  void drop(std::uint64_t process); // what it has queued, not what runs
  const Record& record(std::size_t slice);
  std::uint64_t busy_ns() const { return busy_ns_; }

 private:
  struct Operation {
    std::size_t slice;
    std::uint64_t process;
    std::uint64_t duration;
    Clock::Action ended;
  };

  void start();
  void finish();
  Record& of(std::size_t slice);
  void note(std::size_t slice, std::uint64_t begin, std::uint64_t end);

  Clock& clock_;
  std::deque<Operation> queue_;
  std::vector<Record> records_;
  bool running_ = false;
  std::uint64_t last_process_ = 0;
  std::size_t last_slice_ = SIZE_MAX;
  std::uint64_t last_end_ = 0;
  std::uint64_t busy_ns_ = 0;
};

} // namespace aliquot::limiter::arbiter::simulation
