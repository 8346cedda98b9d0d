// The schedules of all cards, and the pages on which what they decide is written.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "native/limiter/arbiter/grant_page.hpp"
#include "native/limiter/arbiter/share_schedule.hpp"

namespace aliquot::limiter::arbiter {

// The slices that share one card.
class SharedCard {
 public:
  MemberId join(const Terms& terms, layout::DeviceGrant& page, const std::string& name, std::uint64_t now);
  void leave(MemberId member, std::uint64_t now);
  void change(MemberId member, const Terms& terms, std::uint64_t now);
  void tell(MemberId member, ProcessId process, const compute::Message& message, std::uint64_t now);
  void hang_up(MemberId member, ProcessId process, std::uint64_t now);
  void advance(std::uint64_t now);
  void wake_all() noexcept;

  std::uint64_t next_call() const noexcept { return schedule_.next_call(); }
  bool empty() const noexcept { return seats_.empty(); }
  const ShareSchedule& schedule() const noexcept { return schedule_; }
  const std::string& name_of(MemberId member) const { return seats_.at(member).name; }

 private:
  struct Seat {
    layout::DeviceGrant* page;
    GrantState published;
    std::string name;
  };
  void publish();

  ShareSchedule schedule_;
  std::map<MemberId, Seat> seats_;
  MemberId last_ = 0;
};

class Cards {
 public:
  SharedCard& at(const std::string& identity) { return cards_[identity]; }
  void drop_empty();
  void advance(std::uint64_t now); // those that want to be called by then
  void advance_all(std::uint64_t now);
  void wake_all() noexcept;
  std::uint64_t next_call() const noexcept;
  const std::map<std::string, SharedCard>& all() const noexcept { return cards_; }

 private:
  std::map<std::string, SharedCard> cards_;
};

} // namespace aliquot::limiter::arbiter
