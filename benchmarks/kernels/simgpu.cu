// Kernels of the interpreter's benchmark (benchmarks/simgpu.py), as people write them.
//
// simgpu.ptx is this file compiled by NVRTC 13.5 with --gpu-architecture=compute_80; it is committed so that the
// benchmark needs no compiler. Instructions are counted in PTX, not in C.

// Eight independent chains of fused multiply-adds in registers.
extern "C" __global__ void fma_loop(float* out, int n, float a, float b) {
  float x0 = threadIdx.x, x1 = x0 + 1, x2 = x0 + 2, x3 = x0 + 3, x4 = x0 + 4, x5 = x0 + 5, x6 = x0 + 6, x7 = x0 + 7;
#pragma unroll 4
  for (int i = 0; i < n; i++) {
    x0 = fmaf(x0, a, b);
    x1 = fmaf(x1, a, b);
    x2 = fmaf(x2, a, b);
    x3 = fmaf(x3, a, b);
    x4 = fmaf(x4, a, b);
    x5 = fmaf(x5, a, b);
    x6 = fmaf(x6, a, b);
    x7 = fmaf(x7, a, b);
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7;
}

// Gravity: bodies pass through shared memory in tiles of 256.
extern "C" __global__ void nbody(const float4* position, float4* velocity, int n, float dt) {
  __shared__ float4 tile[256];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  float4 me = position[i];
  float ax = 0, ay = 0, az = 0;
  for (int t = 0; t < n; t += 256) {
    tile[threadIdx.x] = position[t + threadIdx.x];
    __syncthreads();
#pragma unroll 8
    for (int j = 0; j < 256; j++) {
      float4 other = tile[j];
      float dx = other.x - me.x, dy = other.y - me.y, dz = other.z - me.z;
      float inverse = rsqrtf(dx * dx + dy * dy + dz * dz + 1e-4f);
      float force = other.w * inverse * inverse * inverse;
      ax += dx * force;
      ay += dy * force;
      az += dz * force;
    }
    __syncthreads();
  }
  velocity[i] = make_float4(ax * dt, ay * dt, az * dt, 0);
}

// Product of square matrices through tiles of 16 x 16 in shared memory.
extern "C" __global__ void matmul(const float* a, const float* b, float* c, int n) {
  __shared__ float as[16][16], bs[16][16];
  int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * 16 + ty, column = blockIdx.x * 16 + tx;
  float sum = 0;
  for (int t = 0; t < n; t += 16) {
    as[ty][tx] = a[row * n + t + tx];
    bs[ty][tx] = b[(t + ty) * n + column];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 16; k++)
      sum += as[ty][k] * bs[k][tx];
    __syncthreads();
  }
  c[row * n + column] = sum;
}

// Lanes with different trip counts and branches that depend on data.
extern "C" __global__ void divergent(unsigned* out, int n) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x, x = i * 2654435761u + 1, c = 0;
  unsigned trips = n + (x >> 25);
  for (unsigned k = 0; k < trips; k++) {
    if (x & 1) {
      x = 3 * x + 1;
      c += x >> 7;
    } else {
      x >>= 1;
      c ^= k;
    }
    if ((x & 7) == 3)
      x += k;
  }
  out[i] = c + x;
}

extern "C" __global__ void empty() {}
