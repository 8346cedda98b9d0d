// What all processes of one user may take of the arbiter together, over all of the user's slices.
//
// Without it a person with many slices could have all descriptors, or keep the arbiter busy with messages.
#pragma once

#include <cstdint>
#include <map>
#include <sys/types.h>

namespace aliquot::limiter::arbiter {

class Crowd {
 public:
  // `most_connections` of a user; root is bounded by its slices alone.
  explicit Crowd(unsigned most_connections) noexcept : most_connections_(most_connections) {}

  // A part of the descriptors that this process may have, two for each connection.
  static unsigned connections_of_a_user(std::uint64_t descriptors) noexcept;

  bool admit(uid_t user);
  void leave(uid_t user) noexcept;
  bool may_speak(uid_t user) const noexcept;
  void heard(uid_t user);
  void tick() noexcept; // everybody may speak again

 private:
  struct Taken {
    unsigned connections = 0;
    unsigned messages = 0; // in this tick
  };
  unsigned most_connections_;
  std::map<uid_t, Taken> users_;
};

} // namespace aliquot::limiter::arbiter
