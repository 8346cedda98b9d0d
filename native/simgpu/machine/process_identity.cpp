#include "native/simgpu/machine/process_identity.hpp"

namespace aliquot::simgpu::machine {
namespace {

std::uint64_t mix(std::uint64_t value) noexcept {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

std::uint64_t own_namespace() noexcept {
  static const std::uint64_t value = mix(common::pid_namespace_inode()) & 0xff;
  return value;
}

} // namespace

std::uint64_t identity_of(const common::ProcessStatus& status) noexcept {
  const std::uint64_t image = mix(status.stack_start) & 0x3ff;
  return (static_cast<std::uint64_t>(status.pid) & 0x3fffff) << 42 | own_namespace() << 34 | image << 24 |
         (status.start_ticks & 0xffffff);
}

pid_t identity_pid(std::uint64_t identity) noexcept {
  return static_cast<pid_t>(identity >> 42);
}

Life life_of(std::uint64_t identity) noexcept {
  if ((identity >> 34 & 0xff) != own_namespace())
    return Life::Alive;
  common::ProcessStatus status;
  if (!common::read_process_status(identity_pid(identity), status))
    return Life::Alive;
  if (status.ended())
    return Life::Dead;
  const bool image_known = status.stack_start != 0;
  const std::uint64_t mask = image_known ? ~std::uint64_t{0} : ~(std::uint64_t{0x3ff} << 24);
  if ((identity_of(status) & mask) != (identity & mask))
    return Life::Dead;
  return status.state == 'T' || status.state == 't' ? Life::Stopped : Life::Alive;
}

} // namespace aliquot::simgpu::machine
