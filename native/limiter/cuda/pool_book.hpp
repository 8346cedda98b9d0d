// What memory pools are charged: the bytes that each has reserved on its device, which is what its
// allocations really keep others from, whether the program uses them right now or not.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>

#include "aliquot/cuda_abi.h"
#include "native/limiter/cuda/memory_call.hpp"

namespace aliquot::limiter {

class Limiter;

class PoolBook {
 public:
  explicit PoolBook(Limiter& limiter) noexcept : limiter_(limiter) {}

  // Runs `call`, which takes `bytes` out of `pool`, within the limit. Where it succeeded, *address is
  // accounted. `undo` frees at once what `call` gave.
  template <typename Call, typename Undo>
  CUresult allocate(CUmemoryPool pool, unsigned device, std::uint64_t bytes, const CUdeviceptr* address,
                    Call call, Undo undo) noexcept;

  // Brings a pool's charge down to what it has reserved by now. settle_all is true where anything was
  // refunded.
  void settle(CUmemoryPool pool) noexcept;
  bool settle_all() noexcept;
  bool any() const noexcept { return any_.load(std::memory_order_relaxed); }

  // Nothing of the pools changes as long as it is held.
  std::unique_lock<std::recursive_mutex> hold() noexcept { return std::unique_lock(mutex_); }

  // After it, what is still in use goes on being charged, each by itself.
  CUresult destroy(CUmemoryPool pool) noexcept;
  // Pools of host memory take none of a device's; the program's own are learnt of when they are made.
  void learn(CUmemoryPool pool, unsigned device) noexcept;
  // False for a pool that is not on a device of the slice's, or that another process made.
  bool device_of(CUmemoryPool pool, unsigned& device) noexcept;

 private:
  struct Entry {
    unsigned device = 0;
    std::uint64_t charged = 0;
  };

  void close(CUmemoryPool pool) noexcept;
  Entry* entry(CUmemoryPool pool, unsigned device) noexcept;
  CUresult adjust(CUmemoryPool pool, Entry& entry, std::uint64_t reserved_by_us) noexcept;
  void give_back_surplus(CUmemoryPool pool, Entry& entry) noexcept;
  bool settle_locked(CUmemoryPool pool, Entry& entry) noexcept;
  bool settle_all_locked() noexcept;
  bool admit(CUmemoryPool pool, const Entry& entry, std::uint64_t bytes, std::uint64_t& reserved) noexcept;
  CUresult record(CUmemoryPool pool, Entry& entry, std::uint64_t bytes, CUdeviceptr address,
                  std::uint64_t reserved) noexcept;

  Limiter& limiter_;
  std::recursive_mutex mutex_;
  std::atomic<bool> any_{false};
  std::map<CUmemoryPool, Entry> entries_;
};

template <typename Call, typename Undo>
CUresult PoolBook::allocate(CUmemoryPool pool, unsigned device, std::uint64_t bytes,
                            const CUdeviceptr* address, Call call, Undo undo) noexcept {
  const MemoryCall under_way;
  const std::lock_guard guard(mutex_);
  Entry* known = entry(pool, device);
  if (known == nullptr)
    return CUDA_ERROR_OUT_OF_MEMORY;
  std::uint64_t reserved = 0;
  if (!admit(pool, *known, bytes, reserved))
    return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = call();
  if (result != CUDA_SUCCESS) {
    adjust(pool, *known, reserved);
    return result;
  }
  result = record(pool, *known, bytes, *address, reserved);
  if (result != CUDA_SUCCESS) {
    undo();
    give_back_surplus(pool, *known);
  }
  return result;
}

} // namespace aliquot::limiter
