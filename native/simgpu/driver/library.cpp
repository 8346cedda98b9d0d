// Libraries: images that belong to no context, loaded into each one when they are first used there.
#include <cstdint>

#include "native/simgpu/driver/core/code.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/image_file.hpp"
#include "native/simgpu/driver/module_global.hpp"

using namespace aliquot::simgpu::driver;

namespace {

using LibraryPtr = std::shared_ptr<Library>;
using KernelPtr = std::shared_ptr<Kernel>;

// Which PTX is chosen depends on a card, and a library has none yet: the current context's, else the first.
std::uint32_t capability_for_library(Driver& driver) {
  ContextPtr context;
  if (current_context_even_if_failed(context) == CUDA_SUCCESS)
    return context->device().capability();
  return driver.devices.front()->capability();
}

CUresult load(CUlibrary* out, const void* image, std::size_t known_bytes, const CUjit_option* options,
              void** values, unsigned option_count) {
  return with_driver([&](Driver& driver) {
    JitLog log;
    if (out == nullptr || image == nullptr || !log.read(option_count, options, values))
      return CUDA_ERROR_INVALID_VALUE;
    CUresult error = CUDA_SUCCESS;
    const auto code = Code::read_lazily(image, known_bytes, capability_for_library(driver), log, error);
    if (!code)
      return error;
    const auto library = std::make_shared<Library>(code);
    library->handle = driver.libraries.insert(library);
    *out = static_cast<CUlibrary>(library->handle);
    return CUDA_SUCCESS;
  });
}

template <class Body>
CUresult with_library(CUlibrary handle, Body body) {
  return with_driver([&](Driver& driver) {
    const LibraryPtr library = driver.libraries.find(handle);
    return library ? body(library) : CUDA_ERROR_INVALID_HANDLE;
  });
}

template <class Body>
CUresult with_kernel(CUkernel handle, Body body) {
  return with_driver([&](Driver& driver) {
    const KernelPtr kernel = driver.kernels.find(handle);
    return kernel ? body(kernel) : CUDA_ERROR_INVALID_HANDLE;
  });
}

// The library in the current context.
template <class Body>
CUresult with_library_in_context(CUlibrary handle, Body body) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    const LibraryPtr library = driver.libraries.find(handle);
    if (!library)
      return CUDA_ERROR_INVALID_HANDLE;
    CUresult error = CUDA_SUCCESS;
    const auto module = library->in(context, error);
    return module ? body(module) : error;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option* options,
                                          void** values, unsigned int option_count,
                                          CUlibraryOption* library_options, void**,
                                          unsigned int library_option_count) {
  // What they say (who keeps the image alive, whether symbols are host-unified) changes nothing here: the
  // image is read at once.
  if (library_option_count != 0 && library_options == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  return load(library, code, SIZE_MAX, options, values, option_count);
}

ALIQUOT_EXPORT CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* path, CUjit_option* options,
                                              void** values, unsigned int option_count,
                                              CUlibraryOption* library_options, void**,
                                              unsigned int library_option_count) {
  return with_driver([&](Driver&) {
    if (library == nullptr || path == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    if (library_option_count != 0 && library_options == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    std::vector<char> bytes;
    if (!read_image_file(path, bytes))
      return CUDA_ERROR_FILE_NOT_FOUND;
    return load(library, bytes.data(), bytes.size(), options, values, option_count);
  });
}

ALIQUOT_EXPORT CUresult cuLibraryUnload(CUlibrary handle) {
  return with_driver([&](Driver& driver) {
    const LibraryPtr library = driver.libraries.erase(handle);
    if (!library)
      return CUDA_ERROR_INVALID_HANDLE;
    library->unload();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuLibraryGetKernel(CUkernel* out, CUlibrary handle, const char* name) {
  return with_library(handle, [&](const LibraryPtr& library) {
    if (out == nullptr || name == nullptr || *name == '\0')
      return CUDA_ERROR_INVALID_VALUE;
    const KernelPtr kernel = library->kernel(name);
    if (!kernel)
      return CUDA_ERROR_NOT_FOUND;
    *out = static_cast<CUkernel>(kernel->handle);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuLibraryGetKernelCount(unsigned int* count, CUlibrary handle) {
  return with_library(handle, [&](const LibraryPtr& library) {
    if (count == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<unsigned>(library->code->entry_names().size());
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuLibraryEnumerateKernels(CUkernel* out, unsigned int count, CUlibrary handle) {
  return with_library(handle, [&](const LibraryPtr& library) {
    if (out == nullptr || count == 0)
      return CUDA_ERROR_INVALID_VALUE;
    const auto& names = library->code->entry_names();
    for (unsigned i = 0; i < count && i < names.size(); ++i)
      out[i] = static_cast<CUkernel>(library->kernel(names[i])->handle);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuLibraryGetModule(CUmodule* out, CUlibrary handle) {
  return with_library_in_context(handle, [&](const std::shared_ptr<LoadedModule>& module) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *out = static_cast<CUmodule>(module->handle);
    return CUDA_SUCCESS;
  });
}

// Unified function pointers are no feature of these cards (CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS is
// 0).
ALIQUOT_EXPORT CUresult cuLibraryGetUnifiedFunction(void** function, CUlibrary handle, const char* name) {
  return with_driver([&](Driver& driver) {
    if (!driver.libraries.live(handle))
      return CUDA_ERROR_INVALID_HANDLE;
    return function == nullptr || name == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_FOUND;
  });
}

ALIQUOT_EXPORT CUresult cuLibraryGetGlobal(CUdeviceptr* address, size_t* bytes, CUlibrary handle,
                                           const char* name) {
  return with_library_in_context(handle, [&](const std::shared_ptr<LoadedModule>& module) {
    return find_global(*module, name, address, bytes);
  });
}

// PTX that we can load declares no managed variables: the compilers mark them with an attribute that is
// refused.
ALIQUOT_EXPORT CUresult cuLibraryGetManaged(CUdeviceptr* address, size_t* bytes, CUlibrary handle,
                                            const char* name) {
  return with_library(handle, [&](const LibraryPtr&) {
    if (name == nullptr || (address == nullptr && bytes == nullptr))
      return CUDA_ERROR_INVALID_VALUE;
    return CUDA_ERROR_NOT_FOUND;
  });
}

ALIQUOT_EXPORT CUresult cuKernelGetFunction(CUfunction* out, CUkernel handle) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    const KernelPtr kernel = driver.kernels.find(handle);
    if (!kernel)
      return CUDA_ERROR_INVALID_HANDLE;
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    CUresult error = CUDA_SUCCESS;
    const auto function = kernel->in(context, error);
    if (function)
      *out = static_cast<CUfunction>(function->handle);
    return error;
  });
}

ALIQUOT_EXPORT CUresult cuKernelGetLibrary(CUlibrary* out, CUkernel handle) {
  return with_kernel(handle, [&](const KernelPtr& kernel) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const LibraryPtr library = kernel->library.lock();
    if (!library)
      return CUDA_ERROR_INVALID_HANDLE;
    *out = static_cast<CUlibrary>(library->handle);
    return CUDA_SUCCESS;
  });
}

} // extern "C"
