// The shared memory of a slice, mapped and checked. See src/aliquot/limits/layout.toml for what it holds.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "aliquot/slice_layout.hpp"

namespace aliquot::limiter {

// The most that any count of bytes in the region can mean; what is larger was scribbled.
inline constexpr std::uint64_t kMaxBytes = (std::uint64_t{1} << 48u) - 1;

class SliceRegion {
 public:
  // A process of the slice writes its account; a tool only looks.
  enum class Access : std::uint8_t { Account, Look };

  // Maps the slice in `folder`. Null, and `problem` a sentence about it, where there is none or it is
  // damaged. The limiter never closes its own: hooks on other threads may be reading it until the process
  // ends.
  static SliceRegion* open(const char* folder, Access access, const char*& problem) noexcept;
  static void close(const SliceRegion* region) noexcept;

  const layout::Limits& limits() const noexcept { return *limits_; }
  layout::Account& account() const noexcept { return *account_; }
  // What the arbiter lends the slice. Null in a slice that was made by a version without compute.
  const layout::Grant* grant() const noexcept { return grant_; }
  const char* folder() const noexcept { return folder_; }

  // Bounded, whatever the file says by now.
  unsigned device_count() const noexcept {
    return std::min<unsigned>(limits_->device_count, layout::kMaxDevices);
  }
  std::uint64_t vram_limit(unsigned device) const noexcept;
  bool allows_unlisted() const noexcept;
  // Null where the slice names none.
  const char* driver_path() const noexcept { return driver_path_[0] == '/' ? driver_path_ : nullptr; }
  const char* nvml_path() const noexcept { return nvml_path_[0] == '/' ? nvml_path_ : nullptr; }

 private:
  const layout::Limits* limits_ = nullptr;
  layout::Account* account_ = nullptr;
  const layout::Grant* grant_ = nullptr;
  char folder_[layout::kPathBytes] = {};
  char driver_path_[layout::kPathBytes] = {};
  char nvml_path_[layout::kPathBytes] = {};
};

inline std::uint64_t SliceRegion::vram_limit(unsigned device) const noexcept {
  if (device >= layout::kMaxDevices)
    return 0;
  return std::min(limits_->devices[device].vram_bytes.load(std::memory_order_acquire), kMaxBytes);
}

// The folder of this process' slice: the one that an administrator mounts at /run/aliquot/slice, else the one
// that ALIQUOT_SLICE names. Null where there is neither.
const char* slice_folder() noexcept;

} // namespace aliquot::limiter
