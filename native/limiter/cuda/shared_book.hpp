// What this process has exported to others, and what it has opened of theirs: IPC memory, pool pointers,
// exported cuMemCreate memory. Kept in the slice's account (region/shared_memory.hpp), found again here by
// address or handle.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

#include "native/limiter/region/shared_memory.hpp"

namespace aliquot::limiter {

class Limiter;

// A name that maker and opener of the same memory compute alike; never 0.
std::uint64_t shared_key(const void* handle, std::size_t bytes) noexcept;
// Of a file descriptor; 0 where the file behind it has no identity of its own.
std::uint64_t shared_key_of_file(int descriptor) noexcept;

class SharedBook {
 public:
  explicit SharedBook(Limiter& limiter) noexcept : limiter_(limiter) {}

  // `what` names it within this process: an address or a handle.
  void made(std::uint64_t what, std::uint64_t key, unsigned device, std::uint64_t bytes) noexcept;
  void opened(std::uint64_t what, std::uint64_t key, std::uint64_t context) noexcept;
  // It is freed, or closed as often as it was opened.
  void gone(std::uint64_t what) noexcept;
  void context_gone(std::uint64_t context) noexcept;

  bool any() const noexcept { return any_.load(std::memory_order_relaxed); }
  // What the driver may count to this process of memory that the slice is charged for otherwise.
  std::uint64_t opened_bytes(unsigned device) const noexcept;

 private:
  struct Entry {
    std::uint32_t index = kNoShared;
    unsigned count = 1;
    std::uint64_t context = 0;
  };

  void remember(std::uint64_t what, const SharedEntry& entry, std::uint64_t context) noexcept;
  void drop(const Entry& entry) noexcept;

  Limiter& limiter_;
  std::atomic<bool> any_{false};
  std::mutex mutex_;
  std::map<std::uint64_t, Entry> entries_;
};

} // namespace aliquot::limiter
