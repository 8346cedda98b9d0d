// One slice on one card, as the schedule sees it: terms, processes, and the books of its time. No policy
// here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aliquot::limiter::arbiter {

inline constexpr std::uint64_t kNever = UINT64_MAX;
inline constexpr std::uint64_t kWholeCard = 1'000'000; // in millionths, as shares are stated
inline constexpr std::uint64_t kMicrosecond = 1'000;
inline constexpr std::uint64_t kMillisecond = 1'000'000;

using MemberId = std::uint64_t;
using ProcessId = std::uint64_t;

// What the slice was promised of the card, from its `limits`.
struct Terms {
  std::uint64_t request_ppm = 0; // 0: none
  std::uint64_t ceiling_ppm = 0; // 0: none
  std::uint64_t rank = 0;
  bool preempts = false;
  std::uint64_t neighbour_in_flight_ns = 0; // what lower ranks may have in flight while it lives
  std::uint64_t idle_window_ns = 0;         // 0: the schedule's own

  bool operator==(const Terms&) const = default;
};

// What the slice is told: the fields of layout::DeviceGrant, which says what they mean.
struct GrantState {
  std::uint64_t turn = 0;
  std::uint64_t ends_ns = 0;
  std::uint64_t in_flight_ns = 0;
  std::uint64_t flags = 0;
  std::uint64_t idle_window_ns = 0;
  std::uint64_t held_ns = 0;
  std::uint64_t waited_ns = 0;
  std::uint64_t turns = 0;
  std::uint64_t share_ppm = 0;
  std::uint64_t begins_ns = 0;
};

std::uint64_t add_saturated(std::uint64_t a, std::uint64_t b) noexcept;

struct Member {
  struct Process {
    ProcessId id = 0;
    bool wants = false;   // a call of it is held back
    bool counted = false; // it takes part in the turn: nobody else goes on before it has said that it is done
  };

  Member(MemberId member, const Terms& agreed, const GrantState& last);

  MemberId id;
  Terms terms;
  GrantState grant;
  std::vector<Process> processes; // those that have said something about this card

  bool always = false;      // begins without a turn, see README.md
  std::uint64_t weight = 0; // millionths of the card; at least kLeastWeight
  // Virtual time: what it held, divided by its weight. Never compared over more than a day, so it is kept
  // small.
  std::int64_t virtual_ns = 0;
  // What the ceiling leaves it at this moment, in ns * kWholeCard. Below 0 where it overran.
  std::int64_t bucket = 0;

  std::uint64_t chain = 0;          // first word of the turns that were prolonged into this one
  std::uint64_t opened_ns = 0;      // when it was opened
  std::uint64_t charged_from = 0;   // charged from then on: the work of whoever was before it had ended
  std::uint64_t heard_ns = 0;       // the last sign of life
  std::uint64_t wanted_ns = 0;      // when it began to want
  std::uint64_t active_ns = 0;      // when it last wanted or held the card
  std::uint64_t closed_ns = 0;      // when its last turn was over, by what was known then
  std::uint64_t trailing_until = 0; // it works after its turn: charged until then, in the holder's place
  std::uint64_t credit_ns = 0;      // charged too much: so much is not charged
  std::uint64_t opened_held_ns = 0; // grant.held_ns when the turn was opened
  std::uint64_t worked_ns = 0;      // of the turn, as its processes say; 0: they did not
  bool rested = false;              // its last turn was given up for want of work
  bool newcomer = false;            // it wants after a time without work, not after a turn

  static constexpr std::uint64_t kLeastWeight = 100;

  bool open() const noexcept { return (grant.turn & 1u) != 0; }
  bool wants() const noexcept;
  bool counted() const noexcept;
  bool present() const noexcept { return !processes.empty(); }
  Process& process(ProcessId process);
  bool remove(ProcessId process); // false where it was not there

  void open_turn(std::uint64_t now, std::uint64_t work_from) noexcept;
  void prolong() noexcept { prolong_until(kNever); }
  void prolong_until(std::uint64_t end) noexcept; // the same turn under another word
  void close_turn(std::uint64_t now) noexcept;
  void count_wanting() noexcept;
  void count_none() noexcept;

  void charge(std::uint64_t elapsed) noexcept;
  void refill(std::uint64_t elapsed) noexcept;
  void limit_bucket() noexcept;
  // What of the turn was no work is not the ceiling's to pay for, up to `most`.
  void refund_ceiling(std::uint64_t most) noexcept;
  bool has_ceiling() const noexcept { return terms.ceiling_ppm > 0 && terms.ceiling_ppm < kWholeCard; }
  // How long it may hold the card before the ceiling stops it; kNever without one.
  std::uint64_t ceiling_leaves() const noexcept;
  // How long until the ceiling leaves it `least`.
  std::uint64_t ceiling_returns(std::uint64_t least) const noexcept;
  // Its virtual time after so much service, and the service that makes so much virtual time.
  std::int64_t as_virtual(std::uint64_t service) const noexcept;
  std::uint64_t as_service(std::int64_t virtual_time) const noexcept;
};

} // namespace aliquot::limiter::arbiter
