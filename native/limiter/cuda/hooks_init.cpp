// Hooks of start-up: cuInit, and the answers of cuGetProcAddress.
#include <cstring>
#include <string_view>

#include "native/api/lookup.hpp"
#include "native/common/log.hpp"
#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/entry_points.hpp"
#include "native/limiter/cuda/limiter.hpp"
#include "native/limiter/cuda/visible_cards.hpp"
#include "native/limiter/own_slice.hpp"

namespace aliquot::limiter {
namespace {

constexpr std::size_t kInitIndex = static_cast<std::size_t>(api::CudaEntry::cuInit);

// What a driver says that has the symbol only in a version newer than the one asked for, or not at all.
CUresult not_found(void** function, CUdriverProcAddressQueryResult* status,
                   CUdriverProcAddressQueryResult reason) noexcept {
  *function = nullptr;
  if (status != nullptr)
    *status = reason;
  return CUDA_ERROR_NOT_FOUND;
}

// An ABI that came after our list would be called with arguments that our hook does not know. The driver
// gives the same function for the newest version of the list as long as there is none.
bool is_newer_than_list(const char* symbol, const void* function, int version, cuuint64_t flags) noexcept {
  if (version <= CUDA_VERSION)
    return false;
  void* listed = nullptr;
  CUdriverProcAddressQueryResult status{};
  const CUresult found = driver().cuGetProcAddress_v2(symbol, &listed, CUDA_VERSION, flags, &status);
  return found != CUDA_SUCCESS || listed != function;
}

CUresult keep_unlisted(const char* symbol, void** function, CUdriverProcAddressQueryResult* status) noexcept {
  const SliceRegion* slice = slice_region(SliceRegion::Access::Account);
  if (slice != nullptr && slice->allows_unlisted()) {
    common::log_line(common::LogLevel::Info, "%s is newer than the limiter and was let through", symbol);
    return CUDA_SUCCESS;
  }
  common::log_line(common::LogLevel::Info, "%s is newer than the limiter and is not offered", symbol);
  return not_found(function, status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
}

// The driver has found `*function`; puts ours in its place where the limiter stands in front of it.
CUresult substitute(const char* symbol, void** function, int version, cuuint64_t flags,
                    CUdriverProcAddressQueryResult* status) noexcept {
  const api::Lookup found = api::find_entry_point(symbol, version, flags);
  if (found.status != api::LookupStatus::Success || is_newer_than_list(symbol, *function, version, flags)) {
    return keep_unlisted(symbol, function, status);
  }
  void* own = own_function(found.index);
  if (own == nullptr)
    return CUDA_SUCCESS;
  if (!driver_has(found.index))
    return not_found(function, status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  *function = own;
  return CUDA_SUCCESS;
}

CUresult init_driver(const Limiter& here, unsigned flags) noexcept {
  const EnvironmentForDriver environment(here.cards());
  return driver().cuInit(flags);
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT CUresult cuInit(unsigned int flags) {
  if (!driver_has(kInitIndex))
    return CUDA_ERROR_NO_DEVICE;
  Limiter* here = attach_limiter();
  if (here == nullptr)
    return CUDA_ERROR_SYSTEM_NOT_READY;
  const CUresult result = init_driver(*here, flags);
  if (result == CUDA_SUCCESS)
    here->map_devices();
  return result;
}

ALIQUOT_EXPORT CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version,
                                            cuuint64_t flags, CUdriverProcAddressQueryResult* status) {
  const CUresult result = driver().cuGetProcAddress_v2(symbol, function, version, flags, status);
  if (result != CUDA_SUCCESS || symbol == nullptr || function == nullptr || *function == nullptr)
    return result;
  return substitute(symbol, function, version, flags, status);
}

ALIQUOT_EXPORT CUresult cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t flags) {
  const CUresult result = driver().cuGetProcAddress(symbol, function, version, flags);
  if (result != CUDA_SUCCESS || symbol == nullptr || function == nullptr || *function == nullptr)
    return result;
  return substitute(symbol, function, version, flags, nullptr);
}
}
