// Readers take no lock: a kind is written before its number is published, and never again.
#include "native/limiter/cuda/allocation_kinds.hpp"

#include <mutex>

namespace aliquot::limiter {
namespace {

constexpr unsigned kChargeBits = 3;
constexpr unsigned kDeviceBits = 5;
static_assert(layout::kMaxDevices < 1u << kDeviceBits); // one more is "in no slice"

} // namespace

AllocationKinds::Kind AllocationKinds::pack(const Allocation& allocation) noexcept {
  const std::uint64_t where = allocation.device << kChargeBits | static_cast<unsigned>(allocation.charge);
  return {allocation.owner, allocation.bytes << (kChargeBits + kDeviceBits) | where};
}

void AllocationKinds::describe(std::uint32_t number, Allocation& allocation) const noexcept {
  const Kind& kind = tables_->kinds[number <= kMost ? number : kNone];
  allocation.owner = kind.owner;
  allocation.bytes = kind.what >> (kChargeBits + kDeviceBits);
  allocation.device = static_cast<unsigned>(kind.what >> kChargeBits) % (1u << kDeviceBits);
  allocation.charge = static_cast<Charge>(kind.what % (1u << kChargeBits));
}

// `place` is where it stands, or where it belongs.
std::uint32_t AllocationKinds::find(const Kind& kind, std::uint32_t& place) const noexcept {
  const std::uint64_t mixed = (kind.owner ^ kind.what * 0x9E3779B97F4A7C15u) * 0xC2B2AE3D27D4EB4Fu;
  place = static_cast<std::uint32_t>(mixed >> 40u) % kPlaces;
  while (true) {
    const std::uint32_t number = tables_->places[place].load(std::memory_order_acquire);
    if (number == kNone || tables_->kinds[number] == kind)
      return number;
    place = (place + 1) % kPlaces;
  }
}

std::uint32_t AllocationKinds::number(const Allocation& allocation) noexcept {
  if (tables_ == nullptr)
    return kNone;
  const Kind wanted = pack(allocation);
  std::uint32_t place = 0;
  const std::uint32_t known = find(wanted, place);
  return known != kNone ? known : add(wanted);
}

std::uint32_t AllocationKinds::add(const Kind& kind) noexcept {
  const std::lock_guard guard(adding_);
  std::uint32_t place = 0;
  if (const std::uint32_t known = find(kind, place); known != kNone || used_ == kMost)
    return known;
  tables_->kinds[++used_] = kind;
  tables_->places[place].store(used_, std::memory_order_release);
  return used_;
}

} // namespace aliquot::limiter
