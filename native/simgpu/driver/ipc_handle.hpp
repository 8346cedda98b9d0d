// What the 64 bytes of a CUipcMemHandle, a CUipcEventHandle and a CUmemPoolPtrExportData hold. They come from
// other processes and are not trusted.
#pragma once

#include <cstdint>
#include <cstring>

#include "native/simgpu/driver/core/process_file.hpp"

namespace aliquot::simgpu::driver {

enum class IpcKind : std::uint32_t { Memory = 0x4d435049, Event = 0x45435049, PoolPointer = 0x50435049 };

struct IpcHandle {
  IpcKind kind = IpcKind::Memory;
  std::uint32_t checksum = 0; // tells a handle from noise; no protection against forgery
  ProcessFile file;
  std::uint64_t owner = 0;  // the machine's identity of the exporter
  std::uint64_t offset = 0; // in the file: of the first block, or of the event's state
  std::uint64_t bytes = 0;  // of the allocation
  std::uint32_t start = 0;  // of the allocation in its first block
  std::uint32_t card = 0;
  std::uint64_t id = 0; // of the allocation or event: a new one at the same place has another
};
static_assert(sizeof(IpcHandle) == 64);

inline std::uint32_t checksum_of(IpcHandle handle) noexcept {
  handle.checksum = 0;
  unsigned char bytes[sizeof handle];
  std::memcpy(bytes, &handle, sizeof handle);
  std::uint32_t hash = 2166136261u; // FNV-1a
  for (const unsigned char byte : bytes)
    hash = (hash ^ byte) * 16777619u;
  return hash;
}

inline void pack(IpcHandle handle, void* out) noexcept {
  handle.checksum = checksum_of(handle);
  std::memcpy(out, &handle, sizeof handle);
}

// False where `from` is no handle of this kind.
inline bool unpack(const void* from, IpcKind kind, IpcHandle& handle) noexcept {
  std::memcpy(&handle, from, sizeof handle);
  return handle.kind == kind && handle.checksum == checksum_of(handle);
}

} // namespace aliquot::simgpu::driver
