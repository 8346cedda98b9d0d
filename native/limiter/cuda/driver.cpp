// Danger: members of different function types are filled through untyped pointers, and functions of one type are put
// where another is declared. Both are confined to this file, and rest on the C calling conventions of x86-64 and
// AArch64, under which a function may be called with more arguments than it takes.
#include "native/limiter/cuda/driver.hpp"

#include <cstring>
#include <dlfcn.h>

#include "native/common/spin_lock.hpp"
#include "native/limiter/cuda/slice.hpp"
#include "native/limiter/library_search.hpp"

namespace aliquot::limiter {
namespace {

using AnyFunction = void (*)();

constexpr std::size_t kEntries = sizeof(DriverTable) / sizeof(AnyFunction);
static_assert(sizeof(void*) == sizeof(AnyFunction));

CUresult not_supported() noexcept { return CUDA_ERROR_NOT_SUPPORTED; }
CUresult no_driver() noexcept { return CUDA_ERROR_NO_DEVICE; }

struct OpenDriver {
  DriverTable table;
  bool has[kEntries] = {};
};

OpenDriver real;
OpenDriver none;
common::SpinLock opening;
thread_local bool opening_here [[gnu::tls_model("initial-exec")]] = false;

const char* symbol_name(std::size_t index) noexcept { return api::entry_point_symbol(index); }

void put(DriverTable& table, std::size_t index, const void* function) noexcept {
  std::memcpy(reinterpret_cast<char*>(&table) + index * sizeof function, &function, sizeof function);
}

void fill(OpenDriver& driver, void* handle, CUresult (*fallback)() noexcept) noexcept {
  for (std::size_t index = 0; index < kEntries; ++index) {
    void* found = handle != nullptr ? dlsym(handle, symbol_name(index)) : nullptr;
    driver.has[index] = found != nullptr;
    put(driver.table, index, found != nullptr ? found : reinterpret_cast<const void*>(fallback));
  }
}

const DriverTable& no_driver_table() noexcept {
  if (none.table.cuInit == nullptr) fill(none, nullptr, no_driver);
  return none.table;
}

}  // namespace

namespace detail {

std::atomic<const DriverTable*> driver_table{nullptr};

const DriverTable& open_driver() noexcept {
  if (opening_here) return no_driver_table();  // called back by the library that is just being opened
  opening_here = true;
  opening.lock();
  const DriverTable* table = driver_table.load(std::memory_order_acquire);
  if (table == nullptr) {
    const SliceRegion* slice = slice_region();
    const char* stated = slice != nullptr ? slice->driver_path() : nullptr;
    void* handle = open_real_library("libcuda.so.1", stated, reinterpret_cast<const void*>(&open_driver));
    if (handle != nullptr) fill(real, handle, not_supported);
    table = handle != nullptr ? &real.table : &no_driver_table();
    driver_table.store(table, std::memory_order_release);
  }
  opening.unlock();
  opening_here = false;
  return *table;
}

}  // namespace detail

bool driver_has(std::size_t index) noexcept {
  return &driver() == &real.table && index < kEntries && real.has[index];
}

}  // namespace aliquot::limiter
