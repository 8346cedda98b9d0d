// run_lanes with AVX2: compiled with -mavx2, called only where the processor has it.
#define ALIQUOT_LANES avx2
#define ALIQUOT_LANE_COUNT 16
#include "native/placement/lanes_kernel.hpp"
