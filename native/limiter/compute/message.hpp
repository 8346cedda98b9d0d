// What a process of a slice tells the arbiter: one packet of a SOCK_SEQPACKET socket. See README.md.
#pragma once

#include <cstdint>

namespace aliquot::limiter::compute {

enum class MessageKind : std::uint32_t { Hello = 1, Want, Began, Closed, Running, Idle };

struct Message {
  MessageKind kind;
  std::uint32_t device; // the slice's number of it
  std::uint64_t turn;   // DeviceGrant.turn when the sender looked; 0 in Hello
  std::uint64_t value;  // see README.md
  std::uint64_t worked; // in Closed: how long the device worked for the process in its turn; 0: not told
};
static_assert(sizeof(Message) == 32);

inline constexpr char kSocketName[] = "arbiter";

} // namespace aliquot::limiter::compute
