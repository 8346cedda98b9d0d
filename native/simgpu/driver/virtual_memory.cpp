// Virtual memory management: addresses, memory, and mapping the one at the other.
#include <dirent.h>

#include <cstdio>

#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/memory.hpp"

using namespace aliquot::simgpu::driver;

namespace {

constexpr std::size_t kMostAccessEntries = 1024; // more than there are places; a larger count is not one

bool numa_node_exists(int node) {
  char path[64];
  std::snprintf(path, sizeof path, "/sys/devices/system/node/node%d", node);
  DIR* const folder = node >= 0 ? opendir(path) : nullptr;
  if (folder != nullptr)
    closedir(folder);
  return folder != nullptr || node == 0; // 0 where the system knows no nodes
}

CUresult check_handle_types(const CUmemAllocationProp& properties) noexcept {
  constexpr unsigned all = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR | CU_MEM_HANDLE_TYPE_WIN32 |
                           CU_MEM_HANDLE_TYPE_WIN32_KMT | CU_MEM_HANDLE_TYPE_FABRIC;
  const auto types = static_cast<unsigned>(properties.requestedHandleTypes);
  if ((types & ~all) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  return (types & ~unsigned{CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR}) == 0 ? CUDA_SUCCESS
                                                                            : CUDA_ERROR_NOT_SUPPORTED;
}

// Finds the card, or none for the host.
CUresult check_location(Driver& driver, const CUmemAllocationProp& properties, Device*& device) {
  device = nullptr;
  switch (properties.location.type) {
  case CU_MEM_LOCATION_TYPE_DEVICE:
    device = driver.device(properties.location.id);
    return device != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
  case CU_MEM_LOCATION_TYPE_HOST:
    return properties.requestedHandleTypes == CU_MEM_HANDLE_TYPE_NONE ? CUDA_SUCCESS
                                                                      : CUDA_ERROR_INVALID_VALUE;
  case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    return numa_node_exists(properties.location.id) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult check_properties(Driver& driver, const CUmemAllocationProp& properties, Device*& device) {
  if (properties.type != CU_MEM_ALLOCATION_TYPE_PINNED || properties.win32HandleMetaData != nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  if (properties.allocFlags.compressionType > CU_MEM_ALLOCATION_COMP_GENERIC)
    return CUDA_ERROR_INVALID_VALUE;
  if (properties.allocFlags.usage != 0)
    return CUDA_ERROR_NOT_SUPPORTED; // tile pools of sparse arrays, decompression engines
  if (const CUresult checked = check_handle_types(properties); checked != CUDA_SUCCESS)
    return checked;
  return check_location(driver, properties, device);
}

// What was granted: hints that have no effect here are not claimed to have one.
CUmemAllocationProp granted(CUmemAllocationProp properties) noexcept {
  properties.allocFlags = {};
  return properties;
}

CUresult create(Driver& driver, CUmemGenericAllocationHandle* out, std::size_t bytes,
                const CUmemAllocationProp* properties, unsigned long long flags) {
  if (out == nullptr || properties == nullptr || flags != 0 || bytes == 0 || bytes % kBlockBytes != 0)
    return CUDA_ERROR_INVALID_VALUE;
  Device* device = nullptr;
  if (const CUresult checked = check_properties(driver, *properties, device); checked != CUDA_SUCCESS)
    return checked;
  CUresult error = CUDA_SUCCESS;
  const auto memory = PhysicalMemory::make(device, bytes, granted(*properties), error);
  if (!memory)
    return error;
  *out = driver.virtual_memory.add(memory);
  return CUDA_SUCCESS;
}

CUresult read_change(Driver& driver, const CUmemLocation& location, AccessChange& change) {
  switch (location.type) {
  case CU_MEM_LOCATION_TYPE_DEVICE: {
    const Device* device = driver.device(location.id);
    if (device == nullptr)
      return CUDA_ERROR_INVALID_DEVICE;
    change.card = device->card;
    return CUDA_SUCCESS;
  }
  case CU_MEM_LOCATION_TYPE_HOST:
  case CU_MEM_LOCATION_TYPE_HOST_NUMA: // its number is ignored
    change.host = true;
    return CUDA_SUCCESS;
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
}

bool flags_exist(CUmemAccess_flags flags) noexcept {
  return flags == CU_MEM_ACCESS_FLAGS_PROT_NONE || flags == CU_MEM_ACCESS_FLAGS_PROT_READ ||
         flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
}

// What runs may use the mappings: it ends before they do.
void finish_users_of(Driver& driver, CUdeviceptr address) {
  if (const auto known = driver.allocations.find(address); known && known->kind == MemoryKind::Mapped)
    synchronize_device_of(*known);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemAddressReserve(CUdeviceptr* out, size_t bytes, size_t alignment,
                                            CUdeviceptr hint, unsigned long long flags) {
  return with_driver([&](Driver& driver) {
    if (out == nullptr || flags != 0)
      return CUDA_ERROR_INVALID_VALUE;
    std::uint64_t address = 0;
    const CUresult result = driver.virtual_memory.reserve(bytes, alignment, hint, address);
    if (result == CUDA_SUCCESS)
      *out = address;
    return result;
  });
}

ALIQUOT_EXPORT CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  return with_driver([&](Driver& driver) { return driver.virtual_memory.unreserve(address, bytes); });
}

ALIQUOT_EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes,
                                    const CUmemAllocationProp* properties, unsigned long long flags) {
  return with_driver([&](Driver& driver) { return create(driver, handle, bytes, properties, flags); });
}

ALIQUOT_EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  return with_driver([&](Driver& driver) { return driver.virtual_memory.release(handle); });
}

ALIQUOT_EXPORT CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset,
                                 CUmemGenericAllocationHandle handle, unsigned long long flags) {
  return with_driver([&](Driver& driver) {
    if (offset != 0 || flags != 0)
      return CUDA_ERROR_INVALID_VALUE;
    return driver.virtual_memory.map(address, bytes, handle);
  });
}

ALIQUOT_EXPORT CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  return with_driver([&](Driver& driver) {
    finish_users_of(driver, address);
    return driver.virtual_memory.unmap(address, bytes);
  });
}

ALIQUOT_EXPORT CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc* access,
                                       size_t count) {
  return with_driver([&](Driver& driver) {
    if (access == nullptr || count == 0 || count > kMostAccessEntries)
      return CUDA_ERROR_INVALID_VALUE;
    std::vector<AccessChange> changes(count);
    for (std::size_t i = 0; i < count; ++i) {
      if (!flags_exist(access[i].flags))
        return CUDA_ERROR_INVALID_VALUE;
      changes[i].flags = access[i].flags;
      if (const CUresult read = read_change(driver, access[i].location, changes[i]); read != CUDA_SUCCESS)
        return read;
    }
    return driver.virtual_memory.set_access(address, bytes, changes);
  });
}

ALIQUOT_EXPORT CUresult cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location,
                                       CUdeviceptr address) {
  return with_driver([&](Driver& driver) {
    if (flags == nullptr || location == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    AccessChange place;
    if (const CUresult read = read_change(driver, *location, place); read != CUDA_SUCCESS)
      return read;
    return driver.virtual_memory.access(address, place, *flags);
  });
}

ALIQUOT_EXPORT CUresult cuMemExportToShareableHandle(void* out, CUmemGenericAllocationHandle handle,
                                                     CUmemAllocationHandleType type,
                                                     unsigned long long flags) {
  return with_driver([&](Driver& driver) {
    if (out == nullptr || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
      return CUDA_ERROR_INVALID_VALUE;
    int fd = -1;
    const CUresult result = driver.virtual_memory.export_fd(handle, fd);
    if (result == CUDA_SUCCESS)
      *static_cast<int*>(out) = fd;
    return result;
  });
}

// The descriptor is in the pointer itself.
ALIQUOT_EXPORT CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* out, void* os_handle,
                                                       CUmemAllocationHandleType type) {
  return with_driver([&](Driver& driver) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
      return type == CU_MEM_HANDLE_TYPE_FABRIC ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
    CUresult error = CUDA_SUCCESS;
    const auto fd = static_cast<int>(reinterpret_cast<std::intptr_t>(os_handle));
    const auto memory = PhysicalMemory::import_fd(fd, error);
    if (!memory)
      return error;
    *out = driver.virtual_memory.add(memory);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemGetAllocationGranularity(size_t* granularity,
                                                      const CUmemAllocationProp* properties,
                                                      CUmemAllocationGranularity_flags option) {
  return with_driver([&](Driver& driver) {
    if (granularity == nullptr || properties == nullptr || option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
      return CUDA_ERROR_INVALID_VALUE;
    Device* device = nullptr;
    if (const CUresult checked = check_properties(driver, *properties, device); checked != CUDA_SUCCESS)
      return checked;
    *granularity = kBlockBytes;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* properties,
                                                               CUmemGenericAllocationHandle handle) {
  return with_driver([&](Driver& driver) {
    if (properties == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto memory = driver.virtual_memory.find(handle);
    if (!memory)
      return CUDA_ERROR_INVALID_VALUE;
    *properties = memory->properties;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* address) {
  return with_driver([&](Driver& driver) {
    if (handle == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    return driver.virtual_memory.retain(reinterpret_cast<std::uint64_t>(address), *handle);
  });
}

} // extern "C"
