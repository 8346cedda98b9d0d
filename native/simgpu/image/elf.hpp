// As much of ELF as it takes to say what a cubin was compiled for.
#pragma once

#include <cstdint>
#include <cstring>

namespace aliquot::simgpu::image {

inline constexpr std::uint32_t kElfMagic = 0x464C457F;
inline constexpr std::size_t kElfHeader = 64;

// The architecture of a cubin ("sm_86" -> 86) from its ELF header; 0 where it is no cubin. ABI versions up to
// 7 keep it in the lowest byte of e_flags, version 8 (CUDA 13) in the next one.
inline std::uint32_t elf_sm(const std::uint8_t* header) noexcept {
  constexpr std::uint16_t kMachineCuda = 190;
  constexpr std::uint8_t kNewLayout = 8;
  std::uint16_t machine = 0;
  std::uint32_t flags = 0;
  std::memcpy(&machine, header + 18, sizeof machine);
  std::memcpy(&flags, header + 48, sizeof flags);
  if (machine != kMachineCuda)
    return 0;
  return (header[8] >= kNewLayout ? flags >> 8 : flags) & 0xFF;
}

} // namespace aliquot::simgpu::image
