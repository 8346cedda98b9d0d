#include "native/limiter/arbiter/status.hpp"

#include <unistd.h>

namespace aliquot::limiter::arbiter {
namespace {

// Names of slices and cards need no escapes: see is_name() of home.cpp.
std::string quoted(const std::string& text) {
  return '"' + text + '"';
}

std::string pair(const char* key, std::uint64_t value) {
  return quoted(key) + ": " + std::to_string(value);
}

std::string member_text(const SharedCard& card, const Member& member) {
  const char* state =
      member.open() ? (member.counted() ? "works" : "idle") : (member.wants() ? "waits" : "idle");
  return "{" + quoted("name") + ": " + quoted(card.name_of(member.id)) + ", " + quoted("state") + ": " +
         quoted(state) + ", " + pair("processes", member.processes.size()) + ", " +
         pair("share_ppm", member.grant.share_ppm) + ", " + pair("held_ns", member.grant.held_ns) + ", " +
         pair("waited_ns", member.grant.waited_ns) + ", " + pair("turns", member.grant.turns) + "}";
}

std::string card_text(const std::string& identity, const SharedCard& card) {
  const Member* holder = card.schedule().holder();
  std::string text = "{" + quoted("device") + ": " + quoted(identity) + ", " + quoted("holder") + ": " +
                     (holder == nullptr ? "null" : quoted(card.name_of(holder->id))) + ", " +
                     quoted("slices") + ": [";
  const char* comma = "";
  for (const Member& member : card.schedule().members()) {
    text += comma + member_text(card, member);
    comma = ", ";
  }
  return text + "]}";
}

} // namespace

std::string status_text(std::uint64_t began_ns, std::size_t slices, const Cards& cards, std::uint64_t now) {
  std::string text = "{" + pair("pid", static_cast<std::uint64_t>(::getpid())) + ", " +
                     pair("up_ns", now - began_ns) + ", " + pair("slices", slices) + ", " +
                     quoted("devices") + ": [";
  const char* comma = "";
  for (const auto& [identity, card] : cards.all()) {
    text += comma + card_text(identity, card);
    comma = ", ";
  }
  return text + "]}\n";
}

} // namespace aliquot::limiter::arbiter
