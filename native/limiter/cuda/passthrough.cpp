// Every exported symbol of the driver as a weak function that calls the real one. A hook is a strong
// definition of the same symbol in another file, and takes its place when the library is linked.
#include "native/limiter/cuda/entry_points.hpp"

#include <iterator>
#include <type_traits>

#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/observers.hpp"

#pragma GCC diagnostic ignored "-Wunused-parameter"

#define ALIQUOT_CUDA_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments)        \
  extern "C" {                                                                                               \
  __attribute__((visibility("hidden"))) result aliquot_pass_##symbol parameters {                            \
    return aliquot::limiter::forward<aliquot::limiter::base##_entry,                                         \
                                     aliquot::limiter::StreamVariant::variant>(                              \
        aliquot::limiter::driver().symbol) arguments;                                                        \
  }                                                                                                          \
  __attribute__((weak, visibility("default"), alias("aliquot_pass_" #symbol))) result symbol parameters;     \
  }
#include "aliquot/cuda_entry_points.inc"

namespace aliquot::limiter {
namespace {

struct OwnFunction {
  void* linked; // what the linker chose for the symbol: a hook, or the weak function
  void* pass;
  bool observed;
};

template <typename Function>
void* address_of(Function* function) noexcept {
  return reinterpret_cast<void*>(function);
}

const OwnFunction kFunctions[] = {
#define ALIQUOT_CUDA_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments)        \
  {address_of(&::symbol), address_of(&aliquot_pass_##symbol), Observer<base##_entry>::kObserves},
#include "aliquot/cuda_entry_points.inc"
};

} // namespace

void* own_function(std::size_t index) noexcept {
  if (index >= std::size(kFunctions))
    return nullptr;
  const OwnFunction& function = kFunctions[index];
  return function.observed || function.linked != function.pass ? function.linked : nullptr;
}

} // namespace aliquot::limiter
