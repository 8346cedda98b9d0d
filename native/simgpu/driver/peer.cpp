// Peers: cards that reach one another's memory, and contexts that are allowed to.
#include "native/simgpu/driver/peer.hpp"

#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

// Modules of one model sit on one baseboard, joined by NVLink (white papers of Volta, Ampere, Hopper,
// Blackwell); no bridge is plugged into simulated PCIe cards.
bool joined_by_nvlink(const Device& a, const Device& b) noexcept {
  return a.model.key == b.model.key && a.model.form.starts_with("SXM");
}

// The vendor's driver gives consumer cards no peer access over PCIe.
bool is_consumer_card(const Device& device) noexcept {
  return device.model.name.find("GeForce") != std::string_view::npos;
}

// 32 and 64 bits, in place or not; what PTX's `atom` and `red` offer for each operation (PTX ISA, "atom").
unsigned native_atomic(CUatomicOperation operation) noexcept {
  constexpr unsigned integers = CU_ATOMIC_CAPABILITY_UNSIGNED | CU_ATOMIC_CAPABILITY_REDUCTION;
  constexpr unsigned both = CU_ATOMIC_CAPABILITY_SCALAR_32 | CU_ATOMIC_CAPABILITY_SCALAR_64;
  switch (operation) {
  case CU_ATOMIC_OPERATION_INTEGER_ADD:
  case CU_ATOMIC_OPERATION_INTEGER_MIN:
  case CU_ATOMIC_OPERATION_INTEGER_MAX:
    return CU_ATOMIC_CAPABILITY_SIGNED | integers | both;
  case CU_ATOMIC_OPERATION_INTEGER_INCREMENT:
  case CU_ATOMIC_OPERATION_INTEGER_DECREMENT:
    return integers | CU_ATOMIC_CAPABILITY_SCALAR_32;
  case CU_ATOMIC_OPERATION_AND:
  case CU_ATOMIC_OPERATION_OR:
  case CU_ATOMIC_OPERATION_XOR:
    return integers | both;
  case CU_ATOMIC_OPERATION_EXCHANGE:
  case CU_ATOMIC_OPERATION_CAS:
    return CU_ATOMIC_CAPABILITY_UNSIGNED | both;
  case CU_ATOMIC_OPERATION_FLOAT_ADD:
    return CU_ATOMIC_CAPABILITY_SIGNED | CU_ATOMIC_CAPABILITY_REDUCTION | both;
  default:
    return 0;
  }
}

CUresult atomic_capabilities(unsigned* capabilities, const CUatomicOperation* operations, unsigned count,
                             bool native) {
  if (capabilities == nullptr || operations == nullptr || count == 0)
    return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count; ++i)
    if (operations[i] < 0 || operations[i] >= CU_ATOMIC_OPERATION_MAX)
      return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < count; ++i)
    capabilities[i] = native ? native_atomic(operations[i]) : 0;
  return CUDA_SUCCESS;
}

// body(const Device&, const Device&), for two devices that differ.
template <class Body>
CUresult with_pair(CUdevice source, CUdevice target, Body body) {
  return with_device(source, [&](Device& device) {
    const Device* other = Driver::instance().device(target);
    return other == nullptr || other == &device ? CUDA_ERROR_INVALID_DEVICE : body(device, *other);
  });
}

CUresult link_attribute(const Device& a, const Device& b, CUdevice_P2PAttribute attribute, int& value) {
  switch (attribute) {
  case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK: // 0 is the fastest
    value = joined_by_nvlink(a, b) ? 0 : 1;
    return CUDA_SUCCESS;
  case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
    value = can_access_peer(a, b) ? 1 : 0;
    return CUDA_SUCCESS;
  case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
    value = joined_by_nvlink(a, b) ? 1 : 0;
    return CUDA_SUCCESS;
  case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
  case CU_DEVICE_P2P_ATTRIBUTE_ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED:
    value = 0;
    return CUDA_SUCCESS;
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
}

// The context behind `peer`; INVALID_CONTEXT where it is none, or the current one.
CUresult peer_context(Driver& driver, const ContextPtr& context, CUcontext peer, ContextPtr& other) {
  other = driver.contexts.find(peer);
  return other && other != context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

} // namespace

namespace aliquot::simgpu::driver {

bool can_access_peer(const Device& device, const Device& peer) noexcept {
  return &device != &peer && device.model.compute_major == peer.model.compute_major &&
         !is_consumer_card(device) && !is_consumer_card(peer);
}

Device* device_of_card(std::uint32_t card) noexcept {
  for (const auto& device : Driver::instance().devices)
    if (device->card == card)
      return device.get();
  return nullptr;
}

} // namespace aliquot::simgpu::driver

extern "C" {

ALIQUOT_EXPORT CUresult cuDeviceCanAccessPeer(int* can, CUdevice dev, CUdevice peer) {
  return with_device(dev, [&](Device& device) {
    const Device* other = Driver::instance().device(peer);
    if (other == nullptr)
      return CUDA_ERROR_INVALID_DEVICE;
    if (can == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *can = can_access_peer(device, *other) ? 1 : 0;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attribute, CUdevice source,
                                                CUdevice target) {
  return with_pair(source, target, [&](const Device& a, const Device& b) {
    return value == nullptr ? CUDA_ERROR_INVALID_VALUE : link_attribute(a, b, attribute, *value);
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGetP2PAtomicCapabilities(unsigned int* capabilities,
                                                         const CUatomicOperation* operations,
                                                         unsigned int count, CUdevice source,
                                                         CUdevice target) {
  return with_pair(source, target, [&](const Device& a, const Device& b) {
    return atomic_capabilities(capabilities, operations, count, joined_by_nvlink(a, b));
  });
}

// Between host and card there is PCIe alone, over which cards of x86 hosts do no atomics of their own.
ALIQUOT_EXPORT CUresult cuDeviceGetHostAtomicCapabilities(unsigned int* capabilities,
                                                          const CUatomicOperation* operations,
                                                          unsigned int count, CUdevice dev) {
  return with_device(dev,
                     [&](Device&) { return atomic_capabilities(capabilities, operations, count, false); });
}

ALIQUOT_EXPORT CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    ContextPtr other;
    if (flags != 0)
      return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult found = peer_context(driver, context, peer, other); found != CUDA_SUCCESS)
      return found;
    if (!can_access_peer(context->device(), other->device()))
      return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    return context->memory().allow_peer(other->device().card) ? CUDA_SUCCESS
                                                              : CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
  });
}

ALIQUOT_EXPORT CUresult cuCtxDisablePeerAccess(CUcontext peer) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    const ContextPtr other = driver.contexts.find(peer);
    if (!other)
      return CUDA_ERROR_INVALID_CONTEXT;
    if (other->device().card == context->device().card)
      return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
    return context->memory().forbid_peer(other->device().card) ? CUDA_SUCCESS
                                                               : CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
  });
}

} // extern "C"
