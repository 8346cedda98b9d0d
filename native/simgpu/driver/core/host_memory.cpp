#include "native/simgpu/driver/core/host_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace aliquot::simgpu::driver {

bool host_range_is_mapped(const void* pointer, std::size_t bytes) noexcept {
  static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(pointer) / page * page;
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (bytes > UINTPTR_MAX - address - page)
    return false;
  const std::uintptr_t end = (address + bytes + page - 1) / page * page;
  // MS_ASYNC does nothing but walk the mappings, and fails with ENOMEM at a hole: one cheap call whatever the
  // size.
  const int saved = errno;
  const bool mapped = msync(reinterpret_cast<void*>(begin), end - begin, MS_ASYNC) == 0;
  errno = saved;
  return mapped;
}

} // namespace aliquot::simgpu::driver
