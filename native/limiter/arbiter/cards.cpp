#include "native/limiter/arbiter/cards.hpp"

#include <algorithm>

namespace aliquot::limiter::arbiter {

MemberId SharedCard::join(const Terms& terms, layout::DeviceGrant& page, const std::string& name,
                          std::uint64_t now) {
  const MemberId member = ++last_;
  const GrantState before = read_grant(page);
  seats_.emplace(member, Seat{&page, before, name});
  schedule_.join(member, terms, before, now);
  publish();
  return member;
}

void SharedCard::leave(MemberId member, std::uint64_t now) {
  schedule_.leave(member, now);
  seats_.erase(member);
  publish();
}

void SharedCard::change(MemberId member, const Terms& terms, std::uint64_t now) {
  schedule_.change(member, terms, now);
  publish();
}

void SharedCard::tell(MemberId member, ProcessId process, const compute::Message& message,
                      std::uint64_t now) {
  schedule_.tell(member, process, message.kind, message.turn, message.value, now, message.worked);
  publish();
}

void SharedCard::hang_up(MemberId member, ProcessId process, std::uint64_t now) {
  schedule_.hang_up(member, process, now);
  publish();
}

void SharedCard::advance(std::uint64_t now) {
  schedule_.advance(now);
  publish();
}

void SharedCard::wake_all() noexcept {
  for (auto& [member, seat] : seats_)
    wake(*seat.page);
}

// Who has to stop is told before anyone may begin.
void SharedCard::publish() {
  for (const bool open : {false, true}) {
    for (const Member& member : schedule_.members()) {
      Seat& seat = seats_.at(member.id);
      if (member.open() == open)
        arbiter::publish(*seat.page, member.grant, seat.published);
    }
  }
}

void Cards::drop_empty() {
  std::erase_if(cards_, [](const auto& each) { return each.second.empty(); });
}

void Cards::advance(std::uint64_t now) {
  for (auto& [identity, card] : cards_) {
    if (card.next_call() <= now)
      card.advance(now);
  }
}

void Cards::advance_all(std::uint64_t now) {
  for (auto& [identity, card] : cards_)
    card.advance(now);
}

void Cards::wake_all() noexcept {
  for (auto& [identity, card] : cards_)
    card.wake_all();
}

std::uint64_t Cards::next_call() const noexcept {
  std::uint64_t next = kNever;
  for (const auto& [identity, card] : cards_)
    next = std::min(next, card.next_call());
  return next;
}

} // namespace aliquot::limiter::arbiter
