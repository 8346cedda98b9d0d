// Every exported symbol of NVML as a weak function that calls the real one; a hook takes its place when the
// library is linked.
#include "native/limiter/nvml/library.hpp"

#define ALIQUOT_NVML_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments)        \
  extern "C" __attribute__((weak, visibility("default"))) result symbol parameters {                         \
    return aliquot::limiter::nvml().symbol arguments;                                                        \
  }
#include "aliquot/nvml_entry_points.inc"
