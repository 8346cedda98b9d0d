// Logs and core dumps: families that programs ask about and that have nothing to tell here. The driver's own
// lines go to stderr (ALIQUOT_LOG); no core dump of a simulated card is ever written.
#include <cstdio>
#include <cstring>

#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

// Callbacks are remembered so that a handle can be told from a forged one; no line is passed to them.
class LogCallbacks {
 public:
  void* add() {
    const std::lock_guard guard(mutex_);
    live_.push_back(++last_);
    return reinterpret_cast<void*>(last_);
  }
  bool remove(void* handle) {
    const std::lock_guard guard(mutex_);
    return std::erase(live_, reinterpret_cast<std::uintptr_t>(handle)) != 0;
  }

 private:
  std::mutex mutex_;
  std::vector<std::uintptr_t> live_;
  std::uintptr_t last_ = 0;
};

LogCallbacks& log_callbacks() {
  static auto* callbacks = new LogCallbacks;
  return *callbacks;
}

CUresult coredump_attribute(CUcoredumpSettings attribute, void* value, std::size_t* size) {
  if (value == nullptr || size == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  if (attribute == CU_COREDUMP_FILE || attribute == CU_COREDUMP_PIPE) {
    if (*size == 0)
      return CUDA_ERROR_INVALID_VALUE;
    *static_cast<char*>(value) = '\0';
    *size = 1;
    return CUDA_SUCCESS;
  }
  if (attribute >= CU_COREDUMP_MAX || *size < sizeof(bool))
    return CUDA_ERROR_INVALID_VALUE;
  const std::size_t bytes = attribute == CU_COREDUMP_GENERATION_FLAGS ? sizeof(int) : sizeof(bool);
  if (*size < bytes)
    return CUDA_ERROR_INVALID_VALUE;
  std::memset(value, 0, bytes); // no dump is made on an exception, of no kind
  *size = bytes;
  return CUDA_SUCCESS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuLogsRegisterCallback(CUlogsCallback callback, void*, CUlogsCallbackHandle* handle) {
  return guarded([&] {
    if (callback == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    void* made = log_callbacks().add();
    if (handle != nullptr)
      *handle = static_cast<CUlogsCallbackHandle>(made);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuLogsUnregisterCallback(CUlogsCallbackHandle handle) {
  return guarded([&] { return log_callbacks().remove(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; });
}

ALIQUOT_EXPORT CUresult cuLogsCurrent(CUlogIterator* iterator, unsigned int flags) {
  if (iterator == nullptr || flags != 0)
    return CUDA_ERROR_INVALID_VALUE;
  *iterator = 0;
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuLogsDumpToMemory(CUlogIterator*, char* buffer, size_t* size, unsigned int flags) {
  if (buffer == nullptr || size == nullptr || *size == 0 || flags != 0)
    return CUDA_ERROR_INVALID_VALUE;
  *buffer = '\0';
  *size = 0;
  return CUDA_SUCCESS;
}

// No log is kept: what there is to say goes to stderr at once. The file is there, and empty.
ALIQUOT_EXPORT CUresult cuLogsDumpToFile(CUlogIterator*, const char* path, unsigned int flags) {
  if (path == nullptr || flags != 0)
    return CUDA_ERROR_INVALID_VALUE;
  std::FILE* file = std::fopen(path, "we");
  if (file == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  std::fclose(file);
  return CUDA_SUCCESS;
}

ALIQUOT_EXPORT CUresult cuCoredumpGetAttribute(CUcoredumpSettings attribute, void* value, size_t* size) {
  return with_context([&](Driver&, const ContextPtr&) { return coredump_attribute(attribute, value, size); });
}

ALIQUOT_EXPORT CUresult cuCoredumpGetAttributeGlobal(CUcoredumpSettings attribute, void* value,
                                                     size_t* size) {
  return with_driver([&](Driver&) { return coredump_attribute(attribute, value, size); });
}

// The profiler of a tool that is not there: starting and stopping it is no error on a real driver either.
ALIQUOT_EXPORT CUresult cuProfilerStart(void) {
  return with_context([](Driver&, const ContextPtr&) { return CUDA_SUCCESS; });
}
ALIQUOT_EXPORT CUresult cuProfilerStop(void) {
  return with_context([](Driver&, const ContextPtr&) { return CUDA_SUCCESS; });
}

} // extern "C"
