// Records of allocations as they are: of handles, of addresses that do not fit into a packed record, and of
// kinds that have no number.
#pragma once

#include <cstddef>

#include "native/limiter/cuda/allocation.hpp"

namespace aliquot::limiter {

// Not thread-safe; AllocationTable has a lock for it.
class FullRecords {
 public:
  // One that is there already is replaced. False where there is no host memory for it; then nothing was
  // added.
  bool insert(const Allocation& allocation) noexcept;
  bool take(std::uint64_t key, Allocation& taken) noexcept;
  bool find(std::uint64_t key, Allocation& found) const noexcept;
  std::size_t size() const noexcept { return used_; }

  // Shows all to `visit`, which may change their charge, and removes those for which it is true.
  template <typename Visit>
  void remove_if(Visit visit) noexcept;

 private:
  bool grow() noexcept;
  Allocation* search(std::uint64_t key) const noexcept; // or where it belongs; not without capacity
  void erase(Allocation* record) noexcept;

  Allocation* records_ = nullptr;
  std::size_t capacity_ = 0; // a power of two, or 0
  std::size_t used_ = 0;
};

template <typename Visit>
void FullRecords::remove_if(Visit visit) noexcept {
  for (std::size_t at = 0; at < capacity_;) {
    Allocation& record = records_[at];
    if (record.key != 0 && visit(record))
      erase(&record); // another one may have moved here: look at this place again
    else
      ++at;
  }
}

} // namespace aliquot::limiter
