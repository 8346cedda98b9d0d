// The linker: PTX texts that become one image. What it hands out holds PTX, which is all that a simulated
// card runs.
#include <cstdint>
#include <string>
#include <vector>

#include "native/simgpu/driver/core/code.hpp"
#include "native/simgpu/driver/device_runtime.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/image_file.hpp"
#include "native/simgpu/image/image.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace aliquot::simgpu::driver {

class Linker {
 public:
  std::mutex mutex; // guards the rest
  std::uint32_t capability = 0;
  JitLog log;
  std::vector<std::string> texts;
  std::vector<std::uint8_t> image; // owned by the linker until it is destroyed, as the interface says
};

} // namespace aliquot::simgpu::driver

namespace {

using LinkerPtr = std::shared_ptr<Linker>;

CUresult create(unsigned option_count, CUjit_option* options, void** values, CUlinkState* out) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    const auto linker = std::make_shared<Linker>();
    if (out == nullptr || !linker->log.read(option_count, options, values))
      return CUDA_ERROR_INVALID_VALUE;
    linker->capability = context->device().capability();
    *out = static_cast<CUlinkState>(driver.linkers.insert(linker));
    return CUDA_SUCCESS;
  });
}

template <class Body>
CUresult with_linker(CUlinkState state, Body body) {
  return with_driver([&](Driver& driver) {
    const LinkerPtr linker = driver.linkers.find(state);
    if (!linker)
      return CUDA_ERROR_INVALID_HANDLE;
    const std::lock_guard guard(linker->mutex);
    return body(*linker);
  });
}

bool can_hold_ptx(CUjitInputType type) noexcept {
  return type == CU_JIT_INPUT_PTX || type == CU_JIT_INPUT_FATBINARY || type == CU_JIT_INPUT_CUBIN ||
         type == CU_JIT_INPUT_OBJECT || type == CU_JIT_INPUT_LIBRARY;
}

CUresult add(Linker& linker, CUjitInputType type, const void* data, std::size_t bytes,
             const std::string& name) {
  if (!can_hold_ptx(type))
    return CUDA_ERROR_INVALID_VALUE;
  if (!linker.image.empty())
    return CUDA_ERROR_INVALID_VALUE; // complete already
  if (type == CU_JIT_INPUT_LIBRARY && is_device_runtime(data, bytes)) {
    linker.texts.push_back(device_runtime_ptx());
    return CUDA_SUCCESS;
  }
  image::Contents contents;
  const image::Status status = image::read(data, bytes, linker.capability, contents);
  if (status == image::Status::NoPtx) {
    linker.log.error(name + ": " + contents.message + "; only PTX can be linked for a simulated GPU");
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  if (status != image::Status::Ok) {
    linker.log.error(name + ": " + contents.message);
    return type == CU_JIT_INPUT_PTX ? CUDA_ERROR_INVALID_PTX : CUDA_ERROR_INVALID_IMAGE;
  }
  for (image::PtxText& each : contents.ptx) {
    ptx::Module module;
    ptx::ParseError problem;
    if (!ptx::parse(each.text, module, problem)) {
      linker.log.error(name + ":" + std::to_string(problem.position.line) + ": " + problem.message);
      return CUDA_ERROR_INVALID_PTX;
    }
    linker.texts.push_back(std::move(each.text));
  }
  return CUDA_SUCCESS;
}

CUresult add_data(CUlinkState state, CUjitInputType type, const void* data, std::size_t bytes,
                  const char* name, unsigned option_count, const CUjit_option* options) {
  return with_linker(state, [&](Linker& linker) {
    if (data == nullptr || bytes == 0 || (option_count != 0 && options == nullptr))
      return CUDA_ERROR_INVALID_VALUE;
    return add(linker, type, data, bytes, name != nullptr ? name : "<unnamed>");
  });
}

CUresult add_file(CUlinkState state, CUjitInputType type, const char* path, unsigned option_count,
                  const CUjit_option* options) {
  return with_linker(state, [&](Linker& linker) {
    if (path == nullptr || (option_count != 0 && options == nullptr))
      return CUDA_ERROR_INVALID_VALUE;
    std::vector<char> bytes;
    if (!read_image_file(path, bytes))
      return CUDA_ERROR_FILE_NOT_FOUND;
    return add(linker, type, bytes.data(), bytes.size(), path);
  });
}

// Whether the texts fit together is found out now, as a linker does, and not when the result is loaded.
CUresult complete(Linker& linker) {
  if (linker.texts.empty())
    return CUDA_ERROR_INVALID_VALUE;
  linker.image = image::pack_linked(linker.texts, linker.capability, linker.log.max_registers());
  CUresult error = CUDA_SUCCESS;
  if (!Code::read(linker.image.data(), linker.image.size(), linker.capability, linker.log, error))
    linker.image.clear();
  return error;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuLinkCreate(unsigned int count, CUjit_option* options, void** values,
                                     CUlinkState* state) {
  return create(count, options, values, state);
}
ALIQUOT_EXPORT CUresult cuLinkCreate_v2(unsigned int count, CUjit_option* options, void** values,
                                        CUlinkState* state) {
  return create(count, options, values, state);
}

ALIQUOT_EXPORT CUresult cuLinkAddData(CUlinkState state, CUjitInputType type, void* data, size_t bytes,
                                      const char* name, unsigned int count, CUjit_option* options, void**) {
  return add_data(state, type, data, bytes, name, count, options);
}
ALIQUOT_EXPORT CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void* data, size_t bytes,
                                         const char* name, unsigned int count, CUjit_option* options,
                                         void**) {
  return add_data(state, type, data, bytes, name, count, options);
}

ALIQUOT_EXPORT CUresult cuLinkAddFile(CUlinkState state, CUjitInputType type, const char* path,
                                      unsigned int count, CUjit_option* options, void**) {
  return add_file(state, type, path, count, options);
}
ALIQUOT_EXPORT CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char* path,
                                         unsigned int count, CUjit_option* options, void**) {
  return add_file(state, type, path, count, options);
}

ALIQUOT_EXPORT CUresult cuLinkComplete(CUlinkState state, void** image, size_t* bytes) {
  return with_linker(state, [&](Linker& linker) {
    if (image == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    if (linker.image.empty())
      if (const CUresult completed = complete(linker); completed != CUDA_SUCCESS)
        return completed;
    *image = linker.image.data();
    if (bytes != nullptr)
      *bytes = linker.image.size();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuLinkDestroy(CUlinkState state) {
  return with_driver(
      [&](Driver& driver) { return driver.linkers.erase(state) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; });
}

} // extern "C"
