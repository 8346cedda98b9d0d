// Every exported symbol of NVML as a weak function that calls the real one; a hook takes its place when the
// library is linked. What no tenant may do or see is refused here, by name (visibility.hpp), and so is every
// call about a card that is not the slice's.
#include <type_traits>

#include "native/limiter/nvml/library.hpp"
#include "native/limiter/nvml/scope.hpp"
#include "native/limiter/nvml/visibility.hpp"

namespace aliquot::limiter {
namespace {

// Null is NVML's to judge, and so is everything before its start, when no device is known.
template <typename Argument>
bool may_be_named(const Argument& argument) noexcept {
  if constexpr (std::is_same_v<Argument, nvmlDevice_t>)
    return argument == nullptr || visible_devices() == 0 || slice_device(argument) != kNotInSlice;
  else
    return true;
}

template <nvmlReturn_t Forbidden, typename Result, typename... Parameters>
struct Passed {
  Result (*function)(Parameters...);
  Result operator()(Parameters... arguments) const noexcept {
    if constexpr (!std::is_same_v<Result, nvmlReturn_t>)
      return function(arguments...);
    else if constexpr (Forbidden != NVML_SUCCESS)
      return has_nvml() ? Forbidden : NVML_ERROR_LIBRARY_NOT_FOUND;
    else
      return (may_be_named(arguments) && ...) ? function(arguments...) : NVML_ERROR_INVALID_ARGUMENT;
  }
};

template <nvmlReturn_t Forbidden, typename Result, typename... Parameters>
Passed<Forbidden, Result, Parameters...> pass(Result (*function)(Parameters...)) noexcept {
  return {function};
}

} // namespace
} // namespace aliquot::limiter

#define ALIQUOT_NVML_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments)        \
  extern "C" __attribute__((weak, visibility("default"))) result symbol parameters {                         \
    return aliquot::limiter::pass<aliquot::limiter::forbidden_by_name(#symbol)>(                             \
        aliquot::limiter::nvml().symbol) arguments;                                                          \
  }
#include "aliquot/nvml_entry_points.inc"
