#include "native/limiter/arbiter/crowd.hpp"

#include <algorithm>

namespace aliquot::limiter::arbiter {
namespace {

constexpr unsigned kFewest = 64;
constexpr unsigned kPart = 16;               // of the descriptors: an eighth of them for a user
constexpr unsigned kMessagesOfUser = 16'000; // in a tick of 100 ms: two slices that flood

} // namespace

unsigned Crowd::connections_of_a_user(std::uint64_t descriptors) noexcept {
  constexpr std::uint64_t kMost = 1u << 20u; // where there is no limit
  return std::max(kFewest, static_cast<unsigned>(std::min(descriptors, kMost) / kPart));
}

bool Crowd::admit(uid_t user) {
  Taken& taken = users_[user];
  if (user != 0 && taken.connections >= most_connections_)
    return false;
  ++taken.connections;
  return true;
}

void Crowd::leave(uid_t user) noexcept {
  const auto found = users_.find(user);
  if (found != users_.end() && found->second.connections > 0)
    --found->second.connections;
}

bool Crowd::may_speak(uid_t user) const noexcept {
  const auto found = users_.find(user);
  return user == 0 || found == users_.end() || found->second.messages < kMessagesOfUser;
}

void Crowd::heard(uid_t user) {
  ++users_[user].messages;
}

void Crowd::tick() noexcept {
  std::erase_if(users_, [](const auto& each) { return each.second.connections == 0; });
  for (auto& [user, taken] : users_)
    taken.messages = 0;
}

} // namespace aliquot::limiter::arbiter
