// Copies of linear memory: one dimension, blocking and asynchronous, between host, device and peers.
#include "native/simgpu/driver/endpoint.hpp"
#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

struct Side {
  std::uint64_t address;
  Role role;
};

CUresult copy(Side to, Side from, std::size_t bytes, CUstream handle, bool blocking) {
  return with_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    if (bytes == 0)
      return CUDA_SUCCESS;
    Endpoint target, source;
    if (resolve_endpoint(driver, to.address, bytes, to.role, target) != CUDA_SUCCESS)
      return CUDA_ERROR_INVALID_VALUE;
    if (resolve_endpoint(driver, from.address, bytes, from.role, source) != CUDA_SUCCESS)
      return CUDA_ERROR_INVALID_VALUE;
    const Pitched to_layout{target.at, bytes, bytes}, from_layout{source.at, bytes, bytes};
    return submit_copy(stream, target, source, to_layout, from_layout, {bytes, 1, 1}, blocking);
  });
}

Side device(CUdeviceptr address) noexcept {
  return {address, Role::Device};
}
Side host(const void* pointer) noexcept {
  return {reinterpret_cast<std::uint64_t>(pointer), Role::Host};
}
Side unified(CUdeviceptr address) noexcept {
  return {address, Role::Unified};
}

bool contexts_are_live(CUcontext first, CUcontext second) {
  const Driver& driver = Driver::instance();
  return driver.contexts.live(first) && driver.contexts.live(second);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy(unified(to), unified(from), bytes, nullptr, true);
}

ALIQUOT_EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy(unified(to), unified(from), bytes, stream, false);
}

ALIQUOT_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return copy(device(to), host(from), bytes, nullptr, true);
}

ALIQUOT_EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes,
                                             CUstream stream) {
  return copy(device(to), host(from), bytes, stream, false);
}

ALIQUOT_EXPORT CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return copy(host(to), device(from), bytes, nullptr, true);
}

ALIQUOT_EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy(host(to), device(from), bytes, stream, false);
}

ALIQUOT_EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy(device(to), device(from), bytes, nullptr, true);
}

ALIQUOT_EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                                             CUstream stream) {
  return copy(device(to), device(from), bytes, stream, false);
}

ALIQUOT_EXPORT CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                     CUcontext from_context, size_t bytes) {
  return with_driver([&](Driver&) {
    if (!contexts_are_live(to_context, from_context))
      return CUDA_ERROR_INVALID_CONTEXT;
    return copy(device(to), device(from), bytes, nullptr, true);
  });
}

ALIQUOT_EXPORT CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                          CUcontext from_context, size_t bytes, CUstream stream) {
  return with_driver([&](Driver&) {
    if (!contexts_are_live(to_context, from_context))
      return CUDA_ERROR_INVALID_CONTEXT;
    return copy(device(to), device(from), bytes, stream, false);
  });
}

} // extern "C"
