#include "native/limiter/nvml/library.hpp"

#include "native/common/spin_lock.hpp"
#include "native/limiter/function_table.hpp"
#include "native/limiter/library_search.hpp"
#include "native/limiter/own_slice.hpp"

namespace aliquot::limiter {
namespace {

constexpr const char* kNames[] = {
#define ALIQUOT_NVML_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments) #symbol,
#include "aliquot/nvml_entry_points.inc"
};

nvmlReturn_t no_function() noexcept {
  return NVML_ERROR_FUNCTION_NOT_FOUND;
}
nvmlReturn_t no_library() noexcept {
  return NVML_ERROR_LIBRARY_NOT_FOUND;
}

OpenLibrary<NvmlTable> library;
common::SpinLock opening;
std::atomic<bool> library_is_there{false};

} // namespace

namespace detail {

std::atomic<const NvmlTable*> nvml_table{nullptr};

const NvmlTable& open_nvml() noexcept {
  opening.lock();
  if (nvml_table.load(std::memory_order_acquire) == nullptr) {
    const SliceRegion* slice = slice_region(SliceRegion::Access::Look);
    const char* stated = slice != nullptr ? slice->nvml_path() : nullptr;
    void* handle = open_real_library("libnvidia-ml.so.1", stated, reinterpret_cast<const void*>(&open_nvml));
    library.fill(handle, kNames, handle != nullptr ? no_function : no_library);
    library_is_there.store(handle != nullptr, std::memory_order_relaxed);
    nvml_table.store(&library.functions, std::memory_order_release);
  }
  opening.unlock();
  return library.functions;
}

} // namespace detail

bool has_nvml() noexcept {
  nvml();
  return library_is_there.load(std::memory_order_relaxed);
}

} // namespace aliquot::limiter
