// Modules: images loaded into a context, their functions and variables.
#include <cstdint>
#include <fstream>
#include <iterator>

#include "native/simgpu/driver/core/code.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/image_file.hpp"
#include "native/simgpu/driver/module_global.hpp"

using namespace aliquot::simgpu::driver;

namespace {

CUresult load(CUmodule* out, const void* image, std::size_t known_bytes, unsigned option_count,
              const CUjit_option* options, void** values) {
  return with_context([&](Driver&, const ContextPtr& context) {
    JitLog log;
    if (out == nullptr || image == nullptr || !log.read(option_count, options, values))
      return CUDA_ERROR_INVALID_VALUE;
    CUresult error = CUDA_SUCCESS;
    const auto code = Code::read(image, known_bytes, context->device().capability(), log, error);
    if (!code)
      return error;
    const auto module = LoadedModule::load(context, code, log, error);
    if (module)
      *out = static_cast<CUmodule>(module->handle);
    return error;
  });
}

template <class Body>
CUresult with_module(CUmodule handle, Body body) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    const auto module = driver.modules.find(handle);
    return module ? body(module) : CUDA_ERROR_INVALID_HANDLE;
  });
}

} // namespace

namespace aliquot::simgpu::driver {

bool read_image_file(const char* path, std::vector<char>& bytes) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return false;
  bytes.assign(std::istreambuf_iterator<char>(file), {});
  bytes.push_back('\0'); // PTX text ends in NUL wherever it is read as such
  return !file.bad();
}

} // namespace aliquot::simgpu::driver

extern "C" {

ALIQUOT_EXPORT CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return load(module, image, SIZE_MAX, 0, nullptr, nullptr);
}

ALIQUOT_EXPORT CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int option_count,
                                           CUjit_option* options, void** values) {
  return load(module, image, SIZE_MAX, option_count, options, values);
}

ALIQUOT_EXPORT CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
  return load(module, image, SIZE_MAX, 0, nullptr, nullptr);
}

ALIQUOT_EXPORT CUresult cuModuleLoad(CUmodule* module, const char* path) {
  return with_driver([&](Driver&) {
    if (module == nullptr || path == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    std::vector<char> bytes;
    if (!read_image_file(path, bytes))
      return CUDA_ERROR_FILE_NOT_FOUND;
    return load(module, bytes.data(), bytes.size(), 0, nullptr, nullptr);
  });
}

ALIQUOT_EXPORT CUresult cuModuleUnload(CUmodule handle) {
  return with_module(handle, [&](const std::shared_ptr<LoadedModule>& module) {
    if (module->of_library)
      return CUDA_ERROR_NOT_PERMITTED;
    // The work that is under way may run its code.
    for (const StreamPtr& stream : module->context->streams())
      Executor::instance().wait_idle(stream);
    module->context->forget_module(module.get());
    module->unload();
    return CUDA_SUCCESS;
  });
}

// Needs a context no more than a real driver does: it tells how modules would be loaded.
ALIQUOT_EXPORT CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
  return with_driver([&](Driver&) {
    if (mode == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *mode = CU_MODULE_LAZY_LOADING;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuModuleGetFunction(CUfunction* out, CUmodule handle, const char* name) {
  return with_module(handle, [&](const std::shared_ptr<LoadedModule>& module) {
    if (out == nullptr || name == nullptr || *name == '\0')
      return CUDA_ERROR_INVALID_VALUE;
    const auto function = module->function(name);
    if (!function)
      return CUDA_ERROR_NOT_FOUND;
    *out = static_cast<CUfunction>(function->handle);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuModuleGetFunctionCount(unsigned int* count, CUmodule handle) {
  return with_module(handle, [&](const std::shared_ptr<LoadedModule>& module) {
    if (count == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<unsigned>(module->code->entry_names().size());
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuModuleEnumerateFunctions(CUfunction* out, unsigned int count, CUmodule handle) {
  return with_module(handle, [&](const std::shared_ptr<LoadedModule>& module) {
    if (out == nullptr || count == 0)
      return CUDA_ERROR_INVALID_VALUE;
    const auto functions = module->functions();
    for (unsigned i = 0; i < count && i < functions.size(); ++i)
      out[i] = static_cast<CUfunction>(functions[i]->handle);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr* address, size_t* bytes, CUmodule handle,
                                             const char* name) {
  return with_module(handle, [&](const std::shared_ptr<LoadedModule>& module) {
    return find_global(*module, name, address, bytes);
  });
}

} // extern "C"
