// Fat-binary containers: a header, then entries of PTX or machine code for one architecture each.
//
// Layout as nvcc 12 and 13 write it (little-endian):
//   container  {u32 magic, u16 version 1, u16 header bytes 16, u64 bytes of all entries}
//   entry      {u16 kind, u16 0x101, u32 header bytes, u64 payload bytes, u32 compressed bytes, u32 options
//               offset, u16 minor, u16 major, u32 sm, u32 name offset, u32 name bytes, u64 flags, u64 zero,
//               u64 uncompressed bytes}, payload
#pragma once

#include <string>
#include <vector>

#include "native/simgpu/image/compression/decompress.hpp"
#include "native/simgpu/image/image.hpp"

namespace aliquot::simgpu::image {

inline constexpr std::uint32_t kContainerMagic = 0xBA55ED50;
inline constexpr std::size_t kContainerHeader = 16;
// No container or text is believed to be larger where nobody knows its true size.
inline constexpr std::uint64_t kLargestContainer = std::uint64_t{2} << 30;
inline constexpr std::uint64_t kLargestText = std::uint64_t{256} << 20;

// Size of a container, header included, from its 16-byte header; 0 where it is none.
std::uint64_t container_bytes(const std::uint8_t* header) noexcept;

// Adds the PTX that fits `sm` to `out`: one text, or all texts of a container made by pack_linked.
// Status::NoPtx where there is none; `out.cubin_sms` grows by the cubins that were passed over.
Status read_container(Bytes container, std::uint32_t sm, Contents& out);

} // namespace aliquot::simgpu::image
