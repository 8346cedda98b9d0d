// Memory of the virtual memory management functions (cuMemCreate): charged when it is made, refunded when the
// last handle, the last mapping and all that it was exported as are gone. Memory that was imported is its
// maker's to pay for (shared_book.hpp).
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "aliquot/cuda_abi.h"

namespace aliquot::limiter {

class Limiter;

// These calls are rare and slow in the driver; one lock around each keeps the book in step with it.
class VirtualMemoryBook {
 public:
  explicit VirtualMemoryBook(Limiter& limiter) noexcept : limiter_(limiter) {}

  CUresult create(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                  const CUmemAllocationProp* properties, unsigned long long flags) noexcept;
  CUresult retain(CUmemGenericAllocationHandle* handle, void* address) noexcept;
  CUresult release(CUmemGenericAllocationHandle handle) noexcept;
  CUresult map(CUdeviceptr address, std::size_t bytes, std::size_t offset,
               CUmemGenericAllocationHandle handle, unsigned long long flags) noexcept;
  CUresult unmap(CUdeviceptr address, std::size_t bytes) noexcept;
  CUresult export_to(void* exported, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
                     unsigned long long flags) noexcept;
  CUresult import_from(CUmemGenericAllocationHandle* handle, void* exported,
                       CUmemAllocationHandleType type) noexcept;

 private:
  struct Memory {
    unsigned device = 0;
    std::uint64_t bytes = 0;
    std::uint64_t handles = 1;
    std::uint64_t mappings = 0;
    std::uint64_t number = 0; // by which the shared book knows it; 0: neither exported nor imported
    bool imported = false;
  };
  using Memories = std::map<CUmemGenericAllocationHandle, Memory>;

  void refund_if_gone(Memories::iterator memory) noexcept;
  std::uint64_t new_number() noexcept;
  Memories::iterator rename(Memories::iterator memory, CUmemGenericAllocationHandle handle);
  Memories::iterator mapped_at(CUdeviceptr address) noexcept;

  Limiter& limiter_;
  std::mutex mutex_;
  Memories memories_;
  std::map<CUdeviceptr, CUmemGenericAllocationHandle> mappings_; // by where they begin
  std::uint64_t next_number_ = 0;
  CUmemGenericAllocationHandle next_aside_ = ~CUmemGenericAllocationHandle{0};
};

} // namespace aliquot::limiter
