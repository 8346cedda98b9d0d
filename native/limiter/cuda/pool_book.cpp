#include "native/limiter/cuda/pool_book.hpp"

#include <new>

#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"
#include "native/limiter/cuda/physical_size.hpp"

namespace aliquot::limiter {
namespace {

bool read_attribute(CUmemoryPool pool, CUmemPool_attribute attribute, std::uint64_t& bytes) noexcept {
  const InsideDriver inside;
  return driver().cuMemPoolGetAttribute(pool, attribute, &bytes) == CUDA_SUCCESS;
}

bool reserved_by(CUmemoryPool pool, std::uint64_t& bytes) noexcept {
  return read_attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, bytes);
}

} // namespace

PoolBook::Entry* PoolBook::entry(CUmemoryPool pool, unsigned device) noexcept {
  try {
    Entry& found = entries_.try_emplace(pool, Entry{device, 0}).first->second;
    any_.store(true, std::memory_order_relaxed);
    return &found;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

// Reserves for an allocation to come. Where the limit is reached, the pool may still have room of its own,
// which is paid for already; the driver decides, and `record` sees what it took.
bool PoolBook::admit(CUmemoryPool pool, const Entry& entry, std::uint64_t bytes,
                     std::uint64_t& reserved) noexcept {
  reserved = whole_blocks(bytes);
  if (limiter_.reserve(entry.device, reserved))
    return true;
  reserved = 0;
  std::uint64_t used = 0;
  if (!read_attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, used) || used > entry.charged ||
      entry.charged - used < bytes) {
    limiter_.refuse(entry.device, bytes);
    return false;
  }
  return true;
}

// Brings the charge to what the pool has reserved, `reserved_by_us` bytes of which are reserved but not yet
// charged.
CUresult PoolBook::adjust(CUmemoryPool pool, Entry& entry, std::uint64_t reserved_by_us) noexcept {
  const std::uint64_t have = entry.charged + reserved_by_us;
  std::uint64_t now = have;
  if (!reserved_by(pool, now))
    now = entry.charged;
  if (now > have && !limiter_.reserve(entry.device, now - have)) {
    limiter_.release(entry.device, reserved_by_us);
    return limiter_.refuse(entry.device, now - entry.charged);
  }
  if (now < have)
    limiter_.release(entry.device, have - now);
  entry.charged = now;
  return CUDA_SUCCESS;
}

CUresult PoolBook::record(CUmemoryPool pool, Entry& entry, std::uint64_t bytes, CUdeviceptr address,
                          std::uint64_t reserved) noexcept {
  Allocation allocation{address, reinterpret_cast<std::uint64_t>(pool), physical_size(bytes), entry.device,
                        Charge::Pool};
  std::uint64_t unused = 0;
  const bool pool_tells = reserved_by(pool, unused);
  if (!pool_tells) {
    allocation.charge = Charge::Single;
    allocation.bytes = reserved;
  }
  if (!limiter_.memory.insert(allocation)) {
    limiter_.release(entry.device, reserved);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  if (!pool_tells)
    return CUDA_SUCCESS; // what was reserved stays charged until this allocation is freed
  const CUresult result = adjust(pool, entry, reserved);
  if (result != CUDA_SUCCESS)
    limiter_.memory.take(address, allocation);
  return result;
}

// The pool had looked as if it had room of its own, and took more of the device all the same.
void PoolBook::give_back_surplus(CUmemoryPool pool, Entry& entry) noexcept {
  in_driver([&] { return driver().cuMemPoolTrimTo(pool, entry.charged); });
  settle_locked(pool, entry);
}

bool PoolBook::settle_locked(CUmemoryPool pool, Entry& entry) noexcept {
  std::uint64_t now = 0;
  if (entry.charged == 0 || !reserved_by(pool, now) || now >= entry.charged)
    return false;
  limiter_.release(entry.device, entry.charged - now);
  entry.charged = now;
  return true;
}

bool PoolBook::settle_all_locked() noexcept {
  bool refunded = false;
  for (auto& [pool, known] : entries_)
    refunded = settle_locked(pool, known) || refunded;
  return refunded;
}

void PoolBook::settle(CUmemoryPool pool) noexcept {
  const std::lock_guard guard(mutex_);
  if (const auto found = entries_.find(pool); found != entries_.end())
    settle_locked(pool, found->second);
}

bool PoolBook::settle_all() noexcept {
  if (!any_.load(std::memory_order_relaxed))
    return false;
  const std::lock_guard guard(mutex_);
  return settle_all_locked();
}

CUresult PoolBook::destroy(CUmemoryPool pool) noexcept {
  const std::lock_guard guard(mutex_);
  const CUresult result = in_driver([&] { return driver().cuMemPoolDestroy(pool); });
  if (result == CUDA_SUCCESS)
    close(pool);
  return result;
}

void PoolBook::close(CUmemoryPool pool) noexcept {
  const auto found = entries_.find(pool);
  if (found == entries_.end())
    return;
  const Entry closed = found->second;
  entries_.erase(found);
  if (closed.device == kNoDevice)
    return; // nothing was ever taken from it
  const BytesByDevice in_use = limiter_.memory.detach_from_pool(reinterpret_cast<std::uint64_t>(pool));
  const std::uint64_t bytes = in_use[closed.device];
  if (bytes < closed.charged)
    limiter_.release(closed.device, closed.charged - bytes);
  // Rounding can make the parts more than the whole; they are refunded one by one, so they are charged so.
  if (bytes > closed.charged)
    limiter_.ledger().charge(closed.device, bytes - closed.charged);
}

void PoolBook::learn(CUmemoryPool pool, unsigned device) noexcept {
  const std::lock_guard guard(mutex_);
  entry(pool, device);
}

bool PoolBook::device_of(CUmemoryPool pool, unsigned& device) noexcept {
  const std::lock_guard guard(mutex_);
  const auto found = entries_.find(pool);
  if (found == entries_.end())
    return false;
  device = found->second.device;
  return true;
}

} // namespace aliquot::limiter
