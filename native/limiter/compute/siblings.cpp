#include "native/limiter/compute/siblings.hpp"

#include <algorithm>

#include "native/limiter/region/slots.hpp"

namespace aliquot::limiter::compute {
namespace {

constexpr std::uint64_t kLately = 1'000'000'000;

} // namespace

void Siblings::start(const layout::Account& account, std::uint64_t own_owner, unsigned device) noexcept {
  account_ = &account;
  own_ = own_owner;
  device_ = device;
}

unsigned Siblings::active(std::uint64_t now) const noexcept {
  unsigned count = 1;
  for (std::uint32_t index = 0; index < slots_used(*account_); ++index) {
    const layout::Process& slot = account_->processes[index];
    const std::uint64_t owner = slot.owner.load(std::memory_order_relaxed);
    const std::uint64_t end = slot.work[device_].last_end_ns.load(std::memory_order_relaxed);
    if (owner != own_ && counts(owner) && now - std::min(now, end) < kLately)
      ++count;
  }
  return count;
}

} // namespace aliquot::limiter::compute
