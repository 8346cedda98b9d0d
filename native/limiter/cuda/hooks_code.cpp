// Hooks of calls that make the driver take device memory for itself: code that is loaded, limits of contexts,
// streams. What they take is measured (overhead.hpp).
#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"
#include "native/limiter/cuda/observers.hpp"

namespace aliquot::limiter {
namespace {

// For calls that load lazily what was there before, and have nothing to take back.
CUresult may_have_taken(CUresult answer) noexcept {
  Limiter* here = limiter();
  if (answer == CUDA_SUCCESS && here != nullptr)
    here->overhead.may_have_grown_anywhere();
  return answer;
}

// Where the calling thread is. The driver itself says what is wrong where it is nowhere.
template <typename Call, typename Undo>
CUresult taking_here(Call call, Undo undo) noexcept {
  Limiter* here = InsideDriver::here() ? nullptr : limiter();
  Place place;
  if (here == nullptr || !here->current_place(place) || place.device == kNoDevice)
    return may_have_taken(call());
  return here->overhead.taking(place.device, [&] { return in_driver(call); }, [&] { in_driver(undo); });
}

// For calls that load a library's variables into the context, where that is put off until they are asked for.
// A part of a library cannot be unloaded: what went over the limit stays, charged, and is not handed out.
template <typename Call>
CUresult loading_variables(Call call) noexcept {
  Limiter* here = InsideDriver::here() ? nullptr : limiter();
  Place place;
  if (here == nullptr || !here->current_place(place) || place.device == kNoDevice)
    return may_have_taken(call());
  return here->overhead.taking(place.device, [&] { return in_driver(call); }, [] {}, 0);
}

CUresult may_have_given(CUresult answer) noexcept {
  Limiter* here = limiter();
  if (answer == CUDA_SUCCESS && here != nullptr)
    here->overhead.may_have_shrunk_anywhere();
  return answer;
}

template <typename Call>
CUresult load_module(CUmodule* module, Call call) noexcept {
  return taking_here(call, [&] {
    driver().cuModuleUnload(*module);
    *module = nullptr;
  });
}

template <typename Call>
CUresult load_library(CUlibrary* library, Call call) noexcept {
  return taking_here(call, [&] {
    driver().cuLibraryUnload(*library);
    *library = nullptr;
  });
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT CUresult cuModuleLoad(CUmodule* module, const char* path) {
  return load_module(module, [&] { return driver().cuModuleLoad(module, path); });
}

ALIQUOT_EXPORT CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return load_module(module, [&] { return driver().cuModuleLoadData(module, image); });
}

ALIQUOT_EXPORT CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int count,
                                           CUjit_option* options, void** values) {
  return load_module(module,
                     [&] { return driver().cuModuleLoadDataEx(module, image, count, options, values); });
}

ALIQUOT_EXPORT CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
  return load_module(module, [&] { return driver().cuModuleLoadFatBinary(module, image); });
}

ALIQUOT_EXPORT CUresult cuModuleUnload(CUmodule module) {
  return may_have_given(forward<cuModuleUnload_entry>(driver().cuModuleUnload)(module));
}

ALIQUOT_EXPORT CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  return may_have_taken(driver().cuModuleGetFunction(function, module, name));
}

ALIQUOT_EXPORT CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option* jit_options,
                                          void** jit_values, unsigned int jit_count, CUlibraryOption* options,
                                          void** values, unsigned int count) {
  return load_library(library, [&] {
    return driver().cuLibraryLoadData(library, code, jit_options, jit_values, jit_count, options, values,
                                      count);
  });
}

ALIQUOT_EXPORT CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* path, CUjit_option* jit_options,
                                              void** jit_values, unsigned int jit_count,
                                              CUlibraryOption* options, void** values, unsigned int count) {
  return load_library(library, [&] {
    return driver().cuLibraryLoadFromFile(library, path, jit_options, jit_values, jit_count, options, values,
                                          count);
  });
}

ALIQUOT_EXPORT CUresult cuLibraryUnload(CUlibrary library) {
  return may_have_given(forward<cuLibraryUnload_entry>(driver().cuLibraryUnload)(library));
}

ALIQUOT_EXPORT CUresult cuLibraryGetModule(CUmodule* module, CUlibrary library) {
  return loading_variables([&] { return driver().cuLibraryGetModule(module, library); });
}

ALIQUOT_EXPORT CUresult cuLibraryGetGlobal(CUdeviceptr* address, size_t* bytes, CUlibrary library,
                                           const char* name) {
  return loading_variables([&] { return driver().cuLibraryGetGlobal(address, bytes, library, name); });
}

ALIQUOT_EXPORT CUresult cuLibraryGetManaged(CUdeviceptr* address, size_t* bytes, CUlibrary library,
                                            const char* name) {
  return loading_variables([&] { return driver().cuLibraryGetManaged(address, bytes, library, name); });
}

ALIQUOT_EXPORT CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  return may_have_taken(driver().cuKernelGetFunction(function, kernel));
}

ALIQUOT_EXPORT CUresult cuFuncLoad(CUfunction function) {
  return may_have_taken(driver().cuFuncLoad(function));
}

// Undone by setting what was there before.
ALIQUOT_EXPORT CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  size_t before = 0;
  if (driver().cuCtxGetLimit(&before, limit) != CUDA_SUCCESS)
    return driver().cuCtxSetLimit(limit, value);
  const CUresult answer = taking_here([&] { return driver().cuCtxSetLimit(limit, value); },
                                      [&] { driver().cuCtxSetLimit(limit, before); });
  return value < before ? may_have_given(answer) : answer;
}

ALIQUOT_EXPORT CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
  return may_have_taken(driver().cuStreamCreate(stream, flags));
}

ALIQUOT_EXPORT CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) {
  return may_have_taken(driver().cuStreamCreateWithPriority(stream, flags, priority));
}
}
