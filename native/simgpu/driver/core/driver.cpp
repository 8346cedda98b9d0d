#include "native/simgpu/driver/core/driver.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#include "native/common/log.hpp"
#include "native/simgpu/driver/core/array.hpp"
#include "native/simgpu/driver/core/code.hpp"
#include "native/simgpu/driver/core/executor.hpp"
#include "native/simgpu/driver/core/managed_ranges.hpp"
#include "native/simgpu/driver/core/visible_devices.hpp"
#include "native/simgpu/driver/graph/graph_memory.hpp"

namespace aliquot::simgpu::driver {
namespace {

std::atomic<int> current_status{CUDA_ERROR_NOT_INITIALIZED};
std::atomic<bool> forked{false};

// A child has none of our threads, and the memory and the place on the machine are its parent's.
void after_fork_in_child() noexcept {
  if (current_status.load() != CUDA_SUCCESS)
    return;
  forked = true;
  current_status = CUDA_ERROR_NOT_INITIALIZED;
}

void at_exit() noexcept {
  if (current_status.load() != CUDA_SUCCESS)
    return;
  current_status = CUDA_ERROR_DEINITIALIZED;
  Executor::instance().shut_down();
}

CUresult result_of(machine::Status status) noexcept {
  switch (status) {
  case machine::Status::Ok:
    return CUDA_SUCCESS;
  case machine::Status::OutOfVram:
  case machine::Status::OutOfHostBudget:
    return CUDA_ERROR_OUT_OF_MEMORY;
  case machine::Status::TooManyProcesses:
    return CUDA_ERROR_DEVICE_UNAVAILABLE;
  case machine::Status::BadSetting:
    return CUDA_ERROR_NO_DEVICE;
  case machine::Status::Unavailable:
    break;
  }
  return CUDA_ERROR_OPERATING_SYSTEM;
}

// What clients are told of a card, or of the instance of it that this process uses.
machine::Card facts_of(const machine::Machine& machine, const Visible& visible) {
  machine::Card facts = machine.cards()[visible.card];
  if (visible.instance) {
    facts.name = std::string(facts.model->name) + " MIG " + visible.instance->name + " (simulated)";
    std::memcpy(facts.uuid, visible.instance->uuid, sizeof facts.uuid);
  }
  return facts;
}

// CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: the part of the multiprocessors that a client of MPS may fill.
std::uint32_t client_sm_count(const machine::Machine& machine, std::uint32_t card, std::uint32_t sm_count) {
  const char* text = std::getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
  const double percent = text != nullptr && machine.mps_enabled(card) ? std::strtod(text, nullptr) : 0;
  if (!(percent > 0 && percent < 100))
    return sm_count;
  return std::max(1u, static_cast<std::uint32_t>(std::ceil(sm_count * percent / 100)));
}

machine::CardModel model_of(const machine::Machine& machine, const Visible& visible) {
  machine::CardModel model = *machine.cards()[visible.card].model;
  if (visible.instance) {
    const machine::MigProfile& profile = *visible.instance->gpu.profile;
    model.sm_count = visible.instance->sm_count;
    model.vram_bytes = profile.memory_bytes;
    model.l2_bytes = model.l2_bytes / model.mig_memory_slices * profile.memory_slices;
  }
  model.sm_count = client_sm_count(machine, visible.card, model.sm_count);
  return model;
}

} // namespace

std::uint64_t now_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000000000u + static_cast<std::uint64_t>(now.tv_nsec);
}

Driver& Driver::instance() noexcept {
  alignas(Driver) static std::byte storage[sizeof(Driver)];
  static auto* driver = new (storage) Driver; // never destroyed: threads may be inside at exit
  return *driver;
}

CUresult Driver::status() noexcept {
  return static_cast<CUresult>(current_status.load(std::memory_order_acquire));
}

CUresult Driver::initialise() noexcept {
  static std::mutex mutex;
  const CUresult before = status();
  if (before == CUDA_SUCCESS || before == CUDA_ERROR_DEINITIALIZED)
    return before;
  if (forked)
    return CUDA_ERROR_NOT_INITIALIZED;
  const std::lock_guard guard(mutex);
  if (status() == CUDA_SUCCESS)
    return CUDA_SUCCESS;
  const CUresult opened = instance().open();
  if (opened == CUDA_SUCCESS) {
    current_status = CUDA_SUCCESS;
    pthread_atfork(nullptr, nullptr, after_fork_in_child);
    std::atexit(at_exit);
  }
  return opened;
}

CUresult Driver::open() noexcept try {
  machine::Status status = machine::Status::Ok;
  std::string message;
  if (!machine)
    machine = machine::Machine::open(true, status, message);
  if (!machine) {
    common::log_line(common::LogLevel::Error, "%s", message.c_str());
    return result_of(status);
  }
  return devices.empty() ? add_devices() : CUDA_SUCCESS;
} catch (...) {
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult Driver::add_devices() {
  const std::vector<Visible> visible = visible_devices(*machine, std::getenv("CUDA_VISIBLE_DEVICES"));
  if (visible.empty())
    return CUDA_ERROR_NO_DEVICE;
  std::vector<std::uint64_t> card_bytes;
  for (const machine::Card& card : machine->cards())
    card_bytes.push_back(card.model->vram_bytes);
  if (!space.open(card_bytes)) {
    common::log_line(common::LogLevel::Error,
                     "this process may not reserve addresses for device memory (see ulimit -v)");
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  for (const Visible& each : visible) {
    if (each.instance && !machine->use_instance(each.card, *each.instance))
      return CUDA_ERROR_NO_DEVICE; // destroyed meanwhile
    auto device =
        std::make_unique<Device>(static_cast<int>(devices.size()), each.card, facts_of(*machine, each),
                                 model_of(*machine, each), space, machine);
    device->primary.handle = contexts.insert(nullptr);
    device->default_pool = std::make_shared<Pool>(*device, space, machine, true);
    device->default_pool->handle = pools.insert(device->default_pool);
    device->current_pool = device->default_pool;
    Executor::instance().watch(&device->engine);
    devices.push_back(std::move(device));
  }
  return CUDA_SUCCESS;
}

void Driver::give_back(const Allocation& allocation) noexcept {
  switch (allocation.kind) {
  case MemoryKind::Device:
  case MemoryKind::Module:
    for (const auto& device : devices)
      if (device->card == allocation.card)
        device->heap.free(allocation.address, allocation.bytes);
    break;
  case MemoryKind::Imported:
    break; // its ImportedMemory's
  case MemoryKind::Pool:
    if (!allocation.imported)
      allocation.pool->free(allocation.address, allocation.bytes);
    break;
  case MemoryKind::Graph:
    allocation.graph->end();
    break;
  case MemoryKind::Managed:
    ManagedRanges::instance().forget(allocation.address, allocation.bytes);
    [[fallthrough]];
  case MemoryKind::Pinned:
    munmap(reinterpret_cast<void*>(allocation.address), allocation.bytes);
    break;
  case MemoryKind::Mapped: // VirtualMemory's
  case MemoryKind::Registered:
    break; // the program's own
  }
}

void Driver::destroy_events_of(std::uint64_t context_id) {
  for (void* handle :
       events.handles_where([=](const Event& event) { return event.context->id() == context_id; }))
    events.erase(handle);
}

void Driver::destroy_arrays_of(std::uint64_t context_id) {
  for (void* handle : mipmapped_arrays.handles_where(
           [=](const MipmappedArray& each) { return each.context_id == context_id; }))
    mipmapped_arrays.erase(handle);
  for (void* handle : arrays.handles_where([=](const Array& each) { return each.context_id == context_id; }))
    arrays.erase(handle);
}

void Driver::trim_pools() noexcept try {
  for (void* handle : pools.handles_where([](const Pool& pool) { return pool.reserved() > 0; }))
    if (const auto pool = pools.find(handle))
      pool->release_above_threshold();
} catch (...) { // trimming is a favour: the pools keep their memory until the next time
}

} // namespace aliquot::simgpu::driver
