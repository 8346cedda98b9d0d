// A process of a slice in simulated time: a program, and the side of the protocol that compute/ has in it.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "native/limiter/arbiter/share_schedule.hpp"
#include "native/limiter/arbiter/simulation/card.hpp"

namespace aliquot::limiter::arbiter::simulation {

// How long things take that are not the card's: a message, a wake-up, to see that an operation has ended.
struct Delays {
  std::uint64_t message_least = 10 * kMicrosecond, message_most = 40 * kMicrosecond;
  std::uint64_t wake_least = 15 * kMicrosecond, wake_most = 60 * kMicrosecond;
  std::uint64_t notice_least = 3 * kMicrosecond, notice_most = 20 * kMicrosecond;
  std::uint64_t launch = 5 * kMicrosecond;
  double price_error = 0.1; // of each operation, at random
};

struct Program {
  enum class Kind { Deep, Sync };
  Kind kind = Kind::Deep;
  std::uint64_t kernel_least = kMillisecond, kernel_most = kMillisecond; // log-uniform between them
  std::uint64_t think = 0;                // Sync: between an operation's end and the next launch
  std::uint64_t every = 0;                // Sync: instead, launch at these intervals
  std::uint64_t burst = 0, pause = 0;     // Deep: so much work, then so long none
  std::uint64_t from = 0, until = kNever; // when it runs
  std::uint64_t stopped = kNever;         // SIGSTOP
  std::uint64_t killed = kNever;          // SIGKILL
  std::uint64_t depth = 64;               // Deep: how far the driver lets launches run ahead
};

struct Slice {
  std::size_t index = 0;
  GrantState page;             // what the arbiter wrote
  std::uint64_t in_flight = 0; // operations of all its processes
  std::vector<std::uint64_t> latencies;
};

class Process;

class Mailbox {
 public:
  virtual ~Mailbox() = default;
  virtual void send(const Process& from, compute::MessageKind kind, std::uint64_t turn, std::uint64_t value,
                    std::uint64_t worked) = 0;
};

class Process {
 public:
  Process(Clock& clock, Card& card, Slice& slice, Mailbox& mailbox, const Program& program,
          const Delays& delays, std::uint64_t id, std::uint64_t seed);

  void start();
  void woken(); // the page changed
  Slice& slice() const { return slice_; }
  std::uint64_t id() const { return id_; }
  bool has_work() const;             // the card could do something for it now
  std::uint64_t last_message_at = 0; // messages do not overtake each other

 private:
  static constexpr std::uint64_t kHandOver = 150 * kMicrosecond;
  static constexpr std::uint64_t kSign = 5 * kMillisecond;

  struct Held {
    std::uint64_t price;
    std::uint64_t duration;
    std::uint64_t asked_at;
  };

  bool alive() const { return !stopped_ && !gone_; }
  bool open() const { return (slice_.page.turn & 1u) != 0; }
  std::uint64_t last_open() const { return slice_.page.turn - (open() || slice_.page.turn == 0 ? 0 : 1); }
  bool over() const;
  void count_in();
  void next_operation();
  void try_launch();
  bool fits() const;
  std::uint64_t in_flight_left(std::uint64_t bound) const;
  void admit();
  void hold_back();
  void noticed(std::uint64_t price, std::uint64_t asked_at);
  void after_deep();
  void watch();
  void close_turn();
  void correct();
  void watch_open_turn();
  void look_at(std::uint64_t time);
  void say(compute::MessageKind kind, std::uint64_t turn, std::uint64_t value, std::uint64_t worked = 0);
  std::uint64_t rest() const;
  std::uint64_t random(std::uint64_t least, std::uint64_t most);
  std::uint64_t random_kernel();

  Clock& clock_;
  Card& card_;
  Slice& slice_;
  Mailbox& mailbox_;
  Program program_;
  Delays delays_;
  std::uint64_t id_;
  std::mt19937_64 random_;

  Held operation_{};
  bool has_operation_ = false;
  bool launching_ = false;
  std::uint64_t in_flight_ = 0;    // operations
  std::uint64_t in_flight_ns_ = 0; // their prices
  std::uint64_t ends_at_ = 0;      // when they are predicted to end
  std::uint64_t admitted_ns_ = 0;  // prices since the last Closed
  std::uint64_t idle_since_ = 0;
  std::uint64_t burst_left_ = 0;
  std::uint64_t next_period_ = 0;
  std::uint64_t said_word_ = 0;    // Began or Want was said for it
  std::uint64_t wanted_word_ = 0;  // the last Want was about it
  std::uint64_t used_word_ = 0;    // an operation was admitted under it
  std::uint64_t closing_word_ = 0; // nothing more is admitted under it
  std::uint64_t idle_word_ = 0;
  std::uint64_t sign_at_ = 0;
  std::uint64_t look_at_ = kNever;
  std::uint64_t said_end_ = 0; // by the last Closed
  bool late_ = false;          // it was wrong, and that was said
  bool owes_ = false;
  bool wants_ = false;
  bool stopped_ = false;
  bool gone_ = false;
};

} // namespace aliquot::limiter::arbiter::simulation
