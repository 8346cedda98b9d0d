// What follows from what is known: who begins without a turn, whose turn ends when, who is next.
#include <algorithm>

#include "aliquot/slice_layout.hpp"
#include "native/limiter/arbiter/share_schedule.hpp"

namespace aliquot::limiter::arbiter {
namespace {

// Ends that differ by less than these are the same: nobody is woken for them.
constexpr std::uint64_t kEarlier = 20 * kMicrosecond;
constexpr std::uint64_t kLater = kMillisecond;

std::uint64_t moved(std::uint64_t time, std::int64_t by) noexcept {
  if (by >= 0)
    return add_saturated(time, static_cast<std::uint64_t>(by));
  const auto back = static_cast<std::uint64_t>(-by);
  return time > back ? time - back : 0;
}

} // namespace

void ShareSchedule::decide() {
  drop_silent();
  for (Member& member : members_)
    set_privilege(member);
  update_holder();
  open_next();
  set_grants();
  plan_next_call();
}

bool ShareSchedule::waits(const Member& member) const noexcept {
  return !member.open() && member.wants() && member.ceiling_returns(settings_.least_turn_ns) == 0;
}

bool ShareSchedule::others_wait(const Member& member) const noexcept {
  return std::any_of(members_.begin(), members_.end(),
                     [&](const Member& each) { return each.id != member.id && waits(each); });
}

bool ShareSchedule::within_share(const Member& member) const noexcept {
  return member.virtual_ns <= virtual_time_ + member.as_virtual(settings_.burst_ns);
}

bool ShareSchedule::outranked(const Member& member) const noexcept {
  return std::any_of(members_.begin(), members_.end(), [&](const Member& each) {
    return each.always && each.counted() && each.terms.rank > member.terms.rank;
  });
}

std::uint64_t ShareSchedule::lost_at(const Member& member) const noexcept {
  if (member.always)
    return others_wait(member) ? add_saturated(member.heard_ns, settings_.silence_ns) : kNever;
  const std::uint64_t ends = member.grant.ends_ns;
  return std::min(add_saturated(std::max(ends, member.heard_ns), settings_.silence_ns),
                  add_saturated(ends, settings_.overrun_ns));
}

// Stopped, dead, or lying: the others go on.
void ShareSchedule::drop_silent() {
  for (Member& member : members_) {
    if (!member.open() || !member.counted() || now_ < lost_at(member))
      continue;
    member.count_none();
    if (member.id == holder_) {
      member.close_turn(now_);
      holder_ = 0;
      free_at_ = now_;
    } else {
      member.prolong();
    }
  }
}

void ShareSchedule::set_privilege(Member& member) {
  const bool entitled = member.terms.preempts && member.present() && !outranked(member) &&
                        (member.always ? within_share(member) && member.ceiling_leaves() > 0
                                       : member.virtual_ns <= virtual_time_ &&
                                             member.ceiling_returns(settings_.least_turn_ns) == 0);
  if (entitled == member.always)
    return;
  member.always = entitled;
  if (entitled)
    give_privilege(member);
  else
    take_privilege(member);
}

void ShareSchedule::give_privilege(Member& member) {
  if (!member.open()) {
    member.open_turn(now_, now_);
    return;
  }
  if (member.id == holder_)
    holder_ = 0;
  member.prolong();
  member.heard_ns = now_;
}

void ShareSchedule::take_privilege(Member& member) {
  if (holder_ == 0 && member.counted()) { // its work goes on as a turn that is about to end
    holder_ = member.id;
    member.opened_ns = member.charged_from = member.heard_ns = now_;
    member.grant.ends_ns = std::min(member.grant.ends_ns, end_of(member));
    return;
  }
  const bool works = member.counted();
  member.close_turn(now_);
  if (works)
    trail(member, now_);
}

void ShareSchedule::close_holder(Member& member) {
  member.close_turn(now_);
  holder_ = 0;
}

void ShareSchedule::update_holder() {
  Member* member = find(holder_);
  if (member == nullptr)
    return;
  const bool stopped = outranked(*member);
  const std::uint64_t end = stopped ? now_ : end_of(*member);
  std::uint64_t& ends = member->grant.ends_ns;
  if (!member->counted() && (!member->present() || stopped || others_wait(*member) || now_ >= end)) {
    close_holder(*member);
  } else if (add_saturated(end, kEarlier) < ends) {
    ends = end;
  } else if (!stopped && ((end > ends && end - ends > kLater) || (end == kNever && member->wants()))) {
    member->prolong_until(end); // also for a process that had given the turn up, and sleeps on this word
  }
}

bool ShareSchedule::goes_before(const Member& a, const Member& b) const noexcept {
  const std::uint64_t rank_a = within_share(a) ? a.terms.rank : 0;
  const std::uint64_t rank_b = within_share(b) ? b.terms.rank : 0;
  return rank_a != rank_b ? rank_a > rank_b : a.virtual_ns < b.virtual_ns;
}

Member* ShareSchedule::next() noexcept {
  Member* best = nullptr;
  for (Member& member : members_) {
    if (waits(member) && !outranked(member) && (best == nullptr || goes_before(member, *best)))
      best = &member;
  }
  return best;
}

void ShareSchedule::open_next() {
  if (holder_ != 0 || free_at_ > add_saturated(now_, settings_.hand_over_ns))
    return;
  Member* member = next();
  if (member == nullptr)
    return;
  member->open_turn(now_, std::max(now_, free_at_));
  holder_ = member->id;
  member->grant.ends_ns = end_of(*member);
}

std::uint64_t ShareSchedule::active_weight() const noexcept {
  std::uint64_t sum = 0;
  for (const Member& member : members_)
    sum += waits(member) || (member.open() && member.counted()) ? member.weight : 0;
  return std::max(sum, Member::kLeastWeight);
}

// When the waiter may have the holder's turn end.
std::uint64_t ShareSchedule::patience(const Member& holder, const Member& waiter) const noexcept {
  const bool higher = waiter.terms.rank > holder.terms.rank && within_share(waiter);
  if (higher)
    return waiter.wanted_ns;
  const bool lower = waiter.terms.rank < holder.terms.rank && within_share(holder);
  const auto lead = static_cast<std::int64_t>(settings_.lead_ns * kWholeCard / active_weight());
  const std::int64_t until = waiter.virtual_ns + (lower ? holder.as_virtual(settings_.burst_ns) : lead);
  const std::int64_t gap = until - holder.virtual_ns;
  const auto service = static_cast<std::int64_t>(holder.as_service(gap < 0 ? -gap : gap));
  const std::uint64_t reached = moved(std::max(now_, holder.charged_from), gap < 0 ? -service : service);
  if (waiter.newcomer && !lower && waiter.virtual_ns <= holder.virtual_ns)
    return std::min(reached, add_saturated(waiter.wanted_ns, settings_.newcomer_ns));
  return reached;
}

// The same moment whenever it is asked, as long as nothing else happens.
std::uint64_t ShareSchedule::end_of(const Member& holder) const noexcept {
  std::uint64_t end = kNever;
  for (const Member& member : members_) {
    if (member.id != holder.id && waits(member))
      end = std::min(end, patience(holder, member));
  }
  end = std::max(end, add_saturated(holder.opened_ns, settings_.least_turn_ns));
  const std::uint64_t leaves = holder.ceiling_leaves();
  return leaves == kNever ? end : std::min(end, add_saturated(std::max(now_, holder.charged_from), leaves));
}

std::uint64_t ShareSchedule::share_of(const Member& member) const noexcept {
  const bool active = waits(member) || (member.open() && member.counted());
  const std::uint64_t sum = active_weight() + (active ? 0 : member.weight);
  const std::uint64_t share = member.weight * kWholeCard / std::max(sum, member.weight);
  return member.has_ceiling() ? std::min(share, member.terms.ceiling_ppm) : share;
}

std::uint64_t ShareSchedule::neighbours_allow(const Member& member) const noexcept {
  std::uint64_t least = kNever;
  for (const Member& each : members_) {
    if (each.terms.preempts && each.present() && each.terms.rank > member.terms.rank)
      least = std::min(least, each.terms.neighbour_in_flight_ns);
  }
  return least;
}

bool ShareSchedule::recent(const Member& member) const noexcept {
  if (member.wants() || member.counted())
    return true;
  return member.active_ns > 0 && now_ - std::min(now_, member.active_ns) < settings_.recent_ns;
}

bool ShareSchedule::contended(const Member& member) const noexcept {
  return member.has_ceiling() || std::any_of(members_.begin(), members_.end(), [&](const Member& each) {
           return each.id != member.id && each.present() && (each.terms.preempts || recent(each));
         });
}

void ShareSchedule::set_grants() {
  for (Member& member : members_) {
    const bool watched = contended(member);
    if (watched && (member.grant.flags & layout::kGrantContended) == 0)
      member.heard_ns = std::max(member.heard_ns, now_); // until now it had no reason to speak
    member.grant.flags =
        (watched ? layout::kGrantContended : 0u) | (member.always ? layout::kGrantAlways : 0u);
    member.grant.in_flight_ns = watched ? std::min(neighbours_allow(member), settings_.in_flight_ns) : kNever;
    const std::uint64_t window = member.terms.idle_window_ns;
    member.grant.idle_window_ns = window > 0 ? window : settings_.idle_window_ns;
    member.grant.share_ppm = share_of(member);
  }
}

std::uint64_t ShareSchedule::next_call_of(const Member& member) const noexcept {
  const std::uint64_t forgotten =
      recent(member) ? add_saturated(member.active_ns, settings_.recent_ns) : kNever;
  return std::min(forgotten, next_decision_on(member));
}

std::uint64_t ShareSchedule::next_decision_on(const Member& member) const noexcept {
  if (!member.open()) {
    const bool held_up = member.wants() && !waits(member);
    return held_up ? add_saturated(now_, member.ceiling_returns(settings_.least_turn_ns)) : kNever;
  }
  if (!member.counted())
    return member.id == holder_ ? member.grant.ends_ns : kNever;
  const std::uint64_t lost = lost_at(member);
  if (!member.always || !others_wait(member))
    return lost;
  const std::int64_t ahead = virtual_time_ + member.as_virtual(settings_.burst_ns) - member.virtual_ns;
  const std::uint64_t lasts = std::min(member.as_service(ahead) + kMicrosecond, member.ceiling_leaves());
  return std::min(lost, add_saturated(now_, lasts));
}

void ShareSchedule::plan_next_call() {
  next_call_ = kNever;
  for (const Member& member : members_)
    next_call_ = std::min(next_call_, next_call_of(member));
  if (holder_ == 0 && free_at_ > add_saturated(now_, settings_.hand_over_ns) && next() != nullptr)
    next_call_ = std::min(next_call_, free_at_ - settings_.hand_over_ns);
  next_call_ = std::max(next_call_, add_saturated(now_, kMicrosecond));
}

} // namespace aliquot::limiter::arbiter
