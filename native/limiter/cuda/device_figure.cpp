#include "native/limiter/cuda/device_figure.hpp"

#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <unistd.h>

#include "aliquot/nvml_abi.h"
#include "native/limiter/library_search.hpp"
#include "native/limiter/own_slice.hpp"

namespace aliquot::limiter {
namespace {

constexpr unsigned kMostProcesses = 1024; // of one card; more than any driver serves

// Before version 3 the call had other structs, none of which is needed by drivers of this decade.
struct Nvml {
  decltype(&::nvmlInit_v2) init = nullptr;
  decltype(&::nvmlDeviceGetHandleByUUID) by_uuid = nullptr;
  decltype(&::nvmlDeviceGetComputeRunningProcesses_v3) processes = nullptr;
  decltype(&::nvmlDeviceGetMemoryInfo) memory = nullptr;
  bool usable = false;
};

template <typename Function>
void find(void* library, const char* name, Function& function) noexcept {
  function = reinterpret_cast<Function>(dlsym(library, name));
}

Nvml open_nvml() noexcept {
  Nvml found;
  const SliceRegion* slice = slice_region(SliceRegion::Access::Account);
  const char* stated = slice != nullptr ? slice->nvml_path() : nullptr;
  if (slice == nullptr || (stated == nullptr && slice->driver_path() != nullptr))
    return found; // whoever stated the driver would have stated its NVML, too
  void* library = open_real_library("libnvidia-ml.so.1", stated, reinterpret_cast<const void*>(&open_nvml));
  if (library == nullptr)
    return found;
  find(library, "nvmlInit_v2", found.init);
  find(library, "nvmlDeviceGetHandleByUUID", found.by_uuid);
  find(library, "nvmlDeviceGetComputeRunningProcesses_v3", found.processes);
  find(library, "nvmlDeviceGetMemoryInfo", found.memory);
  found.usable = found.init != nullptr && found.by_uuid != nullptr && found.init() == NVML_SUCCESS;
  return found;
}

const Nvml& nvml() noexcept {
  static const Nvml opened = open_nvml();
  return opened;
}

void* find_device(const char* prefix, const std::uint8_t (&uuid)[16]) noexcept {
  char text[64];
  int length = std::snprintf(text, sizeof text, "%s", prefix);
  for (unsigned i = 0; i < sizeof uuid; ++i) {
    const char* dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
    length +=
        std::snprintf(text + length, sizeof text - static_cast<std::size_t>(length), "%s%02x", dash, uuid[i]);
  }
  nvmlDevice_t device = nullptr;
  return nvml().by_uuid(text, &device) == NVML_SUCCESS ? device : nullptr;
}

} // namespace

void DeviceFigure::identify(unsigned device, const std::uint8_t (&uuid)[16]) noexcept {
  if (device >= layout::kMaxDevices)
    return;
  const std::lock_guard guard(mutex_);
  std::memcpy(devices_[device].uuid, uuid, sizeof uuid);
  devices_[device].identified = true;
}

void* DeviceFigure::handle_of(unsigned device) noexcept {
  Device& asked = devices_[device];
  if (!asked.identified || !nvml().usable)
    return nullptr;
  if (!asked.looked) {
    asked.looked = true;
    asked.handle = find_device("GPU-", asked.uuid);
    if (asked.handle == nullptr)
      asked.handle = find_device("MIG-", asked.uuid);
  }
  return asked.handle;
}

DeviceFigure::Answer DeviceFigure::held_by_us(unsigned device, std::uint64_t& bytes) noexcept {
  if (device >= layout::kMaxDevices)
    return Answer::Unknown;
  const std::lock_guard guard(mutex_);
  auto* handle = static_cast<nvmlDevice_t>(handle_of(device));
  if (handle == nullptr || nvml().processes == nullptr)
    return Answer::Unknown;
  static nvmlProcessInfo_t listed[kMostProcesses]; // under the mutex
  unsigned count = kMostProcesses;
  if (nvml().processes(handle, &count, listed) != NVML_SUCCESS)
    return Answer::Unknown;
  const auto self = static_cast<unsigned>(::getpid());
  bytes = 0;
  bool found = false;
  for (unsigned i = 0; i < count && i < kMostProcesses; ++i) {
    if (listed[i].pid != self)
      continue;
    if (listed[i].usedGpuMemory == static_cast<unsigned long long>(NVML_VALUE_NOT_AVAILABLE))
      return Answer::Unknown;
    bytes += listed[i].usedGpuMemory;
    found = true;
  }
  return found ? Answer::Known : Answer::NotListed;
}

bool DeviceFigure::held_by_all(unsigned device, std::uint64_t& bytes) noexcept {
  if (device >= layout::kMaxDevices)
    return false;
  const std::lock_guard guard(mutex_);
  auto* handle = static_cast<nvmlDevice_t>(handle_of(device));
  nvmlMemory_t memory{};
  if (handle == nullptr || nvml().memory == nullptr || nvml().memory(handle, &memory) != NVML_SUCCESS)
    return false;
  bytes = memory.used;
  return true;
}

} // namespace aliquot::limiter
