// The driver as a program finds it: by its name, then symbol by symbol. For the benchmark's programs only:
// whatever goes wrong ends the program, with a line on stderr.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <dlfcn.h>

#include "aliquot/cuda_abi.h"

namespace aliquot::limiter::bench {

[[noreturn]] inline void give_up(const char* what, int code) noexcept {
  std::fprintf(stderr, "%s: %d\n", what, code);
  std::_Exit(3);
}

inline void check(CUresult result, const char* what) noexcept {
  if (result != CUDA_SUCCESS)
    give_up(what, result);
}

template <typename Function>
void find(void* library, const char* name, Function& function) noexcept {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr)
    give_up(name, 0);
}

inline std::int64_t clock_ns(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// The library, with a primary context of the first device current in the calling thread.
inline void* open_driver() noexcept {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    give_up("there is no libcuda.so.1", 0);
  decltype(&::cuInit) init;
  decltype(&::cuDevicePrimaryCtxRetain) retain;
  decltype(&::cuCtxSetCurrent) set_current;
  find(library, "cuInit", init);
  find(library, "cuDevicePrimaryCtxRetain", retain);
  find(library, "cuCtxSetCurrent", set_current);
  CUcontext context = nullptr;
  check(init(0), "cuInit");
  check(retain(&context, 0), "cuDevicePrimaryCtxRetain");
  check(set_current(context), "cuCtxSetCurrent");
  return library;
}

} // namespace aliquot::limiter::bench
