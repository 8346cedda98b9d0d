// What is known of an address: pointer attributes.
#include <cstring>

#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

template <class Value>
CUresult put(void* data, Value value) noexcept {
  std::memcpy(data, &value, sizeof value);
  return CUDA_SUCCESS;
}

bool is_capable_of_ipc(const Allocation& allocation) noexcept {
  return allocation.kind == MemoryKind::Device;
}

int ordinal_of(Driver& driver, std::uint32_t card) noexcept {
  for (const auto& device : driver.devices)
    if (device->card == card)
      return device->ordinal;
  return CU_DEVICE_INVALID;
}

unsigned memory_type(const Allocation& allocation) noexcept {
  return on_device(allocation.kind) || allocation.kind == MemoryKind::Managed ? CU_MEMORYTYPE_DEVICE
                                                                              : CU_MEMORYTYPE_HOST;
}

unsigned handle_types(Driver& driver, const Allocation& known) {
  CUmemAllocationProp properties{};
  if (known.pool)
    return known.pool->handle_types;
  if (known.kind != MemoryKind::Mapped ||
      driver.virtual_memory.properties(known.address, properties) != CUDA_SUCCESS)
    return CU_MEM_HANDLE_TYPE_NONE;
  return properties.requestedHandleTypes;
}

// What the current context's card may do there.
unsigned access_flags(Driver& driver, const Allocation& known) {
  ContextPtr context;
  if (known.kind != MemoryKind::Mapped || current_context_even_if_failed(context) != CUDA_SUCCESS)
    return CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE;
  unsigned long long flags = 0;
  driver.virtual_memory.access(known.address, {context->device().card}, flags);
  return static_cast<unsigned>(flags); // the two enumerations agree
}

CUresult attribute_of(Driver& driver, const Allocation& known, CUdeviceptr pointer,
                      CUpointer_attribute attribute, void* data) {
  const bool device = on_device(known.kind);
  switch (attribute) {
  case CU_POINTER_ATTRIBUTE_CONTEXT:
    return put(data, known.context);
  case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    return put(data, memory_type(known));
  case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    return put(data, pointer);
  case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    return device ? CUDA_ERROR_INVALID_VALUE : put(data, pointer);
  case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    return put(data, known.sync_memops ? 1u : 0u);
  case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    return put(data, static_cast<unsigned long long>(known.buffer_id));
  case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    return put(data, known.kind == MemoryKind::Managed ? 1u : 0u);
  case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    return put(data, ordinal_of(driver, known.card));
  case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    return put(data, is_capable_of_ipc(known) ? 1u : 0u);
  case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
    return put(data, static_cast<unsigned long long>(handle_types(driver, known)));
  case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
    return put(data, access_flags(driver, known));
  case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
  case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
    return put(data, static_cast<CUdeviceptr>(known.address));
  case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
  case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
    return put(data, static_cast<std::size_t>(known.bytes));
  case CU_POINTER_ATTRIBUTE_MAPPED:
    return put(data, 1u);
  case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
  case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
    return put(data, 0u);
  case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
    return put(data, known.pool ? known.pool->handle : nullptr);
  case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
    return put(data, static_cast<unsigned long long>(known.buffer_id));
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
}

// What cuPointerGetAttributes puts where an attribute has no answer, instead of failing.
void put_nothing(CUpointer_attribute attribute, void* data) noexcept {
  switch (attribute) {
  case CU_POINTER_ATTRIBUTE_CONTEXT:
  case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
  case CU_POINTER_ATTRIBUTE_HOST_POINTER:
  case CU_POINTER_ATTRIBUTE_BUFFER_ID:
  case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
  case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
  case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
  case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
  case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
  case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
  case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
    put(data, std::uint64_t{0});
    break;
  case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    put(data, CU_DEVICE_INVALID);
    break;
  default:
    put(data, 0u);
    break;
  }
}

bool attribute_exists(CUpointer_attribute attribute) noexcept {
  return attribute >= CU_POINTER_ATTRIBUTE_CONTEXT &&
         attribute <= CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE &&
         attribute != CU_POINTER_ATTRIBUTE_P2P_TOKENS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute,
                                              CUdeviceptr pointer) {
  return with_driver([&](Driver& driver) {
    if (data == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto known = driver.allocations.find(pointer);
    return known ? attribute_of(driver, *known, pointer, attribute, data) : CUDA_ERROR_INVALID_VALUE;
  });
}

// Unlike the single question, an address that is not known is an answer here, not an error.
ALIQUOT_EXPORT CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute* attributes,
                                               void** data, CUdeviceptr pointer) {
  return with_driver([&](Driver& driver) {
    if (count == 0 || attributes == nullptr || data == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; ++i)
      if (data[i] == nullptr || !attribute_exists(attributes[i]))
        return CUDA_ERROR_INVALID_VALUE;
    const auto known = driver.allocations.find(pointer);
    for (unsigned i = 0; i < count; ++i)
      if (!known || attribute_of(driver, *known, pointer, attributes[i], data[i]) != CUDA_SUCCESS)
        put_nothing(attributes[i], data[i]);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute attribute,
                                              CUdeviceptr pointer) {
  return with_driver([&](Driver& driver) {
    if (value == nullptr || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
      return CUDA_ERROR_INVALID_VALUE;
    unsigned flag = 0;
    std::memcpy(&flag, value, sizeof flag);
    const bool changed = driver.allocations.change(pointer, [&](Allocation& each) {
      each.sync_memops = flag != 0;
      return on_device(each.kind);
    });
    return changed ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

} // extern "C"
