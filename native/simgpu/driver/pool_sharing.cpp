// Memory pools shared with other processes, and with other cards.
//
// A pool is exported as a descriptor that names it; each allocation is then shared by 64 bytes that say where
// its blocks lie. An imported pool gives no memory of its own.
#include <sys/types.h>

#include <climits>
#include <cstring>

#include "native/simgpu/driver/core/imported_memory.hpp"
#include "native/simgpu/driver/core/memory_gate.hpp"
#include "native/simgpu/driver/core/shared_handle.hpp"
#include "native/simgpu/driver/ipc_handle.hpp"
#include "native/simgpu/driver/memory_pool.hpp"
#include "native/simgpu/driver/peer.hpp"

using namespace aliquot::simgpu::driver;

namespace {

constexpr std::size_t kMostAccessEntries = 1024; // more than there are cards; a larger count is not one
constexpr std::uint64_t kNameBytes = 4096;       // of the file behind an exported pool, which holds nothing
// Set in the keys under which blocks of pools are accounted, so that they meet no other names of the owner.
constexpr std::uint64_t kFileKey = std::uint64_t{1} << 63;

Device* device_with_uuid(Driver& driver, const std::uint8_t (&uuid)[16]) noexcept {
  for (const auto& device : driver.devices)
    if (std::memcmp(device->facts.uuid, uuid, sizeof uuid) == 0)
      return device.get();
  return nullptr;
}

CUresult export_pool(int* out, const Pool& pool, const PoolPtr& keep) {
  SharedHeader header;
  header.kind = SharedKind::Pool;
  std::memcpy(header.card_uuid, pool.device.facts.uuid, sizeof header.card_uuid);
  header.owner = Driver::instance().machine->identity();
  header.key = pool.share_key;
  header.bytes = kNameBytes;
  const auto name = BackingFile::make(kNameBytes);
  const int fd = name ? export_shared(header, *name, keep) : -1;
  if (fd < 0)
    return CUDA_ERROR_OUT_OF_MEMORY;
  *out = fd;
  return CUDA_SUCCESS;
}

CUresult import_pool(Driver& driver, CUmemoryPool* out, int fd) {
  SharedImport found = import_shared(fd, SharedKind::Pool);
  if (!found.file)
    return CUDA_ERROR_INVALID_VALUE;
  Device* device = device_with_uuid(driver, found.header.card_uuid);
  if (device == nullptr)
    return CUDA_ERROR_INVALID_VALUE; // a card that this process does not see
  const auto pool = std::make_shared<Pool>(*device, driver.space, driver.machine, false);
  pool->origin = {found.header.owner, found.header.key, std::move(found.hold)};
  pool->handle = driver.pools.insert(pool);
  *out = static_cast<CUmemoryPool>(pool->handle);
  return CUDA_SUCCESS;
}

CUresult export_pointer(Driver& driver, CUdeviceptr address, void* out) {
  const auto known = driver.allocations.find(address);
  if (!known || known->address != address || known->kind != MemoryKind::Pool || known->freeing)
    return CUDA_ERROR_INVALID_VALUE;
  const Pool& pool = *known->pool;
  if (pool.handle_types == CU_MEM_HANDLE_TYPE_NONE || pool.origin.owner != 0)
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint64_t first = known->address / kBlockBytes * kBlockBytes;
  const std::uint64_t last = (known->address + known->bytes - 1) / kBlockBytes * kBlockBytes;
  FileView view;
  {
    const Quiet quiet;
    view = driver.space.export_blocks(first, last + kBlockBytes - first);
  }
  if (!view)
    return CUDA_ERROR_OUT_OF_MEMORY;
  IpcHandle handle;
  handle.kind = IpcKind::PoolPointer;
  handle.file = name_of(*view.file);
  handle.owner = driver.machine->identity();
  handle.offset = view.offset;
  handle.bytes = known->bytes;
  handle.start = static_cast<std::uint32_t>(known->address - first);
  handle.card = known->card;
  handle.id = pool.share_key;
  pack(handle, out);
  return CUDA_SUCCESS;
}

CUresult import_pointer(Driver& driver, const PoolPtr& pool, const void* from, CUdeviceptr* out) {
  IpcHandle handle;
  if (pool->origin.owner == 0 || !unpack(from, IpcKind::PoolPointer, handle))
    return CUDA_ERROR_INVALID_VALUE;
  if (handle.owner != pool->origin.owner || handle.id != pool->origin.key)
    return CUDA_ERROR_INVALID_VALUE; // of another pool
  ImportSource source;
  source.view = {open_file(handle.file), handle.offset};
  if (!source.view)
    return CUDA_ERROR_INVALID_VALUE; // its process has ended
  source.start = handle.start;
  source.bytes = handle.bytes;
  source.owner = handle.owner;
  source.key = handle.file.inode | kFileKey;
  source.hold = pool->origin.hold;
  Allocation allocation;
  allocation.imported = ImportedMemory::make(driver.space, driver.machine, pool->device.card, source);
  if (!allocation.imported)
    return CUDA_ERROR_OUT_OF_MEMORY;
  allocation.address = allocation.imported->address();
  allocation.bytes = allocation.imported->bytes();
  allocation.kind = MemoryKind::Pool;
  allocation.card = pool->device.card;
  allocation.pool = pool;
  const std::uint64_t address = allocation.address;
  if (!driver.allocations.insert(std::move(allocation)))
    return CUDA_ERROR_OUT_OF_MEMORY;
  *out = address;
  return CUDA_SUCCESS;
}

std::uint64_t bit_of(const Device& device) noexcept {
  return std::uint64_t{1} << (device.card % 64);
}

// The device of a descriptor, if its card may be given that access.
CUresult check_access(Driver& driver, const Pool& pool, const CUmemAccessDesc& wanted, Device*& device) {
  if (wanted.location.type != CU_MEM_LOCATION_TYPE_DEVICE)
    return CUDA_ERROR_INVALID_VALUE;
  device = driver.device(wanted.location.id);
  if (device == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  if (wanted.flags == CU_MEM_ACCESS_FLAGS_PROT_READ)
    return CUDA_ERROR_NOT_SUPPORTED;
  const bool all = wanted.flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  if (!all && wanted.flags != CU_MEM_ACCESS_FLAGS_PROT_NONE)
    return CUDA_ERROR_INVALID_VALUE;
  const bool own = device == &pool.device; // whose access cannot be taken away
  return own == all || (all && can_access_peer(*device, pool.device)) ? CUDA_SUCCESS
                                                                      : CUDA_ERROR_INVALID_VALUE;
}

CUresult set_access(Driver& driver, Pool& pool, const CUmemAccessDesc* access, std::size_t count) {
  Device* device = nullptr;
  for (std::size_t i = 0; i < count; ++i)
    if (const CUresult checked = check_access(driver, pool, access[i], device); checked != CUDA_SUCCESS)
      return checked;
  for (std::size_t i = 0; i < count; ++i) {
    check_access(driver, pool, access[i], device);
    if (access[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
      pool.peers.fetch_or(bit_of(*device));
    else
      pool.peers.fetch_and(~bit_of(*device));
  }
  return CUDA_SUCCESS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemPoolExportToShareableHandle(void* out, CUmemoryPool handle,
                                                         CUmemAllocationHandleType type,
                                                         unsigned long long flags) {
  return with_pool(handle, [&](Driver&, const PoolPtr& pool) {
    if (out == nullptr || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
      return CUDA_ERROR_INVALID_VALUE;
    if ((pool->handle_types & type) == 0 || pool->origin.owner != 0)
      return CUDA_ERROR_INVALID_VALUE;
    return export_pool(static_cast<int*>(out), *pool, pool);
  });
}

ALIQUOT_EXPORT CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool* out, void* handle,
                                                           CUmemAllocationHandleType type,
                                                           unsigned long long flags) {
  return with_driver([&](Driver& driver) {
    const auto fd = reinterpret_cast<std::intptr_t>(handle);
    if (out == nullptr || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || fd < 0 ||
        fd > INT_MAX)
      return CUDA_ERROR_INVALID_VALUE;
    return import_pool(driver, out, static_cast<int>(fd));
  });
}

ALIQUOT_EXPORT CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData* out, CUdeviceptr address) {
  return with_driver([&](Driver& driver) {
    return out == nullptr ? CUDA_ERROR_INVALID_VALUE : export_pointer(driver, address, out->reserved);
  });
}

ALIQUOT_EXPORT CUresult cuMemPoolImportPointer(CUdeviceptr* out, CUmemoryPool handle,
                                               CUmemPoolPtrExportData* data) {
  return with_pool(handle, [&](Driver& driver, const PoolPtr& pool) {
    return out == nullptr || data == nullptr ? CUDA_ERROR_INVALID_VALUE
                                             : import_pointer(driver, pool, data->reserved, out);
  });
}

ALIQUOT_EXPORT CUresult cuMemPoolGetAccess(CUmemAccess_flags* flags, CUmemoryPool handle,
                                           CUmemLocation* location) {
  return with_pool(handle, [&](Driver& driver, const PoolPtr& pool) {
    if (flags == nullptr || location == nullptr || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
      return CUDA_ERROR_INVALID_VALUE;
    const Device* device = driver.device(location->id);
    if (device == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const bool may = device == &pool->device || (pool->peers.load() & bit_of(*device)) != 0;
    *flags = may ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemPoolSetAccess(CUmemoryPool handle, const CUmemAccessDesc* access, size_t count) {
  return with_pool(handle, [&](Driver& driver, const PoolPtr& pool) {
    if ((count != 0 && access == nullptr) || count > kMostAccessEntries)
      return CUDA_ERROR_INVALID_VALUE;
    return set_access(driver, *pool, access, count);
  });
}

} // extern "C"
