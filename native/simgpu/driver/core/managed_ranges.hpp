// What programs have said about ranges of managed memory: advice, and where they prefetched it to.
//
// Only remembered, to be asked for again: managed memory stays in the host, where all sides reach it.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "aliquot/cuda_abi.h"

namespace aliquot::simgpu::driver {

struct ManagedAdvice {
  bool read_mostly = false;
  CUmemLocationType preferred_type = CU_MEM_LOCATION_TYPE_INVALID;
  int preferred_id = 0;
  CUmemLocationType prefetched_type = CU_MEM_LOCATION_TYPE_INVALID;
  int prefetched_id = 0;
  std::uint64_t accessed_by = 0; // bit i: device i; kHostBit: the host
};

inline constexpr std::uint64_t kHostBit = std::uint64_t{1} << 63;

class ManagedRanges {
 public:
  static ManagedRanges& instance() noexcept;

  template <class Change>
  void change(std::uint64_t address, std::uint64_t bytes, Change change) {
    const std::lock_guard guard(mutex_);
    const std::uint64_t end = address + bytes;
    split(address);
    split(end);
    fill_gaps(address, end);
    for (auto at = ranges_.find(address); at != ranges_.end() && at->first < end; ++at)
      change(at->second.advice);
  }

  // look(advice) for each part of the range; parts of which nothing was said have none.
  template <class Look>
  void visit(std::uint64_t address, std::uint64_t bytes, Look look) const {
    const std::lock_guard guard(mutex_);
    const std::uint64_t end = address + bytes;
    std::uint64_t covered = address;
    auto at = ranges_.upper_bound(address);
    if (at != ranges_.begin())
      --at;
    for (; at != ranges_.end() && at->first < end; ++at) {
      if (at->second.end <= address)
        continue;
      if (at->first > covered)
        look(ManagedAdvice{});
      look(at->second.advice);
      covered = at->second.end;
    }
    if (covered < end)
      look(ManagedAdvice{});
  }

  // The memory is gone.
  void forget(std::uint64_t address, std::uint64_t bytes) noexcept;

 private:
  struct Range {
    std::uint64_t end = 0;
    ManagedAdvice advice;
  };
  void split(std::uint64_t at);
  void fill_gaps(std::uint64_t begin, std::uint64_t end);

  mutable std::mutex mutex_; // a leaf
  std::map<std::uint64_t, Range> ranges_;
};

} // namespace aliquot::simgpu::driver
