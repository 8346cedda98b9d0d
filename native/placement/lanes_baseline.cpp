// run_lanes with the instructions that every processor of this architecture has.
#define ALIQUOT_LANES baseline
#define ALIQUOT_LANE_COUNT 16
#include "native/placement/lanes_kernel.hpp"
