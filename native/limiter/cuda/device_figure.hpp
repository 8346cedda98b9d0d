// What the driver itself says is held of a device: by this process, and by all. It knows of nothing that the
// limiter accounts.
//
// The figures are NVML's, from the real library, opened when they are first wanted (which is never before the
// first context). They cost a system call or more: nothing that is called often may ask for them.
#pragma once

#include <cstdint>
#include <mutex>

#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

class DeviceFigure {
 public:
  enum class Answer : std::uint8_t {
    Known,
    NotListed, // the device has a list of processes, and this one is not on it
    Unknown,   // there is no list, or no such device, or no NVML
  };

  // The driver's identity of a device of the slice; before anything is asked of it.
  void identify(unsigned device, const std::uint8_t (&uuid)[16]) noexcept;

  Answer held_by_us(unsigned device, std::uint64_t& bytes) noexcept;
  // Everybody's.
  bool held_by_all(unsigned device, std::uint64_t& bytes) noexcept;

 private:
  struct Device {
    std::uint8_t uuid[16] = {};
    bool identified = false;
    bool looked = false;
    void* handle = nullptr; // nvmlDevice_t
  };

  void* handle_of(unsigned device) noexcept;

  std::mutex mutex_;
  Device devices_[layout::kMaxDevices];
};

} // namespace aliquot::limiter
