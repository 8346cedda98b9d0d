// Who holds a card until when: the policy that ../compute/README.md states, for one card.
//
// Pure: time is an argument, nothing is read or written. Any sequence of calls leaves it consistent: at most
// one turn is open besides those of slices that begin without one, counters only grow, and whoever wants the
// card gets it within a bound. Times are ns of CLOCK_MONOTONIC; one that goes back counts as the last one.
#pragma once

#include <cstdint>
#include <vector>

#include "native/limiter/arbiter/member.hpp"
#include "native/limiter/compute/message.hpp"

namespace aliquot::limiter::arbiter {

// Found by simulation (../compute/README.md has the figures).
struct Settings {
  // How far a holder may lead whoever waits, in time of the whole card: the length of a cycle, roughly.
  std::uint64_t lead_ns = 10 * kMillisecond;
  std::uint64_t least_turn_ns = 2 * kMillisecond;
  // Who comes back from idleness waits so long for a holder that it is not behind of.
  std::uint64_t newcomer_ns = 6 * kMillisecond;
  // A gap between two turns that is no idleness: the way of a message and a grant on a busy machine.
  std::uint64_t gap_ns = 2 * kMillisecond;
  // How far a higher rank may be ahead of its share, in its own service, and still be served first.
  std::uint64_t burst_ns = 100 * kMillisecond;
  // What a contended turn may have in flight; it is what an earlier end has to wait for.
  std::uint64_t in_flight_ns = 2 * kMillisecond;
  // Who worked so recently may come back: until then the others' work is watched and bounded.
  std::uint64_t recent_ns = 1000 * kMillisecond;
  // Longer than a program needs to see that its work has ended, think a little, and launch again.
  std::uint64_t idle_window_ns = 150 * kMicrosecond;
  // The next turn is opened so long before the last one's work has ended.
  std::uint64_t hand_over_ns = 300 * kMicrosecond;
  // The most that a ceiling is not charged for of a turn in which the device did not work: a way to begin and
  // end.
  std::uint64_t hand_over_cost_ns = 500 * kMicrosecond;
  std::uint64_t silence_ns = 20 * kMillisecond;
  // The longest that work is waited for which runs on after its turn. Then the driver's time slices must
  // help.
  std::uint64_t overrun_ns = 200 * kMillisecond;
};

class ShareSchedule {
 public:
  explicit ShareSchedule(const Settings& settings = {});

  // `last` is what the slice was told before, by this schedule or by the one of an arbiter that died.
  void join(MemberId member, const Terms& terms, const GrantState& last, std::uint64_t now);
  void leave(MemberId member, std::uint64_t now);
  void change(MemberId member, const Terms& terms, std::uint64_t now);

  void tell(MemberId member, ProcessId process, compute::MessageKind kind, std::uint64_t turn,
            std::uint64_t value, std::uint64_t now, std::uint64_t worked = 0);
  void hang_up(MemberId member, ProcessId process, std::uint64_t now);

  void advance(std::uint64_t now);
  // When it wants to be called at the latest; kNever: not before something else happens.
  std::uint64_t next_call() const noexcept { return next_call_; }

  const std::vector<Member>& members() const noexcept { return members_; }
  const Member* holder() const noexcept { return find(holder_); }

 private:
  const Member* find(MemberId member) const noexcept;
  Member* find(MemberId member) noexcept;

  void settle(std::uint64_t now);
  void settle_member(Member& member, std::uint64_t from, std::uint64_t to);
  std::uint64_t late_work_until() const noexcept;
  void raise_virtual_time();
  void weigh();

  void want(Member& member, Member::Process& process, std::uint64_t turn);
  void begin(Member& member, Member::Process& process, std::uint64_t turn);
  void closed(Member& member, Member::Process& process, std::uint64_t turn, std::uint64_t rest,
              std::uint64_t worked);
  void running(Member& member, Member::Process& process, std::uint64_t turn);
  void idle(Member& member, Member::Process& process, std::uint64_t turn);
  void enter(Member& member);
  void finish(Member& member);
  void rest_from(Member& member);
  void trail(Member& member, std::uint64_t from);

  void decide();
  void drop_silent();
  void set_privilege(Member& member);
  void give_privilege(Member& member);
  void take_privilege(Member& member);
  void close_holder(Member& member);
  void update_holder();
  void open_next();
  void set_grants();
  void plan_next_call();

  bool waits(const Member& member) const noexcept; // wants the card and could have it
  bool others_wait(const Member& member) const noexcept;
  bool within_share(const Member& member) const noexcept;
  bool outranked(const Member& member) const noexcept; // by one that works without a turn
  bool goes_before(const Member& a, const Member& b) const noexcept;
  Member* next() noexcept;
  std::uint64_t end_of(const Member& holder) const noexcept;
  std::uint64_t patience(const Member& holder, const Member& waiter) const noexcept;
  std::uint64_t lost_at(const Member& member) const noexcept; // when its silence costs it the turn
  std::uint64_t active_weight() const noexcept;
  std::uint64_t share_of(const Member& member) const noexcept;
  std::uint64_t neighbours_allow(const Member& member) const noexcept;
  bool contended(const Member& member) const noexcept;
  bool recent(const Member& member) const noexcept;
  std::uint64_t next_call_of(const Member& member) const noexcept;
  std::uint64_t next_decision_on(const Member& member) const noexcept;

  Settings settings_;
  std::vector<Member> members_;
  MemberId holder_ = 0; // 0: nobody
  std::uint64_t now_ = 0;
  std::uint64_t free_at_ = 0;     // when the work of the last turn has ended
  std::int64_t virtual_time_ = 0; // the least of those who are active; it never falls
  std::uint64_t next_call_ = kNever;
};

} // namespace aliquot::limiter::arbiter
