// Kernels that make compilers write most forms of PTX: tables of addresses, indirect calls, printf, recursion,
// halves, 128-bit integers, atomics, inline assembly. Compiled by tests, never run.
#include <cuda_fp16.h>
#include <cuda_bf16.h>
extern "C" {
__constant__ float coefficients[16] = {1.0f, 2.f, 3.f};
__device__ int counter = 5;
__device__ int* pointer = &counter;
__device__ const char* names[] = {"one", "two"};
struct Record { int a; double b; char c[5]; };
__device__ Record table[2] = {{1, 2.0, "abc"}, {3, 4.0, "de"}};
typedef float (*Function)(float);
__device__ float twice(float x) { return x * 2; }
__device__ float sine(float x) { return sinf(x); }
__device__ Function functions[2] = {twice, sine};
__global__ void saxpy(float a, const float* x, float* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}
__global__ void __launch_bounds__(256, 2) reduce(const float* x, float* out, int n) {
  __shared__ float s[256];
  int t = threadIdx.x;
  s[t] = t < n ? x[t] : 0;
  __syncthreads();
  for (int k = 128; k > 0; k >>= 1) { if (t < k) s[t] += s[t + k]; __syncthreads(); }
  if (!t) atomicAdd(out, s[0]);
}
__global__ void dynamic(float* o) {
  extern __shared__ float sh[];
  sh[threadIdx.x] = o[threadIdx.x];
  __syncthreads();
  o[threadIdx.x] = sh[blockDim.x - 1 - threadIdx.x];
}
__global__ void shuffles(int* o) {
  int v = o[threadIdx.x];
  v += __shfl_xor_sync(~0u, v, 1) + __shfl_up_sync(~0u, v, 2);
  o[threadIdx.x] = v + __popc(__ballot_sync(~0u, v > 3)) + __any_sync(~0u, v);
}
__global__ void indirect(float* o, int k) { o[threadIdx.x] = functions[k & 1](o[threadIdx.x]) * coefficients[k]; }
__global__ void choose(int* o, int k) {
  switch (k) {
    case 0: *o = 1; break; case 1: *o = 7; break; case 2: *o = 17; break; case 3: *o = sinf(k); break;
    case 4: *o = 93; break; case 5: *o = k * k; break; case 7: *o = -k; break;
    case 6: asm volatile("{.reg .pred p; L1: setp.ne.s32 p,%0,0; @p bra L2; L2: }" ::"r"(k)); break;
    default: *o = 55;
  }
}
__global__ void print(int k) { printf("%d %s %f\n", k, names[k & 1], table[k & 1].b); }
__global__ void halves(__half* a, __half2* b, __nv_bfloat16* c) {
  a[0] = a[1] * a[2] + hsin(a[3]);
  b[0] = __hfma2(b[1], b[2], b[3]);
  c[0] = c[1] + c[2];
}
__global__ void doubles(double* a, long long* q, unsigned __int128* w) {
  a[0] = sin(a[1]) + pow(a[2], a[3]) + sqrt(a[4]);
  q[0] = q[1] / q[2];
  w[0] = w[1] * w[2] / w[3];
}
__global__ void local(int* o, int k) {
  int a[32], s = 0;
  for (int i = 0; i < 32; i++) a[i] = o[i * k];
  for (int i = 0; i < 32; i++) s += a[(i * k) & 31];
  *o = s;
}
__global__ void atomics(int* a, unsigned long long* b, double* d) {
  atomicCAS(a, 1, 2); atomicMax(a, 3); atomicExch(b, 5ull); atomicAdd(d, 1.0); atomicInc((unsigned*)a, 3);
  __threadfence();
  if (*a == 3) __trap();
}
__device__ __noinline__ int factorial(int n) { return n < 2 ? 1 : n * factorial(n - 1); }
__global__ void recursive(int* o) { *o = factorial(*o); }
__managed__ int managed[4];
__global__ void clocks(int* o) { *o = managed[1]; managed[0] = clock64(); __nanosleep(100); }
}
