// What is not written elsewhere in this folder: vGPU, confidential computing, what needs hardware that is not
// simulated. As on a card that lacks it: the same checks as everywhere, then "not supported".
#include <type_traits>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {
namespace {

nvmlReturn_t absent() noexcept {
  return on_session({}, [](const Session&) { return NVML_ERROR_NOT_SUPPORTED; });
}

// By the kind of the first argument: a device is checked.
template <typename First, typename... Rest>
nvmlReturn_t absent(First first, const Rest&...) noexcept {
  if constexpr (std::is_same_v<First, nvmlDevice_t>)
    return on_device(first, {}, [](const View&) { return NVML_ERROR_NOT_SUPPORTED; });
  else
    return absent();
}

template <typename Result, typename Call>
Result answer(Call&& call) noexcept {
  if constexpr (std::is_same_v<Result, nvmlReturn_t>)
    return call();
  else
    return nullptr; // nvmlErrorString, which errors.cpp defines
}

} // namespace
} // namespace aliquot::simgpu::nvml

#define ALIQUOT_NVML_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments)        \
  extern "C" __attribute__((weak, visibility("default"))) result symbol parameters {                         \
    return aliquot::simgpu::nvml::answer<result>([&] { return aliquot::simgpu::nvml::absent arguments; });   \
  }
#include "aliquot/nvml_entry_points.inc"
