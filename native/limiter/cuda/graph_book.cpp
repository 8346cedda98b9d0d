#include "native/limiter/cuda/graph_book.hpp"

#include <algorithm>
#include <new>
#include <vector>

#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"
#include "native/limiter/cuda/physical_size.hpp"

namespace aliquot::limiter {
namespace {

constexpr unsigned kDeepest = 64; // of child graphs in child graphs

std::vector<CUgraphNode> nodes_of(CUgraph graph) {
  std::size_t count = 0;
  if (driver().cuGraphGetNodes(graph, nullptr, &count) != CUDA_SUCCESS)
    return {};
  std::vector<CUgraphNode> nodes(count);
  if (driver().cuGraphGetNodes(graph, nodes.data(), &count) != CUDA_SUCCESS)
    return {};
  nodes.resize(std::min(count, nodes.size()));
  return nodes;
}

// The sum over all nodes that allocate: the most that can be needed at one time.
void add_wanted(const Limiter& limiter, CUgraph graph, unsigned depth, BytesByDevice& wanted) {
  for (CUgraphNode node : nodes_of(graph)) {
    CUgraphNodeType type{};
    if (driver().cuGraphNodeGetType(node, &type) != CUDA_SUCCESS)
      continue;
    if (type == CU_GRAPH_NODE_TYPE_GRAPH && depth < kDeepest) {
      CUgraph child = nullptr;
      if (driver().cuGraphChildGraphNodeGetGraph(node, &child) == CUDA_SUCCESS)
        add_wanted(limiter, child, depth + 1, wanted);
    }
    CUDA_MEM_ALLOC_NODE_PARAMS parameters{};
    if (type != CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
        driver().cuGraphMemAllocNodeGetParams(node, &parameters) != CUDA_SUCCESS) {
      continue;
    }
    const unsigned device = limiter.device_of(parameters.poolProps.location.id);
    if (device != kNoDevice)
      wanted[device] =
          std::min(kMaxBytes, wanted[device] + std::min(kMaxBytes, whole_blocks(parameters.bytesize)));
  }
}

bool read_attribute(CUdevice ordinal, CUgraphMem_attribute attribute, std::uint64_t& bytes) noexcept {
  const InsideDriver inside;
  return driver().cuDeviceGetGraphMemAttribute(ordinal, attribute, &bytes) == CUDA_SUCCESS;
}

} // namespace

bool GraphBook::learn(CUgraphExec exec, CUgraph graph) noexcept {
  if (!expects_memory_.load(std::memory_order_relaxed))
    return true;
  try {
    BytesByDevice wanted{};
    add_wanted(limiter_, graph, 0, wanted);
    const std::lock_guard guard(mutex_);
    if (wanted == BytesByDevice{})
      wanted_.erase(exec);
    else
      wanted_[exec] = wanted;
    any_.store(!wanted_.empty(), std::memory_order_relaxed);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void GraphBook::forget(CUgraphExec exec) noexcept {
  if (!any_.load(std::memory_order_relaxed))
    return;
  const std::lock_guard guard(mutex_);
  wanted_.erase(exec);
}

std::pair<std::unique_lock<std::recursive_mutex>, std::unique_lock<std::recursive_mutex>>
GraphBook::hold_all() noexcept {
  auto pools = limiter_.pools.hold();
  return {std::move(pools), hold()};
}

// What the graph may want beyond what is reserved for graphs already, and unused.
CUresult GraphBook::reserve(const BytesByDevice& wanted, BytesByDevice& reserved) noexcept {
  for (unsigned device = 0; device < wanted.size(); ++device) {
    if (wanted[device] == 0)
      continue;
    std::uint64_t has = 0, uses = 0;
    const CUdevice ordinal = limiter_.ordinal_of(device);
    read_attribute(ordinal, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, has);
    read_attribute(ordinal, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, uses);
    const std::uint64_t room = std::min(has, charged_[device]) - std::min({uses, has, charged_[device]});
    const std::uint64_t more = wanted[device] - std::min(wanted[device], room);
    if (!limiter_.reserve(device, more)) {
      for (unsigned each = 0; each < device; ++each)
        limiter_.release(each, reserved[each]);
      return limiter_.refuse(device, more);
    }
    reserved[device] = more;
  }
  return CUDA_SUCCESS;
}

// `reserved_by_us` bytes are held for the device, and not among what is charged.
void GraphBook::settle(unsigned device, std::uint64_t reserved_by_us) noexcept {
  const std::uint64_t have = charged_[device] + reserved_by_us;
  std::uint64_t now = have;
  if (have == 0 || !read_attribute(limiter_.ordinal_of(device), CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, now))
    now = have;
  if (now > have)
    limiter_.ledger().charge(device, now - have);
  if (now < have)
    limiter_.release(device, have - now);
  charged_[device] = now;
}

bool GraphBook::settle_all() noexcept {
  if (!expects_memory_.load(std::memory_order_relaxed))
    return false;
  const std::lock_guard guard(mutex_);
  bool refunded = false;
  for (unsigned device = 0; device < charged_.size(); ++device) {
    const std::uint64_t before = charged_[device];
    settle(device, 0);
    refunded = refunded || charged_[device] < before;
  }
  return refunded;
}

} // namespace aliquot::limiter
