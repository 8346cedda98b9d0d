#include "native/limiter/region/process_identity.hpp"

#include <unistd.h>

#include "aliquot/slice_layout.hpp"
#include "native/common/process_status.hpp"

namespace aliquot::limiter {
namespace {

constexpr std::uint64_t ones(unsigned bits) noexcept {
  return (std::uint64_t{1} << bits) - 1;
}
constexpr unsigned kNamespaceShift = layout::kOwnerPidBits;
constexpr unsigned kStartShift = kNamespaceShift + layout::kOwnerNamespaceBits;
constexpr unsigned kClaimingShift = kStartShift + layout::kOwnerStartBits;
static_assert(kClaimingShift == 63);

} // namespace

ProcessIdentity identify_self() noexcept {
  const pid_t pid = ::getpid();
  common::ProcessStatus status;
  common::read_process_status(pid, status);
  return {static_cast<std::uint32_t>(pid), status.start_ticks, common::pid_namespace_inode()};
}

bool is_dead(std::uint32_t pid, std::uint64_t start_ticks) noexcept {
  common::ProcessStatus status;
  if (!common::read_process_status(static_cast<pid_t>(pid), status))
    return false;
  const bool reused = start_ticks != 0 && (status.start_ticks & ones(layout::kOwnerStartBits)) != start_ticks;
  return status.ended() || reused;
}

std::uint64_t OwnerWord::pack() const noexcept {
  return (pid & ones(layout::kOwnerPidBits)) |
         (pid_namespace & ones(layout::kOwnerNamespaceBits)) << kNamespaceShift |
         (start_ticks & ones(layout::kOwnerStartBits)) << kStartShift |
         static_cast<std::uint64_t>(claiming) << kClaimingShift;
}

OwnerWord OwnerWord::unpack(std::uint64_t word) noexcept {
  OwnerWord owner;
  owner.pid = static_cast<std::uint32_t>(word & ones(layout::kOwnerPidBits));
  owner.pid_namespace =
      static_cast<std::uint32_t>(word >> kNamespaceShift & ones(layout::kOwnerNamespaceBits));
  owner.start_ticks = word >> kStartShift & ones(layout::kOwnerStartBits);
  owner.claiming = (word >> kClaimingShift) != 0;
  return owner;
}

} // namespace aliquot::limiter
