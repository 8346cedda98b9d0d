#include "native/limiter/cuda/driver.hpp"

#include "native/common/spin_lock.hpp"
#include "native/limiter/function_table.hpp"
#include "native/limiter/library_search.hpp"
#include "native/limiter/own_slice.hpp"

namespace aliquot::limiter {
namespace {

constexpr const char* kNames[] = {
#define ALIQUOT_CUDA_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments) #symbol,
#include "aliquot/cuda_entry_points.inc"
};

CUresult not_supported() noexcept {
  return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult no_driver() noexcept {
  return CUDA_ERROR_NO_DEVICE;
}

OpenLibrary<DriverTable> real;
OpenLibrary<DriverTable> none;
common::SpinLock opening;
thread_local bool opening_here [[gnu::tls_model("initial-exec")]] = false;

const DriverTable& no_driver_table() noexcept {
  if (none.functions.cuInit == nullptr)
    none.fill(nullptr, kNames, no_driver);
  return none.functions;
}

} // namespace

namespace detail {

std::atomic<const DriverTable*> driver_table{nullptr};

const DriverTable& open_driver() noexcept {
  if (opening_here)
    return no_driver_table(); // called back by the library that is just being opened
  opening_here = true;
  opening.lock();
  const DriverTable* table = driver_table.load(std::memory_order_acquire);
  if (table == nullptr) {
    const SliceRegion* slice = slice_region(SliceRegion::Access::Account);
    const char* stated = slice != nullptr ? slice->driver_path() : nullptr;
    void* handle = open_real_library("libcuda.so.1", stated, reinterpret_cast<const void*>(&open_driver));
    if (handle != nullptr)
      real.fill(handle, kNames, not_supported);
    table = handle != nullptr ? &real.functions : &no_driver_table();
    driver_table.store(table, std::memory_order_release);
  }
  opening.unlock();
  opening_here = false;
  return *table;
}

} // namespace detail

bool driver_has(std::size_t index) noexcept {
  return &driver() == &real.functions && index < OpenLibrary<DriverTable>::kEntries && real.has[index];
}

} // namespace aliquot::limiter
