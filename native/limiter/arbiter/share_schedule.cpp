// What slices and their processes say, and the books. What follows from it is in decisions.cpp.
#include "native/limiter/arbiter/share_schedule.hpp"

#include <algorithm>

namespace aliquot::limiter::arbiter {
namespace {

constexpr std::int64_t kLargeVirtual = std::int64_t{1} << 60;

} // namespace

ShareSchedule::ShareSchedule(const Settings& settings) : settings_(settings) {}

const Member* ShareSchedule::find(MemberId member) const noexcept {
  const auto at = std::find_if(members_.begin(), members_.end(),
                               [member](const Member& each) { return each.id == member; });
  return at == members_.end() ? nullptr : &*at;
}

Member* ShareSchedule::find(MemberId member) noexcept {
  return const_cast<Member*>(static_cast<const ShareSchedule*>(this)->find(member));
}

void ShareSchedule::join(MemberId member, const Terms& terms, const GrantState& last, std::uint64_t now) {
  settle(now);
  if (member == 0 || find(member) != nullptr)
    return;
  members_.emplace_back(member, terms, last).closed_ns = now_;
  weigh();
  decide();
}

void ShareSchedule::leave(MemberId member, std::uint64_t now) {
  settle(now);
  std::erase_if(members_, [member](const Member& each) { return each.id == member; });
  if (holder_ == member)
    holder_ = 0;
  weigh();
  decide();
}

void ShareSchedule::change(MemberId member, const Terms& terms, std::uint64_t now) {
  settle(now);
  if (Member* changed = find(member)) {
    changed->terms = terms;
    changed->limit_bucket();
    weigh();
    decide();
  }
}

void ShareSchedule::advance(std::uint64_t now) {
  settle(now);
  decide();
}

void ShareSchedule::tell(MemberId id, ProcessId process_id, compute::MessageKind kind, std::uint64_t turn,
                         std::uint64_t value, std::uint64_t now, std::uint64_t worked) {
  settle(now);
  Member* member = find(id);
  if (member == nullptr || turn > member->grant.turn)
    return;
  const std::size_t known = member->processes.size();
  Member::Process& process = member->process(process_id);
  if (known == 0)
    weigh();
  switch (kind) {
  case compute::MessageKind::Want:
    want(*member, process, turn);
    break;
  case compute::MessageKind::Began:
    begin(*member, process, turn);
    break;
  case compute::MessageKind::Closed:
    closed(*member, process, turn, std::min(value, settings_.overrun_ns), worked);
    break;
  case compute::MessageKind::Running:
    running(*member, process, turn);
    break;
  case compute::MessageKind::Idle:
    idle(*member, process, turn);
    break;
  case compute::MessageKind::Hello:
    break;
  }
  decide();
}

void ShareSchedule::hang_up(MemberId id, ProcessId process, std::uint64_t now) {
  settle(now);
  Member* member = find(id);
  if (member == nullptr)
    return;
  const bool counted = member->counted();
  if (member->remove(process)) {
    if (counted && !member->counted())
      rest_from(*member);
    if (!member->present())
      weigh();
    decide();
  }
}

// Who comes back from idleness continues with the others: idle time is no credit. In the gap between two
// turns it keeps what little it may be behind.
void ShareSchedule::enter(Member& member) {
  const bool was_away = member.active_ns == 0 || now_ - std::min(now_, member.active_ns) > settings_.gap_ns;
  member.newcomer = was_away || member.rested;
  const std::int64_t credit = member.newcomer ? 0 : member.as_virtual(settings_.gap_ns);
  member.virtual_ns = std::max(member.virtual_ns, virtual_time_ - credit);
}

void ShareSchedule::want(Member& member, Member::Process& process, std::uint64_t turn) {
  if (!member.wants()) {
    member.wanted_ns = now_;
    if (!member.counted())
      enter(member);
  }
  if (member.open() && turn < member.grant.turn) // it crossed the opening, which it will see
    process.counted = true;
  else
    process.wants = true;
}

void ShareSchedule::begin(Member& member, Member::Process& process, std::uint64_t turn) {
  if (!member.open()) {
    if ((turn & 1u) != 0 && turn + 1 == member.grant.turn) // under a turn that has been closed meanwhile
      trail(member, now_);
    return;
  }
  if (!member.counted()) {
    enter(member);
    member.heard_ns = now_;
  }
  process.counted = true;
}

void ShareSchedule::closed(Member& member, Member::Process& process, std::uint64_t turn, std::uint64_t rest,
                           std::uint64_t worked) {
  if (!member.open()) {
    if (turn + 1 == member.grant.turn)
      member.trailing_until = std::min(member.trailing_until, add_saturated(now_, rest));
    return;
  }
  if (turn < member.chain || !process.counted)
    return;
  process.counted = false;
  member.worked_ns = add_saturated(member.worked_ns, worked);
  member.heard_ns = now_;
  if (member.id == holder_)
    free_at_ = std::max(free_at_, add_saturated(now_, rest));
  if (!member.counted())
    finish(member);
}

void ShareSchedule::running(Member& member, Member::Process& process, std::uint64_t turn) {
  if (!member.open()) {
    if (turn + 1 == member.grant.turn)
      trail(member, member.trailing_until > member.closed_ns ? now_ : member.closed_ns);
    return;
  }
  if (turn < member.chain)
    return;
  process.counted = true;
  member.heard_ns = now_;
}

void ShareSchedule::idle(Member& member, Member::Process& process, std::uint64_t turn) {
  if (!member.open()) {
    if (turn + 1 == member.grant.turn)
      member.trailing_until = std::min(member.trailing_until, now_);
    return;
  }
  if (turn < member.chain)
    return;
  process.counted = false;
  if (!member.counted())
    rest_from(member);
}

// All who were counted in have said that they are done; their last work ends at `free_at_`.
void ShareSchedule::finish(Member& member) {
  if (member.id != holder_) {
    member.prolong();
    return;
  }
  const std::uint64_t charged = std::max({now_, member.charged_from, member.closed_ns});
  member.charge(std::max(charged, free_at_) - charged);
  member.refund_ceiling(settings_.hand_over_cost_ns);
  member.close_turn(now_);
  member.closed_ns = std::max(member.closed_ns, free_at_);
  holder_ = 0;
}

// Nothing runs in its turn. Whoever begins again says so, under another word.
void ShareSchedule::rest_from(Member& member) {
  if (!member.open())
    return;
  member.rested = true;
  member.prolong_until(member.grant.ends_ns);
}

// It works without a turn, and has since `from`: that was charged to the holder, and now goes the other way.
// It is charged for as long as it is heard of, but not for longer than a turn may overrun.
void ShareSchedule::trail(Member& member, std::uint64_t from) {
  const std::uint64_t last = add_saturated(member.closed_ns, settings_.overrun_ns);
  from = std::min(from, now_);
  if (now_ >= last)
    return;
  member.charge(now_ - from);
  if (Member* holding = find(holder_))
    holding->credit_ns =
        add_saturated(holding->credit_ns, now_ - std::max(from, std::min(now_, holding->charged_from)));
  member.trailing_until = std::min(add_saturated(now_, settings_.silence_ns), last);
}

void ShareSchedule::settle(std::uint64_t now) {
  if (now <= now_)
    return;
  const std::uint64_t from = now_;
  now_ = now;
  for (Member& member : members_)
    settle_member(member, from, now);
  raise_virtual_time();
}

// Until when the card works for those whose turn is over.
std::uint64_t ShareSchedule::late_work_until() const noexcept {
  std::uint64_t until = 0;
  for (const Member& member : members_)
    until = std::max(until, member.open() ? 0 : member.trailing_until);
  return until;
}

void ShareSchedule::settle_member(Member& member, std::uint64_t from, std::uint64_t to) {
  member.refill(to - from);
  std::uint64_t begin = from;
  std::uint64_t end = to;
  if (member.open() && member.counted()) {
    const Member* holding = holder();
    begin = std::max({from, late_work_until(), member.id == holder_ ? member.charged_from : free_at_});
    // The work of one that began without a turn stands behind the holder's: so long it is the holder's time.
    if (member.id != holder_ && holding != nullptr && holding->counted())
      end = from;
  } else if (!member.open()) {
    end = std::min(to, member.trailing_until);
  } else {
    end = from;
  }
  begin = std::max(begin, member.closed_ns); // up to there it has been charged
  if (end > begin)
    member.charge(end - begin);
  member.limit_bucket();
  const bool wants = member.wants();
  if (wants && !member.open())
    member.grant.waited_ns = add_saturated(member.grant.waited_ns, to - from);
  if (wants || member.counted())
    member.active_ns = to;
}

void ShareSchedule::raise_virtual_time() {
  std::int64_t least = INT64_MAX;
  for (const Member& member : members_) {
    if (waits(member) || (member.open() && member.counted()))
      least = std::min(least, member.virtual_ns);
  }
  if (least != INT64_MAX)
    virtual_time_ = std::max(virtual_time_, least);
  if (virtual_time_ < kLargeVirtual)
    return;
  for (Member& member : members_)
    member.virtual_ns = std::max<std::int64_t>(member.virtual_ns - virtual_time_, 0);
  virtual_time_ = 0;
}

// Who asked for no share has, with the others of that kind, what nobody asked for.
void ShareSchedule::weigh() {
  std::uint64_t requested = 0;
  std::uint64_t without = 0;
  for (const Member& member : members_) {
    if (!member.present())
      continue;
    requested += std::min(member.terms.request_ppm, kWholeCard);
    without += member.terms.request_ppm == 0 ? 1 : 0;
  }
  const std::uint64_t rest = kWholeCard - std::min(requested, kWholeCard);
  for (Member& member : members_) {
    const std::uint64_t sharing = without + (member.present() ? 0 : 1);
    const std::uint64_t even = std::max(rest / std::max<std::uint64_t>(sharing, 1), kWholeCard / 100);
    const std::uint64_t weight = member.terms.request_ppm > 0 ? member.terms.request_ppm : even;
    member.weight = std::clamp(weight, Member::kLeastWeight, kWholeCard);
  }
}

} // namespace aliquot::limiter::arbiter
