// Managed memory: advice, prefetches, and what is remembered of them. It is allocated in `memory_host`.
#include <algorithm>
#include <cstring>

#include "native/simgpu/driver/core/managed_ranges.hpp"
#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

constexpr std::size_t kMostAttributes = 64; // more than there are; a larger count is not one

bool managed_range(Driver& driver, CUdeviceptr address, std::size_t bytes) {
  const auto known = driver.allocations.find(address);
  return known && known->kind == MemoryKind::Managed && bytes != 0 &&
         bytes <= known->bytes - (address - known->address);
}

CUmemLocation location_of(CUdevice device) noexcept {
  CUmemLocation location{};
  location.type = device == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = device;
  return location;
}

CUresult check_place(Driver& driver, const CUmemLocation& place) noexcept {
  switch (place.type) {
  case CU_MEM_LOCATION_TYPE_DEVICE:
    return driver.device(place.id) != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
  case CU_MEM_LOCATION_TYPE_HOST:
  case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
    return CUDA_SUCCESS;
  case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    return place.id >= 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
}

void apply(ManagedAdvice& known, CUmem_advise advice, const CUmemLocation& place) noexcept {
  const std::uint64_t bit =
      place.type == CU_MEM_LOCATION_TYPE_DEVICE ? std::uint64_t{1} << (place.id % 63) : kHostBit;
  switch (advice) {
  case CU_MEM_ADVISE_SET_READ_MOSTLY:
  case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
    known.read_mostly = advice == CU_MEM_ADVISE_SET_READ_MOSTLY;
    break;
  case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
    known.preferred_type = place.type;
    known.preferred_id = place.id;
    break;
  case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
    known.preferred_type = CU_MEM_LOCATION_TYPE_INVALID;
    break;
  case CU_MEM_ADVISE_SET_ACCESSED_BY:
    known.accessed_by |= bit;
    break;
  default:
    known.accessed_by &= ~bit;
    break;
  }
}

// The place matters to some advice alone, and is not looked at for the rest.
CUresult advise(CUdeviceptr address, std::size_t bytes, CUmem_advise advice, const CUmemLocation& place) {
  return with_driver([&](Driver& driver) {
    if (advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY)
      return CUDA_ERROR_INVALID_VALUE;
    const bool placeless = advice == CU_MEM_ADVISE_SET_READ_MOSTLY ||
                           advice == CU_MEM_ADVISE_UNSET_READ_MOSTLY ||
                           advice == CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION;
    if (const CUresult checked = placeless ? CUDA_SUCCESS : check_place(driver, place);
        checked != CUDA_SUCCESS)
      return checked;
    if (!managed_range(driver, address, bytes))
      return CUDA_ERROR_INVALID_VALUE;
    ManagedRanges::instance().change(address, bytes,
                                     [&](ManagedAdvice& known) { apply(known, advice, place); });
    return CUDA_SUCCESS;
  });
}

CUresult prefetch(CUdeviceptr address, std::size_t bytes, const CUmemLocation& place, CUstream handle) {
  return with_stream(handle, [&](Driver& driver, const StreamPtr&) {
    if (const CUresult checked = check_place(driver, place); checked != CUDA_SUCCESS)
      return checked;
    if (!managed_range(driver, address, bytes))
      return CUDA_ERROR_INVALID_VALUE;
    ManagedRanges::instance().change(address, bytes, [&](ManagedAdvice& known) {
      known.prefetched_type = place.type;
      known.prefetched_id = place.id;
    });
    return CUDA_SUCCESS;
  });
}

// What is true of a whole range.
struct Summary {
  bool any = false, read_mostly = true;
  CUmemLocation preferred{}, prefetched{};
  std::uint64_t accessed_by = ~std::uint64_t{0};
};

void join(CUmemLocation& all, CUmemLocationType type, int id, bool first) noexcept {
  if (first) {
    all.type = type;
    all.id = id;
  } else if (all.type != type || (type == CU_MEM_LOCATION_TYPE_DEVICE && all.id != id)) {
    all.type = CU_MEM_LOCATION_TYPE_INVALID;
  }
}

Summary summarise(CUdeviceptr address, std::size_t bytes) {
  Summary all;
  ManagedRanges::instance().visit(address, bytes, [&](const ManagedAdvice& part) {
    all.read_mostly = all.read_mostly && part.read_mostly;
    join(all.preferred, part.preferred_type, part.preferred_id, !all.any);
    join(all.prefetched, part.prefetched_type, part.prefetched_id, !all.any);
    all.accessed_by &= part.accessed_by;
    all.any = true;
  });
  return all;
}

// A location as the older attributes tell it: a device, the CPU, or neither.
int device_of(const CUmemLocation& place) noexcept {
  if (place.type == CU_MEM_LOCATION_TYPE_DEVICE)
    return place.id;
  return place.type == CU_MEM_LOCATION_TYPE_INVALID ? CU_DEVICE_INVALID : CU_DEVICE_CPU;
}

CUresult put(void* data, std::size_t size, int value) noexcept {
  if (size != sizeof value)
    return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(data, &value, sizeof value);
  return CUDA_SUCCESS;
}

CUresult put_devices(void* data, std::size_t size, std::uint64_t accessed_by) noexcept {
  if (size == 0 || size % sizeof(int) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  auto* out = static_cast<std::uint8_t*>(data);
  const std::size_t room = size / sizeof(int);
  std::size_t written = 0;
  const auto append = [&](int device) {
    if (written < room)
      std::memcpy(out + written++ * sizeof device, &device, sizeof device);
  };
  for (int device = 0; device < 63; ++device)
    if ((accessed_by >> device & 1) != 0)
      append(device);
  if ((accessed_by & kHostBit) != 0)
    append(CU_DEVICE_CPU);
  while (written < room)
    append(CU_DEVICE_INVALID);
  return CUDA_SUCCESS;
}

CUresult range_attribute(const Summary& all, CUmem_range_attribute attribute, void* data,
                         std::size_t size) noexcept {
  switch (attribute) {
  case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
    return put(data, size, all.read_mostly ? 1 : 0);
  case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
    return put(data, size, device_of(all.preferred));
  case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
    return put_devices(data, size, all.accessed_by);
  case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
    return put(data, size, device_of(all.prefetched));
  case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
    return put(data, size, all.preferred.type);
  case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
    return put(data, size, all.preferred.id);
  case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
    return put(data, size, all.prefetched.type);
  case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
    return put(data, size, all.prefetched.id);
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device) {
  return advise(address, bytes, advice, location_of(device));
}
ALIQUOT_EXPORT CUresult cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise advice,
                                       CUmemLocation place) {
  return advise(address, bytes, advice, place);
}
ALIQUOT_EXPORT CUresult cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice device,
                                           CUstream stream) {
  return prefetch(address, bytes, location_of(device), stream);
}
ALIQUOT_EXPORT CUresult cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation place,
                                              unsigned int flags, CUstream stream) {
  return flags != 0 ? CUDA_ERROR_INVALID_VALUE : prefetch(address, bytes, place, stream);
}

ALIQUOT_EXPORT CUresult cuMemRangeGetAttribute(void* data, size_t size, CUmem_range_attribute attribute,
                                               CUdeviceptr address, size_t bytes) {
  return with_driver([&](Driver& driver) {
    if (data == nullptr || !managed_range(driver, address, bytes))
      return CUDA_ERROR_INVALID_VALUE;
    return range_attribute(summarise(address, bytes), attribute, data, size);
  });
}

ALIQUOT_EXPORT CUresult cuMemRangeGetAttributes(void** data, size_t* sizes, CUmem_range_attribute* attributes,
                                                size_t count, CUdeviceptr address, size_t bytes) {
  return with_driver([&](Driver& driver) {
    if (data == nullptr || sizes == nullptr || attributes == nullptr || count == 0 || count > kMostAttributes)
      return CUDA_ERROR_INVALID_VALUE;
    if (!managed_range(driver, address, bytes))
      return CUDA_ERROR_INVALID_VALUE;
    const Summary all = summarise(address, bytes);
    for (std::size_t i = 0; i < count; ++i) {
      if (data[i] == nullptr)
        return CUDA_ERROR_INVALID_VALUE;
      if (const CUresult told = range_attribute(all, attributes[i], data[i], sizes[i]); told != CUDA_SUCCESS)
        return told;
    }
    return CUDA_SUCCESS;
  });
}

} // extern "C"
