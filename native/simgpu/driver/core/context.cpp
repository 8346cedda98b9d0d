#include "native/simgpu/driver/core/context.hpp"

#include <algorithm>
#include <cstdio>

#include "native/simgpu/driver/core/code.hpp"
#include "native/simgpu/driver/core/device_malloc_heap.hpp"
#include "native/simgpu/driver/core/driver.hpp"
#include "native/simgpu/driver/core/executor.hpp"
#include "native/simgpu/driver/graph/capture_rules.hpp"

namespace aliquot::simgpu::driver {
namespace {

std::uint64_t next_context_id() noexcept {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

} // namespace

exec::Range ContextMemory::find(std::uint64_t address) const noexcept {
  Driver& driver = Driver::instance();
  if (!driver.space.in_window(address))
    return driver.allocations.host_range(address);
  if (driver.space.is_reservable(address))
    return driver.space.find_mapped(address, card_);
  const std::uint32_t card = driver.space.card_of(address);
  if (card == card_)
    return driver.space.find(address);
  // A pool says itself which peers may touch its memory.
  const auto known = driver.allocations.find(address);
  const bool may = known && known->pool
                       ? (known->pool->peers.load(std::memory_order_relaxed) & bit(card_)) != 0
                       : (visible_cards_.load(std::memory_order_relaxed) & bit(card)) != 0;
  return may ? driver.space.find(address) : exec::Range{};
}

Context::Context(Device& device, unsigned flags_, bool primary)
    : flags(flags_), device_(device), id_(next_context_id()), primary_(primary), memory_(device.card),
      overhead_(device, Driver::instance().machine), fatals_seen_(device.last_fatal()) {
  // The limits of a fresh context on a card of this kind.
  limits = {{CU_LIMIT_STACK_SIZE, 1024},
            {CU_LIMIT_PRINTF_FIFO_SIZE, std::size_t{1} << 20},
            {CU_LIMIT_MALLOC_HEAP_SIZE, std::size_t{8} << 20},
            {CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH, 2},
            {CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT, 2048},
            {CU_LIMIT_MAX_L2_FETCH_GRANULARITY, 64},
            {CU_LIMIT_PERSISTING_L2_CACHE_SIZE, 0}};
}

std::shared_ptr<Context> Context::make(Device& device, unsigned flags, bool primary, CUresult& error) {
  Driver& driver = Driver::instance();
  error = CUDA_ERROR_DEVICE_UNAVAILABLE;
  if (driver.machine->open_context(device.card) != machine::Status::Ok)
    return nullptr;
  error = CUDA_ERROR_OUT_OF_MEMORY;
  auto context = std::make_shared<Context>(device, flags, primary);
  if (!context->charge_limits()) {
    driver.machine->close_context(device.card);
    return nullptr;
  }
  context->legacy_stream_ =
      std::make_unique<Stream>(context, Stream::Kind::Legacy, CU_STREAM_DEFAULT, kLeastPriority);
  return context;
}

bool Context::charge_limits() noexcept {
  const std::size_t stack = limits[CU_LIMIT_STACK_SIZE], printed = limits[CU_LIMIT_PRINTF_FIFO_SIZE];
  if (overhead_.resize(stack, printed))
    return true;
  Driver::instance().trim_pools();
  return overhead_.resize(stack, printed);
}

CUresult Context::failure() const noexcept {
  const int failure = failure_.load(std::memory_order_acquire);
  if (failure != CUDA_SUCCESS)
    return static_cast<CUresult>(failure);
  int error = device_.fatal_since(fatals_seen_), none = CUDA_SUCCESS;
  if (error != CUDA_SUCCESS && !failure_.compare_exchange_strong(none, error, std::memory_order_acq_rel))
    error = none;
  return static_cast<CUresult>(error);
}

void Context::fail(CUresult error) noexcept {
  int expected = CUDA_SUCCESS;
  failure_.compare_exchange_strong(expected, error, std::memory_order_acq_rel);
}

std::shared_ptr<Stream> Context::make_stream(Stream::Kind kind, unsigned stream_flags, int priority) {
  auto stream = std::make_shared<Stream>(shared_from_this(), kind, stream_flags, priority);
  const std::lock_guard guard(mutex_);
  std::erase_if(streams_, [this](const std::shared_ptr<Stream>& each) {
    const bool gone = each->destroyed && each->idle();
    if (gone && each->blocking())
      blocking_streams_.fetch_sub(1, std::memory_order_relaxed);
    return gone;
  });
  streams_.push_back(stream);
  if (stream->blocking())
    blocking_streams_.fetch_add(1, std::memory_order_release);
  return stream;
}

void Context::wait_for(const Dependency& gate) {
  const std::lock_guard guard(mutex_);
  gate_ = gate;
  gated_.store(true, std::memory_order_release);
}

void Context::add_gate(std::vector<Dependency>& waits_for) {
  std::shared_ptr<Stream> over; // its last owner may be the gate: not to be destroyed under the lock
  const std::lock_guard guard(mutex_);
  if (!gate_.stream)
    return;
  if (gate_.stream->completed() < gate_.sequence) {
    waits_for.push_back(gate_);
    return;
  }
  over.swap(gate_.stream);
  gated_.store(false, std::memory_order_release);
}

void Context::add_implicit_order(const Stream& stream, std::vector<Dependency>& waits_for) {
  if (gated_.load(std::memory_order_acquire))
    add_gate(waits_for);
  if (stream.kind() != Stream::Kind::Legacy) {
    if (stream.blocking() && !legacy_stream_->idle())
      waits_for.push_back({legacy_stream(), legacy_stream_->submitted()});
    return;
  }
  if (blocking_streams_.load(std::memory_order_acquire) == 0)
    return;
  const std::lock_guard guard(mutex_);
  for (const auto& each : streams_)
    if (each->blocking() && !each->idle())
      waits_for.push_back({each, each->submitted()});
}

std::vector<std::shared_ptr<Stream>> Context::streams() {
  const std::lock_guard guard(mutex_);
  std::vector<std::shared_ptr<Stream>> all = streams_;
  all.push_back(legacy_stream());
  return all;
}

void Context::synchronize() {
  for (const auto& stream : streams())
    Executor::instance().wait_idle(stream);
  flush_printf();
}

void Context::print(std::string_view text) noexcept try {
  std::size_t capacity = 0;
  {
    const std::lock_guard guard(limits_mutex);
    capacity = limits[CU_LIMIT_PRINTF_FIFO_SIZE];
  }
  const std::lock_guard guard(print_mutex_);
  printed_.append(text);
  // The card's buffer is a ring: what is not read in time is overwritten, oldest first.
  if (printed_.size() > capacity)
    printed_.erase(0, printed_.size() - capacity);
} catch (...) { // no memory to keep the text: a full buffer drops it, too
}

void Context::flush_printf() noexcept {
  std::string text;
  {
    const std::lock_guard guard(print_mutex_);
    if (printed_.empty())
      return;
    text.swap(printed_);
  }
  // The program's own stdout, through its own buffer, so that lines keep their order with printf's.
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

CUresult Context::make_malloc_heap() {
  const std::lock_guard guard(limits_mutex);
  if (malloc_heap() != nullptr)
    return CUDA_SUCCESS;
  Driver& driver = Driver::instance();
  Allocation allocation;
  allocation.bytes = std::max<std::uint64_t>(limits[CU_LIMIT_MALLOC_HEAP_SIZE], 1);
  if (allocation.bytes <= device_.model.vram_bytes)
    allocation.address = device_.heap.allocate(allocation.bytes);
  if (allocation.address == 0) // CUDA Programming Guide, "Dynamic Global Memory Allocation"
    return CUDA_ERROR_SHARED_OBJECT_INIT_FAILED;
  allocation.kind = MemoryKind::Module;
  allocation.card = device_.card;
  allocation.context_id = id_;
  allocation.context = handle;
  owned_malloc_heap_ = std::make_unique<DeviceMallocHeap>(allocation.address, allocation.bytes);
  driver.allocations.insert(std::move(allocation));
  malloc_heap_.store(owned_malloc_heap_.get(), std::memory_order_release);
  return CUDA_SUCCESS;
}

void Context::add_module(const std::shared_ptr<LoadedModule>& module) {
  const std::lock_guard guard(mutex_);
  modules_.push_back(module);
}

void Context::forget_module(const LoadedModule* module) noexcept {
  const std::lock_guard guard(mutex_);
  std::erase_if(modules_, [module](const auto& each) { return each.get() == module; });
}

void Context::storage_put(void* key, void* value, StorageDestructor destructor) {
  const std::lock_guard guard(storage_mutex_);
  storage_[key] = {value, destructor};
}

bool Context::storage_get(void* key, void** value) noexcept {
  const std::lock_guard guard(storage_mutex_);
  const auto at = storage_.find(key);
  if (at == storage_.end())
    return false;
  *value = at->second.value;
  return true;
}

bool Context::storage_erase(void* key) noexcept {
  const std::lock_guard guard(storage_mutex_);
  return storage_.erase(key) != 0;
}

void Context::run_storage_destructors() noexcept {
  std::unordered_map<void*, Stored> stored;
  {
    const std::lock_guard guard(storage_mutex_);
    stored.swap(storage_);
  }
  // In no particular order: no entry's owner knows of another's.
  // NOLINTNEXTLINE(bugprone-nondeterministic-pointer-iteration-order)
  for (const auto& [key, entry] : stored)
    if (entry.destructor != nullptr)
      entry.destructor(handle, key, entry.value);
}

void Context::destroy() noexcept try {
  run_storage_destructors();
  synchronize();
  Driver& driver = Driver::instance();
  std::vector<std::shared_ptr<LoadedModule>> modules;
  std::vector<std::shared_ptr<Stream>> streams;
  {
    const std::lock_guard guard(mutex_);
    modules.swap(modules_);
    streams.swap(streams_);
  }
  for (const auto& stream : streams)
    if (stream->capturing)
      leave_capture(*stream);
  for (const auto& module : modules)
    module->unload();
  for (const auto& stream : streams) {
    stream->destroyed = true;
    if (stream->handle != nullptr)
      driver.streams.erase(stream->handle);
  }
  driver.destroy_events_of(id_);
  driver.destroy_arrays_of(id_);
  for (const Allocation& allocation : driver.allocations.erase_all_of(id_))
    driver.give_back(allocation);
  legacy_stream_->destroyed = true;
  wait_for({}); // a gate would keep its stream, and that one the context
  overhead_.release();
  driver.machine->close_context(device_.card);
} catch (...) { // no memory for a list of what to free: the rest stays charged until the process ends
}

} // namespace aliquot::simgpu::driver
