// Asynchronous notifications: callbacks that a driver makes when a process is over its budget of a device. A
// simulated card refuses the allocation instead, so none is ever made; clients may register all the same.
#include <map>
#include <mutex>

#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

class Notifications {
 public:
  static Notifications& instance() {
    static auto* made = new Notifications; // never destroyed: threads may be inside at exit
    return *made;
  }
  CUasyncCallbackHandle add(CUdevice device) {
    const std::lock_guard guard(mutex_);
    // Never an address: a client that dereferences it faults.
    auto* handle = reinterpret_cast<CUasyncCallbackHandle>(kFirst + ++last_ * 16);
    registered_.emplace(handle, device);
    return handle;
  }
  bool remove(CUdevice device, CUasyncCallbackHandle handle) {
    const std::lock_guard guard(mutex_);
    const auto at = registered_.find(handle);
    if (at == registered_.end() || at->second != device)
      return false;
    registered_.erase(at);
    return true;
  }

 private:
  static constexpr std::uintptr_t kFirst = std::uintptr_t{0x5b01} << 48;
  std::mutex mutex_;
  std::map<CUasyncCallbackHandle, CUdevice> registered_;
  std::uintptr_t last_ = 0;
};

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuDeviceRegisterAsyncNotification(CUdevice dev, CUasyncCallback callback, void*,
                                                          CUasyncCallbackHandle* handle) {
  return with_device(dev, [&](Device&) {
    if (callback == nullptr || handle == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *handle = Notifications::instance().add(dev);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceUnregisterAsyncNotification(CUdevice dev, CUasyncCallbackHandle handle) {
  return with_device(dev, [&](Device&) {
    return Notifications::instance().remove(dev, handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

// Nothing writes to a simulated card from elsewhere: there is nothing to flush.
ALIQUOT_EXPORT CUresult cuFlushGPUDirectRDMAWrites(CUflushGPUDirectRDMAWritesTarget target,
                                                   CUflushGPUDirectRDMAWritesScope scope) {
  return with_context([&](Driver&, const ContextPtr&) {
    const bool known = target == CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX &&
                       (scope == CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER ||
                        scope == CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_ALL_DEVICES);
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

} // extern "C"
