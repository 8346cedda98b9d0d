#include "native/simgpu/driver/graph/graph_memory.hpp"

#include <algorithm>
#include <map>

#include "native/simgpu/driver/entry.hpp"

namespace aliquot::simgpu::driver {
namespace {

std::uint64_t blocks_of(std::uint64_t bytes) noexcept {
  return bytes / kBlockBytes + (bytes % kBlockBytes != 0 ? 1 : 0);
}

// By address; an allocation takes itself out when it goes.
struct Known {
  std::mutex mutex;
  std::map<std::uint64_t, std::weak_ptr<GraphAllocation>> by_address;
};

Known& known_allocations() noexcept {
  alignas(Known) static std::byte storage[sizeof(Known)];
  static auto* known = new (storage) Known; // never destroyed, as the driver
  return *known;
}

} // namespace

std::uint64_t GraphMemory::reserve_addresses(std::uint64_t bytes) {
  return space_.take_blocks(device_.card, blocks_of(bytes));
}

void GraphMemory::release_addresses(std::uint64_t address, std::uint64_t bytes) noexcept try {
  space_.give_back_blocks(address, blocks_of(bytes));
} catch (...) { // these addresses are not used again
}

bool GraphMemory::map(std::uint64_t address, std::uint64_t bytes) {
  const std::uint64_t wanted = blocks_of(bytes) * kBlockBytes;
  const std::lock_guard guard(mutex_);
  if (used_ + wanted > reserved_) {
    const std::uint64_t missing = used_ + wanted - reserved_;
    if (machine_->reserve(device_.card, missing) != machine::Status::Ok)
      return false;
    reserved_ += missing;
    reserved_high_ = std::max(reserved_high_, reserved_);
  }
  space_.publish_large(address, (bytes + kUnitBytes - 1) / kUnitBytes * kUnitBytes);
  used_ += wanted;
  used_high_ = std::max(used_high_, used_);
  return true;
}

void GraphMemory::unmap(std::uint64_t address, std::uint64_t bytes) noexcept {
  const std::uint64_t blocks = blocks_of(bytes);
  const std::lock_guard guard(mutex_);
  space_.withdraw(address, blocks);
  space_.discard(address, blocks * kBlockBytes);
  used_ -= blocks * kBlockBytes;
}

void GraphMemory::trim() noexcept {
  const std::lock_guard guard(mutex_);
  machine_->release(device_.card, reserved_ - used_);
  reserved_ = used_;
}

CUresult GraphMemory::get(CUgraphMem_attribute attribute, std::uint64_t& value) const {
  const std::lock_guard guard(mutex_);
  switch (attribute) {
  case CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT:
    value = used_;
    return CUDA_SUCCESS;
  case CU_GRAPH_MEM_ATTR_USED_MEM_HIGH:
    value = used_high_;
    return CUDA_SUCCESS;
  case CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT:
    value = reserved_;
    return CUDA_SUCCESS;
  case CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH:
    value = reserved_high_;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

// Set to zero, a mark begins anew at what is held now.
CUresult GraphMemory::set(CUgraphMem_attribute attribute, std::uint64_t value) {
  const std::lock_guard guard(mutex_);
  if (value != 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
    used_high_ = used_;
  else if (attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)
    reserved_high_ = reserved_;
  else
    return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

GraphMemory& graph_memory_of(Device& device) {
  static std::mutex mutex;
  static auto& all = *new std::map<const Device*, std::unique_ptr<GraphMemory>>; // as the devices: never gone
  const std::lock_guard guard(mutex);
  std::unique_ptr<GraphMemory>& memory = all[&device];
  if (!memory)
    memory = std::make_unique<GraphMemory>(device, Driver::instance().space, Driver::instance().machine);
  return *memory;
}

std::shared_ptr<GraphAllocation> GraphAllocation::make(Device& device, std::uint64_t bytes) {
  GraphMemory& memory = graph_memory_of(device);
  const std::uint64_t address = memory.reserve_addresses(bytes);
  if (address == 0)
    return nullptr;
  auto allocation = std::make_shared<GraphAllocation>(memory, address, bytes);
  Known& known = known_allocations();
  const std::lock_guard guard(known.mutex);
  known.by_address[address] = allocation;
  return allocation;
}

GraphAllocation::~GraphAllocation() {
  Known& known = known_allocations();
  {
    const std::lock_guard guard(known.mutex);
    known.by_address.erase(address);
  }
  if (uses_ != 0)
    memory_.unmap(address, bytes);
  memory_.release_addresses(address, bytes);
}

bool GraphAllocation::begin(const Context& context) {
  Allocations& allocations = Driver::instance().allocations;
  const std::lock_guard guard(mutex_);
  // A free that is under way finds that it is another's memory now, and leaves it be.
  static std::atomic<std::uint64_t> next_life{std::uint64_t{1} << 32};
  const bool goes_on = allocations.change(address, [&](Allocation& each) {
    if (each.graph.get() != this)
      return false;
    each.freeing = false;
    each.buffer_id = next_life.fetch_add(1, std::memory_order_relaxed);
    return true;
  });
  if (goes_on)
    return true;
  if (uses_ == 0 && !memory_.map(address, bytes))
    return false;
  ++uses_;
  Allocation entry;
  entry.address = address;
  entry.bytes = bytes;
  entry.kind = MemoryKind::Graph;
  entry.card = memory_.device().card;
  entry.context_id = context.id();
  entry.context = context.handle;
  entry.graph = shared_from_this();
  allocations.insert(std::move(entry));
  return true;
}

void GraphAllocation::end() noexcept {
  const std::lock_guard guard(mutex_);
  if (uses_ == 0)
    return;
  --uses_;
  if (uses_ == 0)
    memory_.unmap(address, bytes);
}

bool GraphAllocation::outstanding() const {
  const auto known = Driver::instance().allocations.find(address);
  return known && known->graph.get() == this && !known->freeing;
}

std::shared_ptr<GraphAllocation> find_graph_allocation(std::uint64_t address) {
  Known& known = known_allocations();
  const std::lock_guard guard(known.mutex);
  const auto at = known.by_address.find(address);
  return at == known.by_address.end() ? nullptr : at->second.lock();
}

bool in_graph_memory(std::uint64_t address) {
  Known& known = known_allocations();
  const std::lock_guard guard(known.mutex);
  auto at = known.by_address.upper_bound(address);
  if (at == known.by_address.begin())
    return false;
  const auto allocation = std::prev(at)->second.lock();
  return allocation && address - allocation->address < allocation->bytes;
}

} // namespace aliquot::simgpu::driver
