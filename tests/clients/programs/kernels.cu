// What kernels compute: arithmetic, shared memory, warps, atomics, math functions, divergence, printf. Every
// result is compared with the host's.
#include "features.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

namespace {

constexpr int kBlock = 128;

int blocks(int count) {
  return (count + kBlock - 1) / kBlock;
}

template <typename T>
__global__ void axpy(T a, const T* x, T* y, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count)
    y[i] = a * x[i] + y[i];
}

template <typename T>
void expect_axpy() {
  const int count = 1000;
  std::vector<T> x(count), y(count);
  for (int i = 0; i < count; ++i) {
    x[i] = static_cast<T>(i % 97);
    y[i] = static_cast<T>(i % 31);
  }
  DeviceArray<T> dx(x), dy(y);
  axpy<T><<<blocks(count), kBlock>>>(T(3), dx.get(), dy.get(), count);
  OK(cudaGetLastError());
  const std::vector<T> got = dy.read();
  for (int i = 0; i < count; ++i)
    EXPECT(got[i] == static_cast<T>(T(3) * x[i] + y[i]));
}

void templates() {
  expect_axpy<float>();
  expect_axpy<double>();
  expect_axpy<int>();
  expect_axpy<long long>();
  expect_axpy<unsigned char>();
}

__global__ void block_sums(const float* in, float* out, int count) {
  __shared__ float partial[kBlock];
  const int i = blockIdx.x * kBlock + threadIdx.x;
  partial[threadIdx.x] = i < count ? in[i] : 0.0f;
  __syncthreads();
  for (int half = kBlock / 2; half > 0; half /= 2) {
    if (threadIdx.x < half)
      partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0)
    out[blockIdx.x] = partial[0];
}

void shared_reduction() {
  const int count = 10007;
  std::vector<float> values(count);
  for (int i = 0; i < count; ++i)
    values[i] = static_cast<float>(i % 17);
  DeviceArray<float> in(values), out(blocks(count));
  block_sums<<<blocks(count), kBlock>>>(in.get(), out.get(), count);
  const std::vector<float> sums = out.read();
  // Small whole numbers: the sum is exact in any order.
  EXPECT(std::accumulate(sums.begin(), sums.end(), 0.0f) ==
         std::accumulate(values.begin(), values.end(), 0.0f));
}

__global__ void reverse_dynamic(int* data, int count) {
  extern __shared__ int held[];
  for (int i = threadIdx.x; i < count; i += blockDim.x)
    held[i] = data[i];
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += blockDim.x)
    data[i] = held[count - 1 - i];
}

void dynamic_shared() {
  const int count = 15000; // 60,000 bytes: more than a kernel gets unless it asks for it
  std::vector<int> values(count);
  std::iota(values.begin(), values.end(), 0);
  DeviceArray<int> data(values);
  const size_t bytes = count * sizeof(int);
  reverse_dynamic<<<1, 256, bytes>>>(data.get(), count);
  EXPECT(cudaGetLastError() == cudaErrorInvalidValue);
  OK(cudaFuncSetAttribute(reverse_dynamic, cudaFuncAttributeMaxDynamicSharedMemorySize,
                          static_cast<int>(bytes)));
  reverse_dynamic<<<1, 256, bytes>>>(data.get(), count);
  OK(cudaGetLastError());
  std::reverse(values.begin(), values.end());
  EXPECT(data.read() == values);
}

__global__ void warp_sums(const int* in, int* sums, unsigned* odd) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  int value = in[i];
  const unsigned ballot = __ballot_sync(0xFFFFFFFFu, value & 1);
  for (int offset = 16; offset > 0; offset /= 2)
    value += __shfl_down_sync(0xFFFFFFFFu, value, offset);
  if (i % 32 == 0) {
    sums[i / 32] = value;
    odd[i / 32] = __popc(ballot);
  }
}

void warps() {
  const int count = 4 * kBlock;
  std::vector<int> values(count);
  for (int i = 0; i < count; ++i)
    values[i] = i * 7 % 101;
  DeviceArray<int> in(values), sums(count / 32);
  DeviceArray<unsigned> odd(count / 32);
  warp_sums<<<4, kBlock>>>(in.get(), sums.get(), odd.get());
  const auto got_sums = sums.read();
  const auto got_odd = odd.read();
  for (int w = 0; w < count / 32; ++w) {
    const auto first = values.begin() + w * 32;
    EXPECT(got_sums[w] == std::accumulate(first, first + 32, 0));
    EXPECT(got_odd[w] ==
           static_cast<unsigned>(std::count_if(first, first + 32, [](int v) { return v & 1; })));
  }
}

struct Tally {
  int added, least, most, swapped;
  unsigned both, any, odd_one;
  unsigned long long wide;
  float real;
};

__global__ void tally(Tally* t) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&t->added, i);
  atomicMin(&t->least, i - 50);
  atomicMax(&t->most, i);
  atomicAnd(&t->both, ~(1u << (i % 7)));
  atomicOr(&t->any, 1u << (i % 11));
  atomicXor(&t->odd_one, static_cast<unsigned>(i));
  atomicAdd(&t->wide, 1ull << 33);
  atomicAdd(&t->real, 0.5f);
  int seen = t->swapped, assumed;
  do {
    assumed = seen;
    seen = atomicCAS(&t->swapped, assumed, assumed + 2);
  } while (seen != assumed);
}

void atomics() {
  const int count = 8 * kBlock;
  DeviceArray<Tally> device(std::vector<Tally>{{0, 0, 0, 0, ~0u, 0u, 0u, 0ull, 0.0f}});
  tally<<<8, kBlock>>>(device.get());
  const Tally got = device.read()[0];
  unsigned odd_one = 0;
  for (int i = 0; i < count; ++i)
    odd_one ^= static_cast<unsigned>(i);
  EXPECT(got.added == count * (count - 1) / 2);
  EXPECT(got.least == -50 && got.most == count - 1);
  EXPECT(got.both == ~0x7Fu && got.any == 0x7FFu && got.odd_one == odd_one);
  EXPECT(got.wide == static_cast<unsigned long long>(count) << 33);
  EXPECT(got.real == 0.5f * count);
  EXPECT(got.swapped == 2 * count);
}

__host__ __device__ int collatz(unsigned long long n) {
  int steps = 0;
  for (; n > 1; ++steps)
    n = n % 2 ? 3 * n + 1 : n / 2;
  return steps;
}

__global__ void collatz_all(int* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = collatz(i + 1);
}

void divergence() {
  const int count = 8 * kBlock;
  DeviceArray<int> out(count);
  collatz_all<<<8, kBlock>>>(out.get());
  const auto got = out.read();
  for (int i = 0; i < count; ++i)
    EXPECT(got[i] == collatz(i + 1));
}

constexpr int kFunctions = 12;

template <typename Real>
__host__ __device__ void evaluate(Real x, Real* out) {
  out[0] = sin(x);
  out[1] = cos(x * 100);
  out[2] = exp(-x);
  out[3] = log(x + 1);
  out[4] = pow(x + 1, Real(1.7));
  out[5] = tanh(x - 2);
  out[6] = atan2(x - 2, x);
  out[7] = sqrt(x);
  out[8] = cbrt(x);
  out[9] = fmod(x * 10, Real(3));
  out[10] = erf(x - 1);
  out[11] = floor(x * 5) + rint(x * 7) + trunc(-x * 3);
}

template <typename Real>
__global__ void evaluate_all(const Real* in, Real* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  evaluate(in[i], out + i * kFunctions);
}

template <typename Real>
void expect_functions(double relative) {
  const int count = 2 * kBlock;
  std::vector<Real> in(count);
  for (int i = 0; i < count; ++i)
    in[i] = static_cast<Real>(i) * Real(0.015625);
  DeviceArray<Real> din(in), dout(count * kFunctions);
  evaluate_all<Real><<<2, kBlock>>>(din.get(), dout.get());
  const auto got = dout.read();
  for (int i = 0; i < count; ++i) {
    Real expected[kFunctions];
    evaluate(in[i], expected);
    for (int f = 0; f < kFunctions; ++f) {
      const double difference = std::fabs(double(got[i * kFunctions + f]) - double(expected[f]));
      if (!(difference <= relative * std::max(1.0, std::fabs(double(expected[f])))))
        std::printf("function %d of %g: %.17g, expected %.17g\n", f, double(in[i]),
                    double(got[i * kFunctions + f]), double(expected[f]));
      EXPECT(difference <= relative * std::max(1.0, std::fabs(double(expected[f]))));
    }
  }
}

void functions() {
  // The CUDA programming guide, "Mathematical Functions": at most a few units in the last place for all of
  // these.
  expect_functions<float>(2e-6);
  expect_functions<double>(4e-15);
}

// By hand, for the header of half precision is part of another package than the runtime's.
__global__ void halves(const float* in, float* out) {
  asm("{ .reg .b16 h, two, half;\n\t"
      "cvt.rn.f16.f32 h, %1; mov.b16 two, 0x4000; mov.b16 half, 0x3800;\n\t"
      "fma.rn.f16 h, h, two, half; cvt.f32.f16 %0, h; }"
      : "=f"(out[threadIdx.x])
      : "f"(in[threadIdx.x]));
}

void half_precision() {
  std::vector<float> values(kBlock);
  for (int i = 0; i < kBlock; ++i)
    values[i] = i * 0.25f;
  values[kBlock - 1] = 1000.3f; // 1000.5 in half precision, whose step is 0.5 here; twice that and 0.5 is
                                // 2001.5, which lies between 2001 and 2002 and goes to the even one
  DeviceArray<float> in(values), out(kBlock);
  halves<<<1, kBlock>>>(in.get(), out.get());
  const auto got = out.read();
  for (int i = 0; i < kBlock - 1; ++i)
    EXPECT(got[i] == i * 0.5f + 0.5f);
  EXPECT(got[kBlock - 1] == 2002.0f);
}

__global__ void integers(const int64_t* in, int64_t* out, int count) {
  const int i = threadIdx.x;
  if (i >= count)
    return;
  const int64_t v = in[i];
  out[i * 6 + 0] = v / (i + 3);
  out[i * 6 + 1] = v % (i + 3);
  out[i * 6 + 2] = __mul64hi(v, v);
  out[i * 6 + 3] = __clzll(v) + 100 * __ffsll(v) + 10000 * __popcll(v);
  out[i * 6 + 4] = (v >> (i % 64)) ^ (v << (i % 13));
  out[i * 6 + 5] =
      static_cast<int64_t>(__brev(static_cast<unsigned>(v))) + __umulhi(static_cast<unsigned>(v), 12345u);
}

void integer_arithmetic() {
  std::vector<int64_t> values(kBlock);
  for (int i = 0; i < kBlock; ++i)
    values[i] = static_cast<int64_t>(0x9E3779B97F4A7C15ull * static_cast<uint64_t>(i + 1));
  DeviceArray<int64_t> in(values), out(kBlock * 6);
  integers<<<1, kBlock>>>(in.get(), out.get(), kBlock);
  const auto got = out.read();
  for (int i = 0; i < kBlock; ++i) {
    const int64_t v = values[i];
    const auto low = static_cast<unsigned>(v);
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; ++bit)
      reversed |= (low >> bit & 1u) << (31 - bit);
    EXPECT(got[i * 6 + 0] == v / (i + 3));
    EXPECT(got[i * 6 + 1] == v % (i + 3));
    EXPECT(got[i * 6 + 2] == static_cast<int64_t>(static_cast<__int128>(v) * v >> 64));
    EXPECT(got[i * 6 + 3] == __builtin_clzll(v) + 100 * __builtin_ffsll(v) + 10000 * __builtin_popcountll(v));
    EXPECT(got[i * 6 + 4] == ((v >> (i % 64)) ^ static_cast<int64_t>(static_cast<uint64_t>(v) << (i % 13))));
    EXPECT(got[i * 6 + 5] ==
           static_cast<int64_t>(reversed) + static_cast<int64_t>(uint64_t{low} * 12345u >> 32));
  }
}

__noinline__ __device__ int fibonacci(int n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

__global__ void fibonacci_all(int* out) {
  out[threadIdx.x] = fibonacci(threadIdx.x % 12);
}

void recursion() {
  DeviceArray<int> out(32);
  fibonacci_all<<<1, 32>>>(out.get());
  const int expected[] = {0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89};
  const auto got = out.read();
  for (int i = 0; i < 32; ++i)
    EXPECT(got[i] == expected[i % 12]);
}

__global__ void speak(float half, const char* word) {
  if (threadIdx.x % 32 == 0)
    printf("thread %u of %u: %.2f %s %lld%%\n", threadIdx.x, blockDim.x, half + threadIdx.x, word, 1ll << 40);
}

__constant__ char spoken[6] = "words";

void device_printf() {
  void* word = nullptr;
  OK(cudaGetSymbolAddress(&word, spoken));
  speak<<<1, 64>>>(0.5f, static_cast<const char*>(word));
  OK(cudaDeviceSynchronize());
}

const Feature kFeatures[] = {
    {"templates", templates},
    {"shared_reduction", shared_reduction},
    {"dynamic_shared", dynamic_shared},
    {"warps", warps},
    {"atomics", atomics},
    {"divergence", divergence},
    {"functions", functions},
    {"half_precision", half_precision},
    {"integer_arithmetic", integer_arithmetic},
    {"recursion", recursion},
    {"device_printf", device_printf},
};

} // namespace

int main(int argc, char** argv) {
  return run_features(kFeatures, std::size(kFeatures), argc, argv);
}
