// See fragmentation.hpp.
#include "native/placement/fragmentation.hpp"

namespace aliquot::placement {
namespace {

constexpr std::size_t kMemoBytes = std::size_t{64} << 20;

} // namespace

double Fragmentation::amount(const Room& room) {
  if (rooms_.bytes() + amounts_.capacity() * sizeof(double) > kMemoBytes) {
    rooms_.clear();
    amounts_.clear();
  }
  const std::uint32_t number = rooms_.number({room.cpu, 0, room.gaps});
  if (number == amounts_.size())
    amounts_.push_back(computed(room));
  return amounts_[number];
}

double Fragmentation::computed(const Room& room) const {
  std::int64_t free = 0;
  for (const Gap& gap : room.gaps)
    free += gap.milli;
  double sum = 0;
  for (const Typical& typical : typical_) {
    const Demand& demand = vocabulary_.demands[typical.demand];
    std::int64_t usable = 0;
    for (const Share& share : demand.shares) {
      std::int64_t of_model = 0;
      int fitting = 0;
      for (const Gap& gap : room.gaps)
        if (gap.holds(share)) {
          of_model += gap.milli;
          ++fitting;
        }
      if (fitting >= demand.count && demand.cpu <= room.cpu)
        usable += of_model;
    }
    sum += typical.frequency * static_cast<double>(free - usable);
  }
  return sum;
}

} // namespace aliquot::placement
