// The watcher's side of a device: what the arbiter is to be told, and when to look again. Nothing is admitted
// here.
#include <algorithm>
#include <utility>

#include "native/limiter/compute/device_terms.hpp"
#include "native/limiter/compute/gate.hpp"

namespace aliquot::limiter::compute {
namespace {

constexpr std::uint64_t kLongestLook = 100'000'000; // ns
constexpr std::uint64_t kHandOver = 250'000;        // before the end at which the next may begin
constexpr std::uint64_t kBetweenRunning = 5'000'000;
constexpr std::uint64_t kLongestOverdue = 50'000; // between two looks at work after its predicted end
constexpr std::uint64_t kLate = 20'000;           // beyond the stated end, after which the arbiter is told
constexpr std::size_t kFewMarkers = 4;

} // namespace

bool DeviceGate::owes() noexcept {
  const std::lock_guard lock(mutex_);
  return counted_in_;
}

std::uint64_t DeviceGate::watch(std::uint64_t now) noexcept {
  const std::lock_guard lock(mutex_);
  const Terms terms = read_grant(now);
  if (gate_->stopped() || terms.mode == Mode::Free)
    return now + kLongestLook;
  if (terms.mode == Mode::Paced || !terms.careful()) {
    if (now - std::min(now, last_end_) >= kLongestLook)
      poll(now, true); // figures of a program that has gone quiet
    publish_locked();
    return now + kLongestLook;
  }
  const std::uint64_t next = std::min(watch_turn(terms, now), watch_late_work(now));
  publish_locked();
  return std::clamp(next, now + kLeastLook, now + kLongestLook);
}

std::uint64_t DeviceGate::watch_turn(const Terms& terms, std::uint64_t now) noexcept {
  if (!counted_in_)
    return now + kLongestLook; // the bell, or the next turn, comes before
  if (terms.always())
    return watch_idleness(terms, now);
  const bool over = !terms.open(now) || full_turn_ == terms.turn;
  return over ? watch_ending(now) : watch_idleness(terms, now);
}

// The turn is over; the others wait for what is still in flight.
std::uint64_t DeviceGate::watch_ending(std::uint64_t now) noexcept {
  if (ended_turn_ != open_turn_) {
    ended_turn_ = open_turn_;
    gate_->void_leases();
  }
  poll(now, true);
  const std::uint64_t flying = lanes_.in_flight(), due = drain_at(now);
  // While more markers are to come, what stands behind them is a sum of guesses.
  const bool seen = !unknown_ && !vague_ && lanes_.markers_out() <= kFewMarkers;
  const bool nearly = seen && progress_at_ + in_flight() > now && due - now <= kHandOver;
  if (flying != 0 && !nearly) {
    say_running(open_turn_, due - now, now);
    const std::uint64_t left = due > now + kHandOver ? due - kHandOver - now : 0;
    const std::uint64_t look =
        seen ? (left != 0 ? now + left : due) : now + std::max(left / 2, kLongestOverdue);
    return std::min(look, running_at_ + kBetweenRunning);
  }
  if (!gate_->link.send(MessageKind::Closed, device_, open_turn_, flying == 0 ? 0 : due - now, worked()))
    return now + kLongestLook;
  counted_in_ = false;
  released_turn_ = open_turn_;
  released_at_ = now;
  late_turn_ = flying == 0 ? 0 : open_turn_;
  stated_end_ = due;
  said_late_ = false;
  return now + kLongestLook;
}

// The device's time since the last word of it, as far as markers and prices tell; what is still to run
// counts.
std::uint64_t DeviceGate::worked() noexcept {
  const double all = gpu_ns_ + static_cast<double>(in_flight());
  const double since = all - std::exchange(worked_said_, std::max(all, worked_said_));
  return since > 0 ? static_cast<std::uint64_t>(since) : 0;
}

// The end that Closed stated was a prediction, and whoever is late holds the next turn up: that time is
// charged to its own slice, as far as the arbiter hears of it.
std::uint64_t DeviceGate::watch_late_work(std::uint64_t now) noexcept {
  if (late_turn_ == 0)
    return now + kLongestLook;
  if (now < stated_end_ + kLate)
    return stated_end_ + kLate;
  poll(now, true);
  if (lanes_.in_flight() == 0) {
    if (said_late_)
      gate_->link.send(MessageKind::Closed, device_, late_turn_, 0);
    late_turn_ = 0;
    return now + kLongestLook;
  }
  const std::uint64_t due = drain_at(now);
  if (!said_late_)
    running_at_ = 0;
  said_late_ = true;
  say_running(late_turn_, due - now, now);
  return std::min(due, running_at_ + kBetweenRunning);
}

void DeviceGate::say_running(std::uint64_t turn, std::uint64_t left, std::uint64_t now) noexcept {
  if (now - running_at_ < kBetweenRunning)
    return;
  gate_->link.send(MessageKind::Running, device_, turn, left);
  running_at_ = now;
}

// Others want the card: it is given back when nothing has been in flight for a moment.
std::uint64_t DeviceGate::watch_idleness(const Terms& terms, std::uint64_t now) noexcept {
  const std::uint64_t ends = terms.always() ? kNoEnd : terms.ends_ns;
  if (lanes_.in_flight() != 0 && progress_at_ + in_flight() <= now)
    poll(now, true);
  if (lanes_.in_flight() != 0) {
    if (terms.always() && terms.contended())
      say_running(terms.turn, drain_at(now) - now, now);
    const bool overdue =
        progress_at_ + in_flight() <= now; // the neighbours' work comes first, and they wait for us
    const std::uint64_t look = overdue ? std::min(drain_at(now), now + kLongestOverdue) : drain_at(now);
    return std::min({look, ends, terms.always() ? running_at_ + kBetweenRunning : kNoEnd});
  }
  const std::uint64_t since = std::max({last_end_, turn_seen_at_, terms.begins_ns}) + terms.idle_window_ns;
  if (now < since)
    return std::min(since, ends);
  gate_->void_leases();
  if (lanes_.in_flight() != 0)
    return now + kLeastLook; // a launch was quicker
  if (gate_->link.send(MessageKind::Idle, device_, terms.turn, 0)) {
    counted_in_ = false;
    released_turn_ = terms.always() ? 0 : terms.turn;
    released_at_ = now;
  }
  return std::min(now + kLongestLook, ends);
}

} // namespace aliquot::limiter::compute
