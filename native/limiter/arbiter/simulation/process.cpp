#include "native/limiter/arbiter/simulation/process.hpp"

#include <algorithm>
#include <cmath>

#include "aliquot/slice_layout.hpp"

namespace aliquot::limiter::arbiter::simulation {

using compute::MessageKind;

Process::Process(Clock& clock, Card& card, Slice& slice, Mailbox& mailbox, const Program& program,
                 const Delays& delays, std::uint64_t id, std::uint64_t seed)
    : clock_(clock), card_(card), slice_(slice), mailbox_(mailbox), program_(program), delays_(delays),
      id_(id), random_(seed) {}

std::uint64_t Process::random(std::uint64_t least, std::uint64_t most) {
  return std::uniform_int_distribution<std::uint64_t>(least, std::max(least, most))(random_);
}

std::uint64_t Process::random_kernel() {
  const double least = std::log(static_cast<double>(program_.kernel_least));
  const double most = std::log(static_cast<double>(program_.kernel_most));
  return static_cast<std::uint64_t>(
      std::exp(std::uniform_real_distribution<double>(least, std::max(least, most))(random_)));
}

void Process::start() {
  clock_.at(program_.from, [this] {
    burst_left_ = program_.burst;
    next_period_ = clock_.now();
    next_operation();
  });
  if (program_.stopped != kNever)
    clock_.at(program_.stopped, [this] { stopped_ = true; });
  if (program_.killed != kNever)
    clock_.at(program_.killed, [this] {
      gone_ = true;
      card_.drop(id_);
    });
}

bool Process::has_work() const {
  return !stopped_ && !gone_ && (has_operation_ || in_flight_ > 0);
}

void Process::next_operation() {
  if (!alive() || clock_.now() >= program_.until)
    return;
  const std::uint64_t duration = random_kernel();
  const double error =
      std::uniform_real_distribution<double>(-delays_.price_error, delays_.price_error)(random_);
  operation_ = {static_cast<std::uint64_t>(static_cast<double>(duration) * (1 + error)), duration,
                clock_.now()};
  has_operation_ = true;
  try_launch();
}

bool Process::over() const {
  return !open() || clock_.now() >= slice_.page.ends_ns || closing_word_ == slice_.page.turn;
}

bool Process::fits() const {
  if (slice_.page.ends_ns == kNever || used_word_ != slice_.page.turn)
    return true;
  return std::max(ends_at_, clock_.now()) + operation_.price / 2 <= slice_.page.ends_ns;
}

void Process::try_launch() {
  if (!alive() || !has_operation_ || launching_)
    return;
  if (over() || !fits()) {
    hold_back();
    return;
  }
  if (in_flight_ >= program_.depth)
    return;
  const std::uint64_t bound = slice_.page.in_flight_ns;
  const std::uint64_t left = in_flight_left(bound);
  if (in_flight_ == 0 || left < bound)
    admit();
  else if (bound > 0 && left < in_flight_ns_)
    clock_.after(left - bound + 2 * kMicrosecond,
                 [this] { try_launch(); }); // the next one follows without a gap
}

// What has run of it is taken off, unless the doubt about its price is more than the bound.
std::uint64_t Process::in_flight_left(std::uint64_t bound) const {
  if (bound == kNever || in_flight_ns_ > 10 * bound)
    return in_flight_ns_;
  return std::min(in_flight_ns_, ends_at_ > clock_.now() ? ends_at_ - clock_.now() : 0);
}

// From the opening that follows a Want on, the arbiter waits for what this process says.
void Process::count_in() {
  const std::uint64_t word = last_open();
  if (!wants_ || word <= wanted_word_)
    return;
  wants_ = false;
  owes_ = true;
  said_word_ = word;
}

void Process::admit() {
  const std::uint64_t word = slice_.page.turn;
  count_in();
  if (said_word_ != word)
    say(MessageKind::Began, word, 0);
  said_word_ = used_word_ = word;
  owes_ = true;
  const Held launched = operation_;
  has_operation_ = false;
  launching_ = true;
  ++in_flight_;
  ++slice_.in_flight;
  in_flight_ns_ += launched.price;
  admitted_ns_ += launched.price;
  ends_at_ = std::max(ends_at_, clock_.now()) + launched.price;
  clock_.after(delays_.launch, [this, launched] {
    launching_ = false;
    if (gone_)
      return;
    card_.submit(slice_.index, id_, launched.duration, [this, launched] {
      clock_.after(random(delays_.notice_least, delays_.notice_most),
                   [this, launched] { noticed(launched.price, launched.asked_at); });
    });
    if (program_.kind == Program::Kind::Deep)
      after_deep();
  });
  watch();
}

void Process::after_deep() {
  if (program_.burst > 0) {
    burst_left_ -= std::min(burst_left_, program_.kernel_least);
    if (burst_left_ == 0)
      return; // the pause begins when all of it has ended
  }
  next_operation();
}

void Process::hold_back() {
  const std::uint64_t word = slice_.page.turn;
  count_in();
  if (!wants_ || wanted_word_ != word) {
    wants_ = true;
    wanted_word_ = word;
    say(MessageKind::Want, word, 0);
  }
  if (open())
    closing_word_ = word;
  watch();
}

void Process::noticed(std::uint64_t price, std::uint64_t asked_at) {
  --in_flight_;
  --slice_.in_flight;
  in_flight_ns_ -= price;
  ends_at_ = clock_.now() + in_flight_ns_;
  if (!alive())
    return;
  if (in_flight_ == 0)
    idle_since_ = clock_.now();
  if (program_.kind == Program::Kind::Sync) {
    slice_.latencies.push_back(clock_.now() - asked_at);
    next_period_ += program_.every;
    const std::uint64_t next =
        program_.every > 0 ? std::max(next_period_, clock_.now()) : clock_.now() + program_.think;
    clock_.at(next, [this] { next_operation(); });
  } else if (program_.burst > 0 && burst_left_ == 0 && in_flight_ == 0 && !has_operation_) {
    burst_left_ = program_.burst;
    clock_.after(program_.pause, [this] { next_operation(); });
  }
  try_launch();
  watch();
}

void Process::woken() {
  if (!alive())
    return;
  try_launch();
  watch();
}

std::uint64_t Process::rest() const {
  return in_flight_ == 0 ? 0 : std::max(ends_at_, clock_.now() + kMicrosecond) - clock_.now();
}

void Process::watch() {
  if (!alive())
    return;
  count_in();
  if (over())
    close_turn();
  else
    watch_open_turn();
}

// It said that its work would have ended by now.
void Process::correct() {
  if (in_flight_ > 0 && clock_.now() < said_end_) {
    look_at(said_end_);
  } else if (in_flight_ > 0 && clock_.now() >= sign_at_) {
    say(MessageKind::Running, last_open(), 0);
    sign_at_ = clock_.now() + kSign;
    late_ = true;
  } else if (in_flight_ == 0 && late_) {
    say(MessageKind::Closed, last_open(), 0);
    late_ = false;
  }
  if (late_)
    look_at(sign_at_);
}

void Process::close_turn() {
  if (!owes_) {
    correct();
    return;
  }
  const std::uint64_t word = last_open();
  if (rest() <= kHandOver) {
    say(MessageKind::Closed, word, rest(), admitted_ns_);
    admitted_ns_ = 0;
    owes_ = late_ = false;
    closing_word_ = word;
    said_end_ = clock_.now() + rest() + 20 * kMicrosecond;
    sign_at_ = 0;
    look_at(said_end_);
    return;
  }
  if (clock_.now() >= sign_at_ && clock_.now() >= slice_.page.ends_ns) {
    say(MessageKind::Running, word, rest());
    sign_at_ = clock_.now() + kSign;
  }
  look_at(std::min(std::max(clock_.now() + rest() - kHandOver, clock_.now() + 10 * kMicrosecond),
                   clock_.now() + kSign));
}

void Process::watch_open_turn() {
  const GrantState& page = slice_.page;
  if ((page.flags & layout::kGrantContended) == 0)
    return;
  if (page.ends_ns != kNever)
    look_at(page.ends_ns);
  if (in_flight_ > 0 || has_operation_) {
    if ((page.flags & layout::kGrantAlways) != 0 && clock_.now() >= sign_at_) {
      say(MessageKind::Running, page.turn, rest());
      sign_at_ = clock_.now() + kSign;
    }
    if ((page.flags & layout::kGrantAlways) != 0)
      look_at(sign_at_);
    return;
  }
  if (slice_.in_flight > 0 || !owes_ || idle_word_ == page.turn)
    return;
  const std::uint64_t idle_at = idle_since_ + page.idle_window_ns;
  if (clock_.now() < idle_at) {
    look_at(idle_at);
    return;
  }
  idle_word_ = page.turn;
  owes_ = false;
  say(MessageKind::Idle, page.turn, 0);
}

void Process::look_at(std::uint64_t time) {
  if (time >= look_at_ && look_at_ > clock_.now())
    return;
  look_at_ = time;
  clock_.at(time + random(2 * kMicrosecond, 10 * kMicrosecond), [this, time] {
    if (look_at_ == time)
      look_at_ = kNever;
    watch();
  });
}

void Process::say(MessageKind kind, std::uint64_t turn, std::uint64_t value, std::uint64_t worked) {
  mailbox_.send(*this, kind, turn, value, worked);
}

} // namespace aliquot::limiter::arbiter::simulation
