// Programs that do what they must not, one a run: the error is the one that a card gives, it sticks to the
// context, and the process goes on to say so.
// The host compiler defines NDEBUG when it optimises.
#undef NDEBUG

#include "features.hpp"

#include <cassert>

namespace {

__global__ void write_to(int* where) {
  where[threadIdx.x] = 1;
}

__global__ void stop() {
  asm volatile("trap;");
}

__global__ void doubt(int one) {
  assert(one == 2);
}

// What the context says from now on, whatever is asked of it.
void expect_sticky(cudaError_t error) {
  EXPECT(cudaDeviceSynchronize() == error);
  void* data = nullptr;
  EXPECT(cudaMalloc(&data, 64) == error);
  EXPECT(cudaGetLastError() == error);
  EXPECT(cudaDeviceSynchronize() == error);
}

void illegal_address() {
  write_to<<<1, 32>>>(nullptr);
  expect_sticky(cudaErrorIllegalAddress);
}

void misaligned_address() {
  DeviceArray<int> data(64);
  write_to<<<1, 32>>>(reinterpret_cast<int*>(reinterpret_cast<char*>(data.get()) + 2));
  expect_sticky(cudaErrorMisalignedAddress);
}

void trap() {
  stop<<<1, 32>>>();
  expect_sticky(cudaErrorLaunchFailure);
}

void failed_assertion() {
  doubt<<<1, 32>>>(1);
  expect_sticky(cudaErrorAssert);
}

const Feature kFeatures[] = {
    {"illegal_address", illegal_address},
    {"misaligned_address", misaligned_address},
    {"trap", trap},
    {"failed_assertion", failed_assertion},
};

} // namespace

int main(int argc, char** argv) {
  return run_features(kFeatures, sizeof kFeatures / sizeof *kFeatures, argc, argv);
}
