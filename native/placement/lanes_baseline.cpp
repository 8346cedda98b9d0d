// run_lanes with the instructions that every processor of this architecture has.
#define ALIQUOT_LANES baseline
#include "native/placement/lanes_kernel.hpp"
