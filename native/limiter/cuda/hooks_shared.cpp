// Hooks of memory that processes share by handles (IPC) and by pointers into exported pools. Exported
// cuMemCreate memory is the virtual memory book's.
#include "native/limiter/cuda/charging.hpp"
#include "native/limiter/cuda/physical_size.hpp"

namespace aliquot::limiter {
namespace {

// What a device gives an allocation: its own blocks, or the one that it shares.
template <typename Handle>
CUresult note_made(CUresult answer, const Handle* handle, CUdeviceptr address) noexcept {
  Limiter* here = limiter();
  Allocation allocation;
  if (answer == CUDA_SUCCESS && here != nullptr && here->memory.find(address, allocation)) {
    here->shared.made(address, shared_key(handle, sizeof *handle), allocation.device,
                      whole_blocks(allocation.bytes));
  }
  return answer;
}

// The driver may count to this process what it has opened, and must not be taken to have grown by it.
template <typename Handle>
CUresult note_opened(CUresult answer, const Handle* handle, const CUdeviceptr* address,
                     bool ends_with_context) noexcept {
  Limiter* here = limiter();
  Place place;
  if (answer != CUDA_SUCCESS || here == nullptr || !here->current_place(place))
    return answer;
  here->shared.opened(*address, shared_key(handle, sizeof *handle),
                      ends_with_context ? as_key(place.context) : 0);
  return answer;
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr address) {
  return note_made(driver().cuIpcGetMemHandle(handle, address), handle, address);
}

ALIQUOT_EXPORT CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* address, CUipcMemHandle handle,
                                              unsigned int flags) {
  return note_opened(driver().cuIpcOpenMemHandle_v2(address, handle, flags), &handle, address, true);
}

ALIQUOT_EXPORT CUresult cuIpcOpenMemHandle(CUdeviceptr* address, CUipcMemHandle handle, unsigned int flags) {
  return note_opened(driver().cuIpcOpenMemHandle(address, handle, flags), &handle, address, true);
}

ALIQUOT_EXPORT CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
  const CUresult answer = driver().cuIpcCloseMemHandle(address);
  if (Limiter* here = limiter(); answer == CUDA_SUCCESS && here != nullptr)
    here->shared.gone(address);
  return answer;
}

ALIQUOT_EXPORT CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData* data, CUdeviceptr address) {
  return note_made(driver().cuMemPoolExportPointer(data, address), data, address);
}

ALIQUOT_EXPORT CUresult cuMemPoolImportPointer(CUdeviceptr* address, CUmemoryPool pool,
                                               CUmemPoolPtrExportData* data) {
  return note_opened(driver().cuMemPoolImportPointer(address, pool, data), data, address, false);
}
}
