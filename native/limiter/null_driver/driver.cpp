// A driver that returns at once: what a limited call costs is measured on it, and the limiter's accounting
// tested. It keeps as little as a driver can: devices, contexts, and addresses that are never used twice. Its
// device memory is endless, so whatever is refused was refused by the limiter. It is never installed.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <iterator>

#include "aliquot/cuda_abi.h"
#include "native/api/exported_symbols.hpp"
#include "native/api/lookup.hpp"

namespace {

constexpr int kDevices = 2;
constexpr std::uint64_t kDeviceBytes = std::uint64_t{80} << 30u;
constexpr std::uint64_t kFirstAddress = std::uint64_t{1} << 40u;

std::atomic<bool> initialised{false};
std::atomic<std::uint64_t> next_address{kFirstAddress};
std::atomic<std::uint64_t> next_handle{0x1000};
thread_local CUcontext current = nullptr;
thread_local CUcontext below[8]; // what was current before each push
thread_local unsigned pushed = 0;
std::atomic<int> primary_uses[kDevices];

struct Context {
  CUdevice device;
};
Context primary[kDevices] = {{0}, {1}};

CUcontext as_context(Context* context) noexcept {
  return reinterpret_cast<CUcontext>(context);
}
CUdevice device_of(CUcontext context) noexcept {
  return reinterpret_cast<Context*>(context)->device;
}
bool is_device(CUdevice device) noexcept {
  return device >= 0 && device < kDevices;
}

// A stream is the context that it was made in.
struct Stream {
  CUcontext context;
};

CUresult with_context() noexcept {
  if (!initialised.load(std::memory_order_relaxed))
    return CUDA_ERROR_NOT_INITIALIZED;
  return current != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult give(CUdeviceptr* address, std::size_t bytes) noexcept {
  if (address == nullptr || bytes == 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult ready = with_context(); ready != CUDA_SUCCESS)
    return ready;
  *address = next_address.fetch_add((bytes + 511) / 512 * 512, std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

template <typename Handle>
CUresult give_handle(Handle* handle) noexcept {
  if (handle == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  *handle = (Handle)next_handle.fetch_add(16, std::memory_order_relaxed);
  return with_context();
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuInit(unsigned int flags) {
  if (flags != 0)
    return CUDA_ERROR_INVALID_VALUE;
  initialised.store(true, std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version,
                                            cuuint64_t flags, CUdriverProcAddressQueryResult* status) {
  if (symbol == nullptr || function == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  const aliquot::api::Lookup found = aliquot::api::find_entry_point(symbol, version, flags);
  const bool known = found.status == aliquot::api::LookupStatus::Success;
  *function = known ? reinterpret_cast<void*>(aliquot::api::cuda_symbols()[found.index].address) : nullptr;
  if (status != nullptr)
    *status = static_cast<CUdriverProcAddressQueryResult>(found.status);
  return known ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

ALIQUOT_EXPORT CUresult cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}

ALIQUOT_EXPORT CUresult cuDeviceGetCount(int* count) {
  *count = kDevices;
  return initialised.load() ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

ALIQUOT_EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return is_device(ordinal) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

// The last byte of the UUID is the device's number plus 1.
ALIQUOT_EXPORT CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  if (!is_device(device))
    return CUDA_ERROR_INVALID_DEVICE;
  std::memset(uuid->bytes, 0, sizeof uuid->bytes);
  uuid->bytes[sizeof uuid->bytes - 1] = static_cast<char>(device + 1);
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
  *bytes = kDeviceBytes;
  return is_device(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  if (!is_device(device))
    return CUDA_ERROR_INVALID_DEVICE;
  ++primary_uses[device];
  *context = as_context(&primary[device]);
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  if (!is_device(device) || primary_uses[device] == 0)
    return CUDA_ERROR_INVALID_CONTEXT;
  --primary_uses[device];
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return is_device(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active) {
  if (!is_device(device))
    return CUDA_ERROR_INVALID_DEVICE;
  *flags = 0;
  *active = primary_uses[device] != 0;
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuCtxCreate_v2(CUcontext* context, unsigned int, CUdevice device) {
  if (!is_device(device))
    return CUDA_ERROR_INVALID_DEVICE;
  auto* made = static_cast<Context*>(std::malloc(sizeof(Context)));
  if (made == nullptr)
    return CUDA_ERROR_OUT_OF_MEMORY;
  made->device = device;
  *context = current = as_context(made);
  return CUDA_SUCCESS;
}

// A destroyed context stays readable, as other threads may still have it current.
ALIQUOT_EXPORT CUresult cuCtxDestroy_v2(CUcontext context) {
  if (current == context)
    current = nullptr;
  return context != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

ALIQUOT_EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
  current = context;
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) {
  if (context == nullptr || pushed == std::size(below))
    return CUDA_ERROR_INVALID_CONTEXT;
  below[pushed++] = current;
  current = context;
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  if (pushed == 0)
    return CUDA_ERROR_INVALID_CONTEXT;
  if (context != nullptr)
    *context = current;
  current = below[--pushed];
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = current;
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuCtxGetDevice(CUdevice* device) {
  if (current == nullptr)
    return CUDA_ERROR_INVALID_CONTEXT;
  *device = device_of(current);
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* address, std::size_t bytes) {
  return give(address, bytes);
}

ALIQUOT_EXPORT CUresult cuMemAllocManaged(CUdeviceptr* address, std::size_t bytes, unsigned int) {
  return give(address, bytes);
}

ALIQUOT_EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr* address, std::size_t* pitch, std::size_t width,
                                           std::size_t height, unsigned int) {
  *pitch = (width + 511) / 512 * 512;
  return give(address, *pitch * height);
}

ALIQUOT_EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
  return address >= kFirstAddress ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

ALIQUOT_EXPORT CUresult cuMemAllocAsync(CUdeviceptr* address, std::size_t bytes, CUstream) {
  return give(address, bytes);
}

ALIQUOT_EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, CUstream) {
  return cuMemFree_v2(address);
}

ALIQUOT_EXPORT CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) {
  *pool = reinterpret_cast<CUmemoryPool>(&primary[is_device(device) ? device : 0]);
  return is_device(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

ALIQUOT_EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, std::size_t,
                                    const CUmemAllocationProp*, unsigned long long) {
  return give_handle(handle);
}

ALIQUOT_EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle) {
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuMemMap(CUdeviceptr, std::size_t, std::size_t, CUmemGenericAllocationHandle,
                                 unsigned long long) {
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuMemUnmap(CUdeviceptr, std::size_t) {
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuArrayCreate_v2(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR*) {
  return give_handle(handle);
}
ALIQUOT_EXPORT CUresult cuArray3DCreate_v2(CUarray* handle, const CUDA_ARRAY3D_DESCRIPTOR*) {
  return give_handle(handle);
}
ALIQUOT_EXPORT CUresult cuArrayDestroy(CUarray) {
  return CUDA_SUCCESS;
}
ALIQUOT_EXPORT CUresult cuMipmappedArrayCreate(CUmipmappedArray* handle, const CUDA_ARRAY3D_DESCRIPTOR*,
                                               unsigned int) {
  return give_handle(handle);
}
ALIQUOT_EXPORT CUresult cuMipmappedArrayDestroy(CUmipmappedArray) {
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  *free = *total = kDeviceBytes;
  return with_context();
}

ALIQUOT_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr, const void*, std::size_t) {
  return CUDA_SUCCESS;
}
ALIQUOT_EXPORT CUresult cuMemcpyDtoH_v2(void*, CUdeviceptr, std::size_t) {
  return CUDA_SUCCESS;
}
ALIQUOT_EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr, CUdeviceptr, std::size_t) {
  return CUDA_SUCCESS;
}
ALIQUOT_EXPORT CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D*) {
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuLaunchKernel(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int,
                                       unsigned int, unsigned int, unsigned int, CUstream, void**, void**) {
  return CUDA_SUCCESS;
}

// Streams are never destroyed, so that they stay readable.
ALIQUOT_EXPORT CUresult cuStreamCreate(CUstream* stream, unsigned int) {
  if (const CUresult ready = with_context(); ready != CUDA_SUCCESS)
    return ready;
  auto* made = static_cast<Stream*>(std::malloc(sizeof(Stream)));
  if (made == nullptr)
    return CUDA_ERROR_OUT_OF_MEMORY;
  made->context = current;
  *stream = reinterpret_cast<CUstream>(made);
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuStreamGetCtx(CUstream stream, CUcontext* context) {
  *context = stream != nullptr ? reinterpret_cast<Stream*>(stream)->context : current;
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS*, unsigned int,
                                                             unsigned int) {
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig*, CUfunction, void**, void**) {
  return CUDA_SUCCESS;
}
ALIQUOT_EXPORT CUresult cuGraphLaunch(CUgraphExec, CUstream) {
  return CUDA_SUCCESS;
}
}
