// Any sequence of slices that come and go, of messages, and of time: the schedule must stay consistent, must
// not ask to be called all the time, and must let whoever is behind go on.
//
// The input is read as events of eight bytes.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string_view>
#include <vector>

#include "aliquot/slice_layout.hpp"
#include "native/common/fuzz/fuzz.hpp"
#include "native/limiter/arbiter/share_schedule.hpp"

namespace {

using aliquot::fuzz::require;
using aliquot::limiter::compute::MessageKind;
namespace arbiter = aliquot::limiter::arbiter;
namespace layout = aliquot::limiter::layout;
using arbiter::GrantState;
using arbiter::kMillisecond;
using arbiter::Member;

constexpr unsigned kMembers = 5;
constexpr unsigned kProcesses = 3;
constexpr std::uint64_t kMostRest = 500 * kMillisecond;
// A holder may overrun its turn by half a second; one that is allowed to go first, by its burst.
constexpr std::uint64_t kMostWait = 3'000 * kMillisecond;

struct Event {
  std::uint8_t kind, member, process, message, turn, value, time, more;
};
static_assert(sizeof(Event) == 8);

// What must hold after each event, compared with what was before it.
class Watch {
 public:
  void look(const arbiter::ShareSchedule& schedule, std::uint64_t now) {
    const Member* holder = schedule.holder();
    unsigned open = 0;
    for (const Member& member : schedule.members()) {
      open += member.open() && !member.always ? 1 : 0;
      require(!member.open() || member.always || &member == holder, "who has a turn holds the card");
      look_at(member, schedule, now);
    }
    require(open <= 1, "there is one turn at a time");
    require(holder == nullptr || holder->open(), "the holder's turn is open");
    require(schedule.next_call() > now, "it does not want to be called for what it has just seen");
  }
  void forget(arbiter::MemberId member) { last_.erase(member); }

 private:
  struct Last {
    GrantState grant;
    std::uint64_t since = 0;
    std::uint64_t held_before = 0;
    std::uint64_t behind_since = 0;
  };

  void look_at(const Member& member, const arbiter::ShareSchedule& schedule, std::uint64_t now) {
    const auto [at, fresh] = last_.try_emplace(member.id);
    Last& last = at->second;
    if (fresh)
      last = {member.grant, now, member.grant.held_ns, now};
    require(member.grant.turn >= last.grant.turn, "a turn's word only grows");
    require(member.grant.held_ns >= last.grant.held_ns && member.grant.waited_ns >= last.grant.waited_ns &&
                member.grant.turns >= last.grant.turns,
            "counters only grow");
    require(member.grant.held_ns - last.held_before <= now - last.since + kMostRest,
            "nobody is charged more time than there was");
    require(member.grant.share_ppm <= arbiter::kWholeCard, "a share is a part");
    require((member.grant.flags & ~std::uint64_t{layout::kGrantAlways | layout::kGrantContended}) == 0,
            "known flags");
    require(member.always == ((member.grant.flags & layout::kGrantAlways) != 0), "who may begin is told");
    if (!is_behind(member, schedule))
      last.behind_since = now;
    require(now - last.behind_since <= kMostWait, "whoever is behind gets the card");
    last.grant = member.grant;
  }

  // It wants the card, nothing of its own keeps it from it, and nobody who wants it has had less.
  static bool is_behind(const Member& member, const arbiter::ShareSchedule& schedule) {
    if (!member.wants() || member.open() || member.has_ceiling())
      return false;
    return std::none_of(schedule.members().begin(), schedule.members().end(), [&](const Member& each) {
      return (each.wants() || each.counted()) && each.virtual_ns < member.virtual_ns;
    });
  }

  std::map<arbiter::MemberId, Last> last_;
};

class Run {
 public:
  void apply(const Event& event) {
    pass(std::uint64_t{event.time} * event.time * 300 + (event.more & 0x0fu));
    const arbiter::MemberId member = event.member % kMembers + 1;
    if (event.kind < 16)
      join(member, event);
    else if (event.kind < 20)
      leave(member);
    else if (event.kind < 24)
      schedule_.change(member, terms(event), now_);
    else if (event.kind < 32)
      schedule_.hang_up(member, event.process % kProcesses, now_);
    else
      tell(member, event);
    watch_.look(schedule_, now_);
  }

  // Time alone must bring everyone who waits to the card, and in few calls.
  void finish() {
    for (unsigned i = 0; i < 2'000 && schedule_.next_call() != arbiter::kNever; ++i)
      pass(std::min(schedule_.next_call() - now_, kMillisecond * 1'000));
  }

 private:
  void pass(std::uint64_t time) {
    const std::uint64_t until = now_ + time;
    for (unsigned calls = 0; schedule_.next_call() <= until; ++calls) {
      require(calls < 1 + kMembers * (8 + time / (kMillisecond / 10)), "it is not called all the time");
      now_ = std::max(now_, schedule_.next_call());
      schedule_.advance(now_);
      watch_.look(schedule_, now_);
    }
    now_ = until;
  }

  static arbiter::Terms terms(const Event& event) {
    arbiter::Terms terms;
    terms.request_ppm = event.message < 128 ? std::uint64_t{event.message} * event.value * 31 : 0;
    terms.ceiling_ppm = (event.more & 0x10u) != 0 ? std::uint64_t{event.value} * 4'000 : 0;
    terms.rank = event.turn % 3;
    terms.preempts = (event.more & 0x20u) != 0;
    terms.neighbour_in_flight_ns = event.value;
    return terms;
  }

  void join(arbiter::MemberId member, const Event& event) {
    GrantState before;
    before.turn = event.turn;
    before.held_ns = event.value;
    schedule_.join(member, terms(event), before, now_);
  }

  void leave(arbiter::MemberId member) {
    schedule_.leave(member, now_);
    watch_.forget(member);
  }

  void tell(arbiter::MemberId id, const Event& event) {
    std::uint64_t turn = event.turn;
    for (const Member& member : schedule_.members()) {
      if (member.id == id) // near the word that is valid, most of the time
        turn = event.turn < 200
                   ? member.grant.turn - std::min<std::uint64_t>(member.grant.turn, event.turn % 4)
                   : member.grant.turn + event.turn - 200;
    }
    const std::uint64_t value =
        event.value == 255 ? UINT64_MAX : std::uint64_t{event.value} * event.value * 10'000;
    schedule_.tell(id, event.process % kProcesses, static_cast<MessageKind>(event.message % 8), turn, value,
                   now_);
  }

  arbiter::ShareSchedule schedule_;
  Watch watch_;
  std::uint64_t now_ = 1;
};

} // namespace

namespace aliquot::fuzz {

std::vector<std::string_view> words() {
  // An event each: a slice joins, one that preempts joins; Want, Began, Closed, Running, Idle; time passes.
  return {std::string_view("\x00\x00\x00\x10\x00\x40\x00\x00", 8),
          std::string_view("\x00\x01\x00\x10\x02\x40\x00\x20", 8),
          std::string_view("\x40\x00\x00\x02\x00\x00\x04\x00", 8),
          std::string_view("\x40\x01\x00\x02\x00\x00\x04\x00", 8),
          std::string_view("\x40\x01\x00\x03\x00\x00\x04\x00", 8),
          std::string_view("\x40\x00\x00\x04\x00\x04\x20\x00", 8),
          std::string_view("\x40\x00\x00\x05\x01\x00\x80\x00", 8),
          std::string_view("\x40\x01\x00\x06\x00\x00\xff\x00", 8)};
}

std::vector<std::string_view> seeds() {
  static constexpr char kTwo[] = "\x00\x00\x00\x10\x00\x40\x00\x00\x00\x01\x00\x10\x00\x40\x00\x00"
                                 "\x40\x00\x00\x02\x00\x00\x04\x00\x40\x01\x00\x02\x00\x00\x04\x00"
                                 "\x40\x00\x00\x04\x00\x02\x60\x00\x40\x01\x00\x04\x00\x02\x60\x00";
  return {std::string_view(kTwo, sizeof kTwo - 1)};
}

} // namespace aliquot::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Run run;
  for (std::size_t at = 0; at + sizeof(Event) <= size; at += sizeof(Event)) {
    Event event{};
    std::memcpy(&event, data + at, sizeof event);
    run.apply(event);
  }
  run.finish();
  return 0;
}
