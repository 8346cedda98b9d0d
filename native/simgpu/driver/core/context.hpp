// A context: what belongs together, fails together and is freed together.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/context_overhead.hpp"
#include "native/simgpu/driver/core/device.hpp"
#include "native/simgpu/driver/core/stream.hpp"
#include "native/simgpu/exec/exec.hpp"

namespace aliquot::simgpu::driver {

class LoadedModule;

// What kernels of a context may touch: device memory of its card and of cards it has peer access to, and host
// memory that is pinned, registered or managed.
class ContextMemory final : public exec::Memory {
 public:
  explicit ContextMemory(std::uint32_t card) : card_(card), visible_cards_(bit(card)) {}
  exec::Range find(std::uint64_t address) const noexcept override;
  // False where it is so already.
  bool allow_peer(std::uint32_t card) noexcept {
    return (visible_cards_.fetch_or(bit(card)) & bit(card)) == 0;
  }
  bool forbid_peer(std::uint32_t card) noexcept {
    return (visible_cards_.fetch_and(~bit(card)) & bit(card)) != 0;
  }

 private:
  static std::uint64_t bit(std::uint32_t card) noexcept { return std::uint64_t{1} << (card % 64); }
  const std::uint32_t card_;
  std::atomic<std::uint64_t> visible_cards_;
};

class Context : public std::enable_shared_from_this<Context> {
 public:
  Context(Device& device, unsigned flags, bool primary);
  // Null where the card takes no context of this process: its compute mode, a fault, how it is divided.
  // Null and `error` where the card refuses, or has no room for a context.
  static std::shared_ptr<Context> make(Device& device, unsigned flags, bool primary, CUresult& error);
  // Waits for its work, then frees all that belongs to it. Its handle is the caller's to retire.
  void destroy() noexcept;

  Device& device() const noexcept { return device_; }
  std::uint64_t id() const noexcept { return id_; }
  bool primary() const noexcept { return primary_; }
  ContextMemory& memory() noexcept { return memory_; }

  // The sticky error: once a kernel has faulted, every later call returns it.
  // So it is once something happened to the card that ends its work.
  bool failed() const noexcept { return failure() != CUDA_SUCCESS; }
  CUresult failure() const noexcept;
  void fail(CUresult error) noexcept;

  std::shared_ptr<Stream> legacy_stream() noexcept { return {shared_from_this(), legacy_stream_.get()}; }
  std::shared_ptr<Stream> make_stream(Stream::Kind kind, unsigned flags, int priority);
  // What a command of `stream` must wait for by the rules of the legacy default stream.
  void add_implicit_order(const Stream& stream, std::vector<Dependency>& waits_for);
  // From now on all work of the context waits for this as well.
  void wait_for(const Dependency& gate);
  std::vector<std::shared_ptr<Stream>> streams();
  void synchronize();

  // Device printf: kept until a synchronisation, as on a card, and bounded.
  void print(std::string_view text) noexcept;
  void flush_printf() noexcept;

  // The heap of device malloc, made when the first module is loaded that calls it; null before that.
  exec::DeviceHeap* malloc_heap() const noexcept { return malloc_heap_.load(std::memory_order_acquire); }
  CUresult make_malloc_heap();

  void add_module(const std::shared_ptr<LoadedModule>& module);
  void forget_module(const LoadedModule* module) noexcept;

  // Context-local storage (an export table that libcudart and libraries use).
  using StorageDestructor = void (*)(CUcontext, void* key, void* value);
  void storage_put(void* key, void* value, StorageDestructor destructor);
  bool storage_get(void* key, void** value) noexcept;
  bool storage_erase(void* key) noexcept;

  CUcontext handle = nullptr;
  unsigned api_version = 0;
  std::atomic<unsigned> flags;
  std::atomic<int> cache_config{CU_FUNC_CACHE_PREFER_NONE};
  std::atomic<int> shared_config{0};
  // Streams that are capturing and that the legacy stream would wait for.
  std::atomic<unsigned> blocking_captures{0};
  std::mutex limits_mutex;
  std::map<int, std::size_t> limits;
  // Under the lock of the limits: charges what they cost now. False, and nothing changes, where they do not
  // fit.
  bool charge_limits() noexcept;

 private:
  struct Stored {
    void* value = nullptr;
    StorageDestructor destructor = nullptr;
  };
  void run_storage_destructors() noexcept;
  void add_gate(std::vector<Dependency>& waits_for);

  Device& device_;
  const std::uint64_t id_;
  const bool primary_;
  ContextMemory memory_;
  ContextOverhead overhead_;
  mutable std::atomic<int> failure_{CUDA_SUCCESS};
  mutable std::atomic<std::uint64_t> fatals_seen_;
  std::unique_ptr<Stream> legacy_stream_; // whoever holds it holds the context

  std::mutex mutex_; // guards streams_, modules_ and gate_
  std::vector<std::shared_ptr<Stream>> streams_;
  std::atomic<unsigned> blocking_streams_{0};
  Dependency gate_; // of wait_for; guarded by mutex_
  std::atomic<bool> gated_{false};
  std::vector<std::shared_ptr<LoadedModule>> modules_;

  std::mutex storage_mutex_;
  std::unordered_map<void*, Stored> storage_;

  std::unique_ptr<exec::DeviceHeap> owned_malloc_heap_;
  std::atomic<exec::DeviceHeap*> malloc_heap_{nullptr};

  std::mutex print_mutex_;
  std::string printed_;
};

} // namespace aliquot::simgpu::driver
