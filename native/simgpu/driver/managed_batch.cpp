// Batches of prefetches and discards of managed memory. All of a batch is checked before any of it is done.
#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

struct Ranges {
  const CUdeviceptr* address = nullptr;
  const std::size_t* bytes = nullptr;
  std::size_t count = 0;
};

struct Locations {
  const CUmemLocation* each = nullptr;
  const std::size_t* first = nullptr; // index of the first range that each applies to
  std::size_t count = 0;
};

bool are_managed(Driver& driver, const Ranges& ranges) {
  if (ranges.address == nullptr || ranges.bytes == nullptr || ranges.count == 0)
    return false;
  for (std::size_t i = 0; i < ranges.count; ++i) {
    const auto known = driver.allocations.find(ranges.address[i]);
    if (!known || known->kind != MemoryKind::Managed || ranges.bytes[i] == 0 ||
        ranges.bytes[i] > known->bytes - (ranges.address[i] - known->address))
      return false;
  }
  return true;
}

bool is_place(Driver& driver, const CUmemLocation& location) noexcept {
  switch (location.type) {
  case CU_MEM_LOCATION_TYPE_DEVICE:
    return driver.device(location.id) != nullptr;
  case CU_MEM_LOCATION_TYPE_HOST:
  case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
    return true;
  case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    return location.id >= 0;
  default:
    return false;
  }
}

bool are_places(Driver& driver, const Locations& locations, std::size_t ranges) noexcept {
  if (locations.each == nullptr || locations.first == nullptr || locations.count == 0 ||
      locations.count > ranges || locations.first[0] != 0 || locations.first[locations.count - 1] >= ranges)
    return false;
  for (std::size_t i = 0; i < locations.count; ++i)
    if ((i != 0 && locations.first[i] <= locations.first[i - 1]) || !is_place(driver, locations.each[i]))
      return false;
  return true;
}

CUresult prefetch(const Ranges& ranges, const Locations& locations, CUstream stream) {
  std::size_t group = 0;
  for (std::size_t i = 0; i < ranges.count; ++i) {
    if (group + 1 < locations.count && locations.first[group + 1] == i)
      ++group;
    const CUresult result =
        cuMemPrefetchAsync_v2(ranges.address[i], ranges.bytes[i], locations.each[group], 0, stream);
    if (result != CUDA_SUCCESS)
      return result;
  }
  return CUDA_SUCCESS;
}

// Batches go to any stream but the legacy default one.
CUresult check(const Ranges& ranges, const Locations* locations, unsigned long long flags, CUstream handle) {
  return with_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    const bool good = flags == 0 && stream->kind() != Stream::Kind::Legacy && are_managed(driver, ranges) &&
                      (locations == nullptr || are_places(driver, *locations, ranges.count));
    return good ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult prefetch_batch(const Ranges& ranges, const Locations& locations, unsigned long long flags,
                        CUstream stream) {
  const CUresult checked = check(ranges, &locations, flags, stream);
  return checked == CUDA_SUCCESS ? prefetch(ranges, locations, stream) : checked;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemPrefetchBatchAsync(CUdeviceptr* address, size_t* bytes, size_t count,
                                                CUmemLocation* locations, size_t* first, size_t groups,
                                                unsigned long long flags, CUstream stream) {
  return prefetch_batch({address, bytes, count}, {locations, first, groups}, flags, stream);
}

// What is discarded may be anything until it is written: also what it was.
ALIQUOT_EXPORT CUresult cuMemDiscardBatchAsync(CUdeviceptr* address, size_t* bytes, size_t count,
                                               unsigned long long flags, CUstream stream) {
  return check({address, bytes, count}, nullptr, flags, stream);
}

ALIQUOT_EXPORT CUresult cuMemDiscardAndPrefetchBatchAsync(CUdeviceptr* address, size_t* bytes, size_t count,
                                                          CUmemLocation* locations, size_t* first,
                                                          size_t groups, unsigned long long flags,
                                                          CUstream stream) {
  return prefetch_batch({address, bytes, count}, {locations, first, groups}, flags, stream);
}

} // extern "C"
