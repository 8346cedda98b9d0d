// What every test program of the CUDA runtime API shares: checks that say where they failed, a buffer that
// frees itself, and a table of named features. A program runs the features named on its command line, or all
// of them, and prints "ok NAME" for each that holds; the first that does not ends it with status 1.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>
#include <vector>

[[noreturn]] inline void fail(const char* file, int line, const char* what, const char* why) {
  std::printf("FAILED %s:%d: %s: %s\n", file, line, what, why);
  std::fflush(stdout);
  std::_Exit(1);
}

#define EXPECT(condition)                                                                                    \
  do {                                                                                                       \
    if (!(condition))                                                                                        \
      fail(__FILE__, __LINE__, #condition, "is not true");                                                   \
  } while (0)

#define OK(call)                                                                                             \
  do {                                                                                                       \
    const cudaError_t status = (call);                                                                       \
    if (status != cudaSuccess)                                                                               \
      fail(__FILE__, __LINE__, #call, cudaGetErrorString(status));                                           \
  } while (0)

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) { OK(cudaMalloc(&data_, count * sizeof(T))); }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    OK(cudaMemcpy(data_, host.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() const { return data_; }
  std::vector<T> read() const {
    std::vector<T> host(count_);
    OK(cudaMemcpy(host.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

struct Feature {
  const char* name;
  void (*run)();
};

inline int run_features(const Feature* features, size_t count, int argc, char** argv) {
  int run = 0;
  for (size_t i = 0; i < count; ++i) {
    bool wanted = argc < 2;
    for (int a = 1; a < argc; ++a)
      wanted = wanted || std::strcmp(argv[a], features[i].name) == 0;
    if (!wanted)
      continue;
    features[i].run();
    std::printf("ok %s\n", features[i].name);
    std::fflush(stdout);
    ++run;
  }
  return run == (argc < 2 ? static_cast<int>(count) : argc - 1) ? 0 : 2;
}
