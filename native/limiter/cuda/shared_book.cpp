#include "native/limiter/cuda/shared_book.hpp"

#include <new>
#include <sys/stat.h>

#include "native/common/log.hpp"
#include "native/limiter/cuda/limiter.hpp"

namespace aliquot::limiter {

// FNV-1a (Fowler, Noll, Vo; RFC 9923), folded so that it is not 0. Who forges a collision harms his own
// slice.
std::uint64_t shared_key(const void* handle, std::size_t bytes) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (std::size_t i = 0; i < bytes; ++i)
    hash = (hash ^ static_cast<const unsigned char*>(handle)[i]) * 0x100000001B3u;
  return hash != 0 ? hash : 1;
}

// A descriptor of a device file says nothing of the memory behind it: all have the same inode.
std::uint64_t shared_key_of_file(int descriptor) noexcept {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0 || S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode))
    return 0;
  const std::uint64_t identity[] = {status.st_dev, status.st_ino};
  return shared_key(identity, sizeof identity);
}

void SharedBook::made(std::uint64_t what, std::uint64_t key, unsigned device, std::uint64_t bytes) noexcept {
  if (key != 0 && device < layout::kMaxDevices)
    remember(what, {limiter_.ledger().owner(), key, bytes, device}, 0);
}

// What nobody of this slice has made is somebody else's to pay for; once he is gone, the comparison with the
// driver's figure finds it.
void SharedBook::opened(std::uint64_t what, std::uint64_t key, std::uint64_t context) noexcept {
  SharedEntry entry;
  if (key != 0 && find_made(limiter_.region().account(), key, entry) &&
      entry.maker != limiter_.ledger().owner()) {
    remember(what, entry, context);
  }
}

void SharedBook::remember(std::uint64_t what, const SharedEntry& entry, std::uint64_t context) noexcept {
  const std::lock_guard guard(mutex_);
  try {
    const auto [at, fresh] = entries_.try_emplace(what);
    if (!fresh) {
      at->second.count += entry.maker == limiter_.ledger().owner() ? 0 : 1;
      return;
    }
    at->second.context = context;
    at->second.index = add_shared(limiter_.region().account(), limiter_.ledger().owner(), entry);
    if (at->second.index == kNoShared) {
      common::log_line(common::LogLevel::Warning,
                       "the slice shares more memory than it can keep account of (%u)", layout::kMaxShared);
    }
    any_.store(true, std::memory_order_relaxed);
  } catch (const std::bad_alloc&) { // as if it had not been shared: its maker goes on paying
  }
}

void SharedBook::gone(std::uint64_t what) noexcept {
  if (!any())
    return;
  const std::lock_guard guard(mutex_);
  const auto at = entries_.find(what);
  if (at == entries_.end() || --at->second.count != 0)
    return;
  drop(at->second);
  entries_.erase(at);
}

void SharedBook::context_gone(std::uint64_t context) noexcept {
  if (!any())
    return;
  const std::lock_guard guard(mutex_);
  for (auto at = entries_.begin(); at != entries_.end();) {
    if (at->second.context != context) {
      ++at;
      continue;
    }
    drop(at->second);
    at = entries_.erase(at);
  }
}

void SharedBook::drop(const Entry& entry) noexcept {
  remove_shared(limiter_.region().account(), entry.index, limiter_.ledger().owner());
}

std::uint64_t SharedBook::opened_bytes(unsigned device) const noexcept {
  return any() ? orphaned_bytes_of(limiter_.region().account(), device, limiter_.ledger().owner()) : 0;
}

} // namespace aliquot::limiter
