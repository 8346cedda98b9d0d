// run_lanes with AVX-512: compiled with -mavx512*, called only where the processor has it.
#define ALIQUOT_LANES avx512
#define ALIQUOT_LANE_COUNT 32
#include "native/placement/lanes_kernel.hpp"
