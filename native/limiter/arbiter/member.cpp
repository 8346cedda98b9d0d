#include "native/limiter/arbiter/member.hpp"

#include <algorithm>

namespace aliquot::limiter::arbiter {
namespace {

constexpr std::uint64_t kHour = 3'600'000 * kMillisecond;
constexpr std::uint64_t kBucketDepth = 20 * kMillisecond;
constexpr std::int64_t kMostVirtual = std::int64_t{1} << 62;
constexpr std::int64_t kDeepestDebt = -static_cast<std::int64_t>(kHour * kWholeCard);

} // namespace

std::uint64_t add_saturated(std::uint64_t a, std::uint64_t b) noexcept {
  return a > kNever - b ? kNever : a + b;
}

Member::Member(MemberId member, const Terms& agreed, const GrantState& last)
    : id(member), terms(agreed), grant(last), weight(kLeastWeight),
      bucket(static_cast<std::int64_t>(kBucketDepth * kWholeCard)) {
  grant.turn += grant.turn & 1u; // whoever opened it is gone
  grant.ends_ns = 0;
}

bool Member::wants() const noexcept {
  return std::any_of(processes.begin(), processes.end(), [](const Process& each) { return each.wants; });
}

bool Member::counted() const noexcept {
  return std::any_of(processes.begin(), processes.end(), [](const Process& each) { return each.counted; });
}

Member::Process& Member::process(ProcessId process) {
  for (Process& each : processes) {
    if (each.id == process)
      return each;
  }
  return processes.emplace_back(Process{process, false, false});
}

bool Member::remove(ProcessId process) {
  return std::erase_if(processes, [process](const Process& each) { return each.id == process; }) > 0;
}

void Member::open_turn(std::uint64_t now, std::uint64_t work_from) noexcept {
  ++grant.turn;
  ++grant.turns;
  grant.ends_ns = kNever;
  grant.begins_ns = work_from;
  chain = grant.turn;
  opened_ns = heard_ns = now;
  charged_from = work_from;
  trailing_until = 0;
  opened_held_ns = grant.held_ns;
  worked_ns = 0;
  newcomer = rested = false;
  count_wanting();
}

void Member::prolong_until(std::uint64_t end) noexcept {
  grant.turn += 2;
  grant.ends_ns = end;
  count_wanting();
}

void Member::close_turn(std::uint64_t now) noexcept {
  ++grant.turn;
  grant.ends_ns = closed_ns = now;
  count_none();
}

void Member::count_wanting() noexcept {
  for (Process& each : processes) {
    each.counted = each.counted || each.wants;
    each.wants = false;
  }
}

void Member::count_none() noexcept {
  for (Process& each : processes)
    each.counted = false;
}

void Member::charge(std::uint64_t elapsed) noexcept {
  elapsed = std::min(elapsed, kHour);
  const std::uint64_t free = std::min(elapsed, credit_ns);
  credit_ns -= free;
  elapsed -= free;
  grant.held_ns = add_saturated(grant.held_ns, elapsed);
  virtual_ns = std::min(virtual_ns + std::min(as_virtual(elapsed), kMostVirtual), kMostVirtual);
  bucket = std::max(bucket - static_cast<std::int64_t>(elapsed * kWholeCard), kDeepestDebt);
}

void Member::refill(std::uint64_t elapsed) noexcept {
  bucket += static_cast<std::int64_t>(std::min(elapsed, kHour) * std::min(terms.ceiling_ppm, kWholeCard));
}

void Member::limit_bucket() noexcept {
  const auto full = static_cast<std::int64_t>(kBucketDepth * kWholeCard);
  bucket = has_ceiling() ? std::min(bucket, full) : full;
}

void Member::refund_ceiling(std::uint64_t most) noexcept {
  const std::uint64_t held = grant.held_ns - opened_held_ns;
  if (worked_ns == 0)
    return;
  bucket += static_cast<std::int64_t>(std::min(held - std::min(held, worked_ns), most) * kWholeCard);
  limit_bucket();
}

std::uint64_t Member::ceiling_leaves() const noexcept {
  if (!has_ceiling())
    return kNever;
  return bucket <= 0 ? 0 : static_cast<std::uint64_t>(bucket) / (kWholeCard - terms.ceiling_ppm);
}

std::uint64_t Member::ceiling_returns(std::uint64_t least) const noexcept {
  const std::int64_t missing = static_cast<std::int64_t>(least * kWholeCard) - bucket;
  if (!has_ceiling() || missing <= 0)
    return 0;
  return static_cast<std::uint64_t>(missing) / terms.ceiling_ppm + 1;
}

std::int64_t Member::as_virtual(std::uint64_t service) const noexcept {
  return static_cast<std::int64_t>(std::min(service, kHour) * kWholeCard / weight);
}

std::uint64_t Member::as_service(std::int64_t virtual_time) const noexcept {
  if (virtual_time <= 0)
    return 0;
  const auto time = static_cast<std::uint64_t>(virtual_time);
  return time / kWholeCard * weight + time % kWholeCard * weight / kWholeCard;
}

} // namespace aliquot::limiter::arbiter
