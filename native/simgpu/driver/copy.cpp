// Copies of linear memory: one dimension, blocking and asynchronous, between host, device and peers.
#include "native/simgpu/driver/core/executor.hpp"
#include "native/simgpu/driver/core/marker_command.hpp"
#include "native/simgpu/driver/endpoint.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/graph/capture.hpp"

using namespace aliquot::simgpu::driver;

namespace {

struct Side {
  std::uint64_t address;
  Role role;
};

CUmemorytype type_of(Role role) noexcept {
  return role == Role::Device ? CU_MEMORYTYPE_DEVICE
         : role == Role::Host ? CU_MEMORYTYPE_HOST
                              : CU_MEMORYTYPE_UNIFIED;
}

CUresult capture_copy(Stream& stream, Side to, Side from, std::size_t bytes) {
  // Both memory types are set below. NOLINTNEXTLINE(bugprone-invalid-enum-default-initialization)
  CUDA_MEMCPY3D what{};
  what.srcMemoryType = type_of(from.role);
  what.dstMemoryType = type_of(to.role);
  if (from.role == Role::Host)
    what.srcHost = reinterpret_cast<const void*>(from.address);
  else
    what.srcDevice = from.address;
  if (to.role == Role::Host)
    what.dstHost = reinterpret_cast<void*>(to.address);
  else
    what.dstDevice = to.address;
  what.WidthInBytes = bytes;
  what.Height = what.Depth = 1;
  return capture_box(stream, what);
}

// Contexts on cards, other than the stream's, that one of the addresses is memory of.
std::vector<ContextPtr> contexts_of_peers(Driver& driver, const Stream& stream, Side to, Side from) {
  std::vector<ContextPtr> found;
  const std::uint32_t own = stream.context().device().card;
  for (const Side& side : {to, from}) {
    const auto known = driver.allocations.find(side.address);
    if (!known || !on_device(known->kind) || known->card == own || known->card == kNoCard)
      continue;
    const auto there = [&](Context& each) { return each.device().card == known->card; };
    for (void* handle : driver.contexts.handles_where(there))
      if (const ContextPtr context = driver.contexts.find(handle))
        found.push_back(context);
  }
  return found;
}

// In the default stream a copy between two devices waits for what either was given before, and holds back
// what they are given after (programming guide, "Peer-to-Peer Memory Copy").
void wait_for_peers(const StreamPtr& stream, const std::vector<ContextPtr>& peers) {
  auto command = std::make_unique<WaitCommand>();
  for (const ContextPtr& peer : peers)
    for (const StreamPtr& each : peer->streams())
      if (!each->idle())
        command->waits_for.push_back({each, each->submitted()});
  if (!command->waits_for.empty())
    Executor::instance().submit(stream, std::move(command));
}

void hold_peers_back(const StreamPtr& stream, const std::vector<ContextPtr>& peers) {
  for (const ContextPtr& peer : peers) {
    const StreamPtr hub = peer->make_stream(Stream::Kind::Created, CU_STREAM_NON_BLOCKING, 0);
    hub->destroyed = true;
    auto command = std::make_unique<WaitCommand>();
    command->waits_for.push_back({stream, stream->submitted()});
    Executor::instance().submit(hub, std::move(command));
    peer->wait_for({hub, hub->submitted()});
  }
}

// A copy that blocks cannot be captured: it is to be over when the call returns.
CUresult copy(Side to, Side from, std::size_t bytes, CUstream handle, bool blocking) {
  const auto run = [&](Driver& driver, const StreamPtr& stream) {
    if (bytes == 0)
      return CUDA_SUCCESS;
    if (stream->capturing)
      return capture_copy(*stream, to, from, bytes);
    Endpoint target, source;
    if (resolve_endpoint(driver, to.address, bytes, to.role, target, true) != CUDA_SUCCESS)
      return CUDA_ERROR_INVALID_VALUE;
    if (resolve_endpoint(driver, from.address, bytes, from.role, source) != CUDA_SUCCESS)
      return CUDA_ERROR_INVALID_VALUE;
    const Pitched to_layout{target.at, bytes, bytes}, from_layout{source.at, bytes, bytes};
    std::vector<ContextPtr> peers;
    if (stream->kind() == Stream::Kind::Legacy && target.device && source.device)
      peers = contexts_of_peers(driver, *stream, to, from);
    wait_for_peers(stream, peers);
    const CUresult submitted =
        submit_copy(stream, target, source, to_layout, from_layout, {bytes, 1, 1}, blocking);
    hold_peers_back(stream, peers);
    return submitted;
  };
  return blocking ? with_stream(handle, run) : with_capturable_stream(handle, run);
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
