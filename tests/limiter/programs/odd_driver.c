// A driver of another age: it lacks most functions, has one that the list of entry points does not know, and
// a newer form of cuMemFree; and it calls its own exported function by way of the loader.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef int CUresult;
static uint64_t next = 1u << 20;
static int context;

CUresult cuInit(unsigned flags) {
  return flags != 0;
}
CUresult cuDriverGetVersion(int* version) {
  return *version = 14000, 0;
}
CUresult cuDeviceGetCount(int* count) {
  return *count = 1, 0;
}
CUresult cuDevicePrimaryCtxRetain(void** made, int device) {
  return *made = &context, device;
}
CUresult cuCtxSetCurrent(void* made) {
  return made != &context;
}
CUresult cuCtxGetCurrent(void** made) {
  return *made = &context, 0;
}
CUresult cuCtxGetDevice(int* device) {
  return *device = 0, 0;
}
CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return *free = *total = (size_t)1 << 40, 0;
}
CUresult cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  return *address = next, next += bytes, 0;
}
CUresult cuMemFree_v2(uint64_t address) {
  return address == 0;
}
CUresult cuMemFree_v3(uint64_t address, int how) {
  return address == 0 || how;
}
CUresult cuFutureAlloc(uint64_t* address, size_t bytes) {
  return cuMemAlloc_v2(address, bytes);
}

// Goes through the loader's table: whoever is preloaded gets this call.
CUresult cuMemAllocPitch_v2(uint64_t* address, size_t* pitch, size_t width, size_t height, unsigned element) {
  *pitch = (width + 511) / 512 * 512;
  return element == 0 ? 1 : cuMemAlloc_v2(address, *pitch * height);
}

CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, uint64_t flags, int* status) {
  *function = NULL;
  if (strcmp(symbol, "cuFutureAlloc") == 0)
    *function = (void*)cuFutureAlloc;
  if (strcmp(symbol, "cuMemAlloc") == 0)
    *function = (void*)cuMemAlloc_v2;
  if (strcmp(symbol, "cuMemFree") == 0)
    *function = version >= 14000 ? (void*)cuMemFree_v3 : (void*)cuMemFree_v2;
  if (strcmp(symbol, "cuLaunchKernel") == 0)
    *function = (void*)cuInit; // said to be there, and not exported
  if (status != NULL)
    *status = *function == NULL;
  return *function != NULL ? 0 : 500 + (int)(flags >> 32);
}
