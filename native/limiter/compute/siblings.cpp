#include "native/limiter/compute/siblings.hpp"

#include <algorithm>

#include "native/limiter/region/slots.hpp"

namespace aliquot::limiter::compute {
namespace {

constexpr std::uint64_t kPatience = 20'000'000;       // ns beyond twice what its work should take
constexpr std::uint64_t kLongestWork = 1'000'000'000; // whatever was scribbled there
constexpr std::uint64_t kLately = 1'000'000'000;

} // namespace

void Siblings::start(const layout::Account& account, std::uint64_t own_owner, unsigned device) noexcept {
  account_ = &account;
  own_ = own_owner;
  device_ = device;
}

std::uint64_t Siblings::in_flight(std::uint64_t now) noexcept {
  std::uint64_t sum = 0;
  for (std::uint32_t index = 0; index < slots_used(*account_); ++index) {
    const layout::Process& slot = account_->processes[index];
    const std::uint64_t owner = slot.owner.load();
    if (owner == own_ || !counts(owner))
      continue;
    const layout::DeviceWork& work = slot.work[device_];
    Seen& seen = seen_[index];
    const std::uint64_t finished = work.finished_ns.load(), admitted = work.admitted_ns.load();
    if (finished != seen.finished || admitted != seen.admitted)
      seen = {admitted, finished, now};
    const std::uint64_t left = admitted > finished ? std::min(admitted - finished, kLongestWork) : 0;
    if (left != 0 && now - seen.at < 2 * left + kPatience)
      sum += left;
  }
  return sum;
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
