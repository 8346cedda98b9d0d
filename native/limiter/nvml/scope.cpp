#include "native/limiter/nvml/scope.hpp"

#include <cstdio>

#include "native/common/spin_lock.hpp"
#include "native/limiter/nvml/library.hpp"
#include "native/limiter/own_slice.hpp"

namespace aliquot::limiter {
namespace {

struct VisibleDevice {
  std::atomic<nvmlDevice_t> handle{nullptr};
  std::atomic<unsigned> slice_device{kNotInSlice};
};

VisibleDevice visible[layout::kMaxDevices];
std::atomic<unsigned> count{0};
common::SpinLock finding;

void write_uuid(char (&text)[64], const std::uint8_t (&uuid)[16]) noexcept {
  int length = std::snprintf(text, sizeof text, "GPU-");
  for (unsigned i = 0; i < sizeof uuid; ++i) {
    const char* dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
    length +=
        std::snprintf(text + length, sizeof text - static_cast<std::size_t>(length), "%s%02x", dash, uuid[i]);
  }
}

nvmlDevice_t find_device(const layout::DeviceLimit& entry) noexcept {
  nvmlDevice_t device = nullptr;
  if (entry.known_by == layout::kKnownByUuid) {
    char uuid[64];
    write_uuid(uuid, entry.uuid);
    return nvml().nvmlDeviceGetHandleByUUID(uuid, &device) == NVML_SUCCESS ? device : nullptr;
  }
  return nvml().nvmlDeviceGetHandleByIndex_v2(entry.physical_index, &device) == NVML_SUCCESS ? device
                                                                                             : nullptr;
}

} // namespace

void find_slice_devices() noexcept {
  const SliceRegion* region = slice_region(SliceRegion::Access::Look);
  if (region == nullptr)
    return;
  finding.lock();
  unsigned found = 0;
  for (unsigned i = 0; i < region->device_count(); ++i) {
    nvmlDevice_t handle = find_device(region->limits().devices[i]);
    if (handle == nullptr)
      continue;
    visible[found].handle.store(handle, std::memory_order_relaxed);
    visible[found].slice_device.store(i, std::memory_order_relaxed);
    ++found;
  }
  count.store(found, std::memory_order_release);
  finding.unlock();
}

unsigned visible_devices() noexcept {
  return count.load(std::memory_order_acquire);
}

nvmlDevice_t visible_device(unsigned number) noexcept {
  return number < visible_devices() ? visible[number].handle.load(std::memory_order_relaxed) : nullptr;
}

unsigned number_of(nvmlDevice_t device) noexcept {
  unsigned number = 0;
  while (number < visible_devices() && visible[number].handle.load(std::memory_order_relaxed) != device)
    ++number;
  return number;
}

unsigned slice_device(nvmlDevice_t device) noexcept {
  const unsigned number = number_of(device);
  return number < visible_devices() ? visible[number].slice_device.load(std::memory_order_relaxed)
                                    : kNotInSlice;
}

nvmlReturn_t only_of_slice(nvmlReturn_t answer, nvmlDevice_t* device) noexcept {
  if (answer != NVML_SUCCESS || slice_device(*device) != kNotInSlice)
    return answer;
  *device = nullptr;
  return NVML_ERROR_NOT_FOUND;
}

} // namespace aliquot::limiter
