// Open addressing with linear probing; erasing shifts the run back, so there are no tombstones and a look-up
// stays short however long the program runs.
#include "native/limiter/cuda/full_records.hpp"

#include <cstdlib>

namespace aliquot::limiter {
namespace {

constexpr std::size_t kFirstCapacity = 16;

std::size_t home(std::uint64_t key, std::size_t capacity) noexcept {
  return static_cast<std::size_t>(key * 0x9E3779B97F4A7C15u >> 32u) & (capacity - 1);
}

} // namespace

Allocation* FullRecords::search(std::uint64_t key) const noexcept {
  std::size_t at = home(key, capacity_);
  while (records_[at].key != 0 && records_[at].key != key)
    at = (at + 1) & (capacity_ - 1);
  return &records_[at];
}

bool FullRecords::grow() noexcept {
  const std::size_t before = capacity_, wider = before == 0 ? kFirstCapacity : before * 2;
  auto* fresh = static_cast<Allocation*>(std::calloc(wider, sizeof(Allocation)));
  if (fresh == nullptr)
    return false;
  Allocation* old = records_;
  records_ = fresh;
  capacity_ = wider;
  for (std::size_t at = 0; at < before; ++at) {
    if (old[at].key != 0)
      *search(old[at].key) = old[at];
  }
  std::free(old);
  return true;
}

void FullRecords::erase(Allocation* record) noexcept {
  const std::size_t mask = capacity_ - 1;
  auto hole = static_cast<std::size_t>(record - records_);
  for (std::size_t at = (hole + 1) & mask; records_[at].key != 0; at = (at + 1) & mask) {
    const std::size_t wanted = home(records_[at].key, capacity_);
    if (((at - wanted) & mask) < ((at - hole) & mask))
      continue; // it may not lie before its home
    records_[hole] = records_[at];
    hole = at;
  }
  records_[hole].key = 0;
  --used_;
}

bool FullRecords::insert(const Allocation& allocation) noexcept {
  if ((used_ + 1) * 4 > capacity_ * 3 && !grow())
    return false;
  Allocation* place = search(allocation.key);
  used_ += place->key == 0;
  *place = allocation;
  return true;
}

bool FullRecords::find(std::uint64_t key, Allocation& found) const noexcept {
  const Allocation* known = used_ != 0 ? search(key) : nullptr;
  if (known == nullptr || known->key == 0)
    return false;
  found = *known;
  return true;
}

bool FullRecords::take(std::uint64_t key, Allocation& taken) noexcept {
  if (!find(key, taken))
    return false;
  erase(search(key));
  return true;
}

} // namespace aliquot::limiter
