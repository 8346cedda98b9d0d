// What of a device's work has ended, and when; and what that tells about prices. Nothing is admitted here.
#include <algorithm>
#include <utility>

#include "native/limiter/compute/device_terms.hpp"
#include "native/limiter/compute/driver_call.hpp"
#include "native/limiter/compute/futex.hpp"
#include "native/limiter/compute/gate.hpp"

namespace aliquot::limiter::compute {
namespace {

constexpr std::uint64_t kSuspicious = 100'000'000; // ns: what ends so soon after an escape had waited for it
constexpr std::uint64_t kAsStated = 100'000;       // beyond the stated end: its neighbours had not begun much
constexpr std::uint64_t kLeastBacklog = 5'000'000;
constexpr double kLeastCorrection = 0.25, kMostCorrection = 1.25; // side by side; gaps between short kernels
constexpr std::uint64_t kStalled = 3; // times its price: the machine stood still, which no price explains
constexpr std::uint64_t kLeadStep = 5'000, kMostLeadStep = 25'000, kMostLead = 250'000; // ns

} // namespace

void DeviceGate::Ends::add(const End& end) noexcept {
  if (count_ < ends_.size()) {
    ends_[count_++] = end;
    return;
  }
  End& last = ends_.back();
  last.sum += end.sum;
  last.at = later(last.at, end.at);
}

void DeviceGate::Ends::sort() noexcept {
  std::sort(begin(), end(), [](const End& a, const End& b) { return a.at < b.at; });
}

void DeviceGate::poll(std::uint64_t now, bool ask_streams) noexcept {
  const DriverCall call;
  Ends seen;
  lanes_.poll(now, ask_streams, [&](CUcontext context, const Marker& marker, std::uint64_t sum) {
    seen.add({passed(context, marker), marker.recorded, marker.turn, sum});
  });
  if (const std::uint64_t finished = lanes_.finished(); finished > counted_)
    note_progress(finished, seen, now);
  if (ask_streams)
    polled_at_ = later(polled_at_, now);
}

// What had a marker ended when that says. The rest ended between the last look and this one: when its price
// says, if that lies between.
void DeviceGate::note_progress(std::uint64_t finished, Ends& seen, std::uint64_t now) noexcept {
  std::uint64_t unmarked = finished - counted_;
  counted_ = finished;
  seen.sort();
  for (const End& end : seen) {
    unmarked -= std::min(unmarked, end.sum);
    note_end(end);
  }
  if (unmarked == 0)
    return;
  const std::uint64_t latest = later(now, progress_at_);
  const double took = static_cast<double>(unmarked) * correction_;
  gpu_ns_ += took;
  progress_at_ = std::clamp(progress_at_ + static_cast<std::uint64_t>(took),
                            std::min(latest, later(polled_at_, progress_at_)), latest);
  last_end_ = progress_at_;
  backlog_at_ = 0;
}

void DeviceGate::note_end(const End& end) noexcept {
  const double took = static_cast<double>(end.sum) * correction_;
  const bool busy = without_gap(end);
  gpu_ns_ += busy ? static_cast<double>(end.at - backlog_at_) : took;
  note_start(end.at - std::min(end.at, static_cast<std::uint64_t>(took)));
  note_backlog(end, busy);
  marked_end_ = later(marked_end_, end.at);
  progress_at_ = last_end_ = marked_end_;
}

// When the marker passed.
std::uint64_t DeviceGate::passed(CUcontext context, const Marker& marker) noexcept {
  const std::uint64_t now = now_ns();
  const std::uint64_t at = lanes_.events.passed_at(context, marker, now);
  if (marker.begin != nullptr)
    learn_from(marker, at, now);
  lanes_.events.give_back(context, marker.begin);
  return at;
}

// A neighbour's turn lies within the time where the turn has changed since; unless the work had ended, as was
// stated, when that turn began.
bool DeviceGate::was_undisturbed(const Marker& marker, std::uint64_t at) const noexcept {
  const std::uint64_t turn = grant_->turn.load(std::memory_order_relaxed);
  return turn == marker.turn || (late_turn_ == marker.turn && at <= stated_end_ + kAsStated);
}

void DeviceGate::learn_from(const Marker& marker, std::uint64_t at, std::uint64_t now) noexcept {
  float ms = 0;
  if (marker.escapes != escapes_ && now - escaped_at_ < kSuspicious)
    return gate_->prices.depends_on_later_work(marker.key);
  if (!was_undisturbed(marker, at) ||
      driver().cuEventElapsedTime(&ms, marker.begin, marker.end) != CUDA_SUCCESS || ms < 0)
    return;
  const auto ns = static_cast<std::uint64_t>(static_cast<double>(ms) * 1e6);
  // Without a turn of its own it may have stood behind a neighbour's work first.
  const bool alone = (grant_->flags.load(std::memory_order_relaxed) & layout::kGrantAlways) == 0;
  gate_->prices.learn(marker.key, alone ? ns : std::min(ns, marker.price + marker.price / 16), marker.cold);
  pace_.take(static_cast<std::int64_t>(ns) - static_cast<std::int64_t>(marker.price));
}

// Between the ends of two markers the device had no gap where the second was there before the first passed,
// and nobody else's work.
bool DeviceGate::without_gap(const End& end) const noexcept {
  const bool own = (grant_->flags.load(std::memory_order_relaxed) & layout::kGrantAlways) == 0;
  return own && end.turn == backlog_turn_ && end.recorded <= backlog_at_ && end.at > backlog_at_;
}

// Then the time between them is what the work behind them took: a bias of the prices shows, and what runs
// side by side counts once.
void DeviceGate::note_backlog(const End& end, bool busy) noexcept {
  const std::uint64_t wall = end.at - std::min(end.at, std::exchange(backlog_at_, end.at));
  backlog_turn_ = end.turn;
  if (!busy || unknown_ || vague_ || wall > end.sum * kStalled)
    return;
  backlog_wall_ += wall;
  backlog_sum_ += end.sum;
  if (backlog_wall_ < kLeastBacklog)
    return;
  const double ratio = static_cast<double>(backlog_wall_) / static_cast<double>(backlog_sum_);
  correction_ += (std::clamp(ratio, kLeastCorrection, kMostCorrection) - correction_) / 8;
  backlog_wall_ = backlog_sum_ = 0;
}

// How long launches take to reach an idle device: the median, in steps that few launches far off cannot make
// large. One that still found the last turn's work there tells only that it does not take longer.
void DeviceGate::note_start(std::uint64_t started) noexcept {
  const std::uint64_t admitted = std::exchange(cold_at_, 0);
  if (admitted == 0 || unknown_ || vague_)
    return;
  const std::uint64_t took = started - std::min(started, admitted);
  const std::uint64_t off = later(took, lead_) - std::min(took, lead_);
  const std::uint64_t step = std::clamp(off / 8, kLeadStep, kMostLeadStep);
  if (took < lead_)
    lead_ -= std::min(lead_, step);
  else if (started > cold_begins_ + kLeadStep * 4)
    lead_ = std::min(lead_ + step, kMostLead);
}

} // namespace aliquot::limiter::compute
