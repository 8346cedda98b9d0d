#include "native/simgpu/driver/core/host_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#ifdef __SANITIZE_ADDRESS__
extern "C" void __asan_get_shadow_mapping(std::size_t* scale, std::size_t* offset);
#endif

namespace aliquot::simgpu::driver {
namespace {

// The sanitizer's shadow is mapped, but nobody's memory.
bool is_shadow([[maybe_unused]] std::uintptr_t begin, [[maybe_unused]] std::uintptr_t end) noexcept {
#ifdef __SANITIZE_ADDRESS__
  constexpr std::uintptr_t user_end = std::uintptr_t{1} << 47;
  std::size_t scale = 0, offset = 0;
  __asan_get_shadow_mapping(&scale, &offset);
  return begin < offset + (user_end >> scale) && end > offset;
#else
  return false;
#endif
}

} // namespace

bool host_range_is_mapped(const void* pointer, std::size_t bytes) noexcept {
  static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(pointer) / page * page;
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  if (bytes > UINTPTR_MAX - address - page)
    return false;
  const std::uintptr_t end = (address + bytes + page - 1) / page * page;
  if (is_shadow(begin, end))
    return false;
  // MS_ASYNC does nothing but walk the mappings, and fails with ENOMEM at a hole: one cheap call whatever the
  // size.
  const int saved = errno;
  const bool mapped = msync(reinterpret_cast<void*>(begin), end - begin, MS_ASYNC) == 0;
  errno = saved;
  return mapped;
}

} // namespace aliquot::simgpu::driver
