// Device memory shared between processes by handles (cuIpc*MemHandle).
#include <map>
#include <mutex>
#include <tuple>

#include "native/simgpu/driver/core/imported_memory.hpp"
#include "native/simgpu/driver/core/memory_gate.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/ipc_handle.hpp"
#include "native/simgpu/driver/memory.hpp"
#include "native/simgpu/driver/peer.hpp"

using namespace aliquot::simgpu::driver;

namespace {

// Set in the keys under which files are accounted here, so that they meet no other names of the same owner.
constexpr std::uint64_t kFileKey = std::uint64_t{1} << 63;

std::uint64_t block_of(std::uint64_t address) noexcept {
  return address / kBlockBytes * kBlockBytes;
}

// Where the blocks of an allocation lie for other processes. They move to a file at the first export.
FileView export_allocation(Driver& driver, const Allocation& allocation) {
  const std::uint64_t first = block_of(allocation.address);
  const std::uint64_t bytes = block_of(allocation.address + allocation.bytes - 1) + kBlockBytes - first;
  const Quiet quiet;
  return driver.space.export_blocks(first, bytes);
}

CUresult get_handle(CUipcMemHandle* out, CUdeviceptr address) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    const auto known = driver.allocations.find(address);
    if (out == nullptr || !known || known->kind != MemoryKind::Device)
      return CUDA_ERROR_INVALID_VALUE;
    const FileView view = export_allocation(driver, *known);
    if (!view)
      return CUDA_ERROR_OUT_OF_MEMORY;
    IpcHandle handle;
    handle.kind = IpcKind::Memory;
    handle.file = name_of(*view.file);
    handle.owner = driver.machine->identity();
    handle.offset = view.offset;
    handle.bytes = known->bytes;
    handle.start = static_cast<std::uint32_t>(known->address % kBlockBytes);
    handle.card = known->card;
    handle.id = known->buffer_id;
    pack(handle, out->reserved);
    return CUDA_SUCCESS;
  });
}

// What each context has opened: opened again, a handle gives the same address, and is to be closed as often.
class OpenHandles {
 public:
  static OpenHandles& instance() {
    static auto* made = new OpenHandles; // never destroyed: threads may be inside at exit
    return *made;
  }

  CUresult open(Driver& driver, const ContextPtr& context, const IpcHandle& handle, CUdeviceptr& address) {
    const Key key{context->id(), handle.owner, handle.id};
    const std::lock_guard guard(mutex_);
    const auto [at, fresh] = opened_.try_emplace(key);
    if (!fresh && is_still_open(driver, at->second)) {
      ++at->second.count;
      address = at->second.address;
      return CUDA_SUCCESS;
    }
    const CUresult mapped = map(driver, context, handle, at->second);
    if (mapped != CUDA_SUCCESS)
      opened_.erase(at);
    else
      address = at->second.address;
    return mapped;
  }

  CUresult close(Driver& driver, const ContextPtr& context, CUdeviceptr address) {
    const std::lock_guard guard(mutex_);
    for (auto at = opened_.begin(); at != opened_.end(); ++at) {
      if (at->second.address != address || std::get<0>(at->first) != context->id())
        continue;
      if (!is_still_open(driver, at->second))
        break;
      if (--at->second.count != 0)
        return CUDA_SUCCESS;
      const Opened closed = at->second;
      opened_.erase(at);
      const auto known = driver.allocations.find(address);
      if (known)
        synchronize_device_of(*known);
      driver.allocations.erase(address,
                               [&](const Allocation& each) { return each.buffer_id == closed.buffer_id; });
      return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
  }

 private:
  using Key = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>; // context, owner, allocation
  struct Opened {
    std::uint64_t address = 0, buffer_id = 0;
    unsigned count = 0;
  };

  // What a context had open goes with it.
  static bool is_still_open(Driver& driver, const Opened& opened) {
    const auto known = driver.allocations.find(opened.address);
    return known && known->address == opened.address && known->buffer_id == opened.buffer_id;
  }

  static CUresult map(Driver& driver, const ContextPtr& context, const IpcHandle& handle, Opened& opened) {
    ImportSource source;
    source.view = {open_file(handle.file), handle.offset};
    if (!source.view)
      return CUDA_ERROR_INVALID_HANDLE; // freed, or its process has ended
    source.start = handle.start;
    source.bytes = handle.bytes;
    source.owner = handle.owner;
    source.key = handle.file.inode | kFileKey;
    const auto memory = ImportedMemory::make(driver.space, driver.machine, handle.card, source);
    if (!memory)
      return CUDA_ERROR_MAP_FAILED;
    Allocation allocation;
    allocation.address = memory->address();
    allocation.bytes = memory->bytes();
    allocation.kind = MemoryKind::Imported;
    allocation.card = handle.card;
    allocation.context_id = context->id();
    allocation.context = context->handle;
    allocation.imported = memory;
    if (!driver.allocations.insert(std::move(allocation)))
      return CUDA_ERROR_MAP_FAILED;
    opened = {memory->address(), driver.allocations.find(memory->address())->buffer_id, 1};
    return CUDA_SUCCESS;
  }

  std::mutex mutex_; // guards opened_; before any stream's
  std::map<Key, Opened> opened_;
};

// The flag asks for access to the peer on which the memory lies, as if it had been enabled.
CUresult reach_card(const ContextPtr& context, std::uint32_t card) {
  if (context->device().card == card)
    return CUDA_SUCCESS;
  const Device* peer = device_of_card(card);
  if (peer == nullptr || !can_access_peer(context->device(), *peer))
    return CUDA_ERROR_MAP_FAILED;
  context->memory().allow_peer(card);
  return CUDA_SUCCESS;
}

CUresult open_handle(CUdeviceptr* out, const CUipcMemHandle& from, unsigned flags) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    IpcHandle handle;
    if (out == nullptr || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
      return CUDA_ERROR_INVALID_VALUE;
    if (!unpack(from.reserved, IpcKind::Memory, handle) || handle.card >= driver.machine->cards().size())
      return CUDA_ERROR_INVALID_HANDLE;
    // As on a card: a process does not open what is its own.
    if (handle.owner == driver.machine->identity())
      return CUDA_ERROR_INVALID_CONTEXT;
    if (const CUresult reached = reach_card(context, handle.card); reached != CUDA_SUCCESS)
      return reached;
    return OpenHandles::instance().open(driver, context, handle, *out);
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr address) {
  return get_handle(handle, address);
}

ALIQUOT_EXPORT CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* address, CUipcMemHandle handle,
                                              unsigned int flags) {
  return open_handle(address, handle, flags);
}

ALIQUOT_EXPORT CUresult cuIpcOpenMemHandle(CUdeviceptr* address, CUipcMemHandle handle, unsigned int flags) {
  return open_handle(address, handle, flags);
}

ALIQUOT_EXPORT CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    return OpenHandles::instance().close(driver, context, address);
  });
}

} // extern "C"
